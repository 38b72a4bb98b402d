//! What exactly do operators consent to when it is done at the signer or at the offline root?
//!
//! No daemon sees to consents there. A step is the body of a request; the machine where it is taken
//! makes the same step of what it is asked to do, and compares.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::certificate::{Certificate, hex};
use crate::csr::CheckedCsr;
use crate::trust::{Draft, KeyId, TrustedRoot};

/// A step in the life of an issuing key, taken at the signer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", deny_unknown_fields)]
pub enum IssuingStep {
    /// There is no key yet; no other key will ever have this label.
    Prepare {
        label: String,
    },
    /// SHA-256 of the certificate, hexadecimal.
    Install {
        certificate: String,
    },
    /// SHA-256 of its subject public key info, hexadecimal, as in all that follows.
    Activate {
        key_id: String,
    },
    Taint {
        key_id: String,
    },
    Retire {
        key_id: String,
    },
}

/// A signature of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RootStep {
    /// An issuing certificate. Nothing of a request but its key goes into one.
    Sign {
        /// SHA-256 of the root's certificate, hexadecimal, as in all that follows.
        root: String,
        key_id: String,
        crl_base: Option<String>,
        /// Although there is a certificate for this key already.
        again: bool,
    },
    /// A revocation list.
    Crl {
        root: String,
        number: u64,
        /// Serial numbers that are newly on it, in order.
        revoke: Vec<String>,
        /// Of those; none if nothing is new.
        reason: Option<String>,
        next_days: u32,
    },
    /// The next list of trusted roots.
    Trust {
        root: String,
        sequence: u64,
        /// SHA-256 of the list, hexadecimal.
        list: String,
        /// What it says, for those who consent.
        roots: Vec<ListedRoot>,
        /// The ids of the keys that it denies.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        denied: Vec<String>,
        /// Although this root has signed another list of this sequence.
        again: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedRoot {
    pub root: String,
    pub state: String,
}

/// Anything that is consented to here and done elsewhere.
pub trait CeremonyStep: Serialize {
    /// Of the authority; its first word is the group in the policy.
    const VERB: &'static str;

    /// What is to be done, in a few words.
    fn words(&self) -> String;

    /// The command of the authority that asks for consents to exactly this.
    fn command(&self) -> String;

    /// As it stands in a request.
    fn body(&self) -> Value {
        serde_json::to_value(self).expect("a step is strings and numbers")
    }
}

impl CeremonyStep for IssuingStep {
    const VERB: &'static str = "issuing-step";

    fn words(&self) -> String {
        let (verb, what) = self.parts();
        format!("issuing {verb} of {what}")
    }

    fn command(&self) -> String {
        let (verb, what) = self.parts();
        format!("m2key-authority ceremony issuing {verb} {what}")
    }
}

impl IssuingStep {
    pub fn install(certificate: &Certificate) -> Self {
        Self::Install {
            certificate: hex(certificate.fingerprint().as_bytes()),
        }
    }

    /// Of the verb.
    pub fn name(&self) -> &'static str {
        self.parts().0
    }

    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Prepare { label } => ("prepare", label),
            Self::Install { certificate } => ("install", certificate),
            Self::Activate { key_id } => ("activate", key_id),
            Self::Taint { key_id } => ("taint", key_id),
            Self::Retire { key_id } => ("retire", key_id),
        }
    }
}

impl CeremonyStep for RootStep {
    const VERB: &'static str = "root-step";

    fn words(&self) -> String {
        match self {
            Self::Sign { root, key_id, .. } => format!("root sign of key {key_id} by {root}"),
            Self::Crl { root, number, .. } => format!("root crl {number} by {root}"),
            Self::Trust {
                root,
                sequence,
                list,
                ..
            } => format!("root trust sign of list {sequence} ({list}) by {root}"),
        }
    }

    fn command(&self) -> String {
        let begin = "m2key-authority ceremony root";
        let flag = |given: bool| if given { " --again" } else { "" };
        match self {
            Self::Sign {
                root,
                key_id,
                crl_base,
                again,
            } => {
                let base = crl_base.as_ref().map(|base| format!(" --crl-base {base}"));
                let (base, again) = (base.unwrap_or_default(), flag(*again));
                format!("{begin} sign {key_id} --root {root}{base}{again}")
            }
            Self::Crl {
                root,
                number,
                revoke,
                reason,
                next_days,
            } => {
                let revoke: String = revoke.iter().map(|it| format!(" --revoke {it}")).collect();
                let reason = reason.as_ref().map(|it| format!(" --reason {it}"));
                let reason = reason.unwrap_or_default();
                format!(
                    "{begin} crl --root {root} --number {number} --next-days {next_days}\
                     {revoke}{reason}"
                )
            }
            Self::Trust { root, again, .. } => {
                format!("{begin} trust DRAFT --root {root}{}", flag(*again))
            }
        }
    }
}

impl RootStep {
    /// The signature of `root` under the list in `draft`.
    pub fn trust(root: String, draft: &Draft, again: bool) -> Self {
        Self::Trust {
            root,
            sequence: draft.sequence(),
            list: hex(&draft.list_sha256()),
            roots: draft.roots().iter().map(ListedRoot::of).collect(),
            denied: draft.denied().keys().iter().map(KeyId::to_string).collect(),
            again,
        }
    }
}

/// How a root is named in a step.
pub fn root_name(root: &Certificate) -> String {
    hex(root.fingerprint().as_bytes())
}

/// How the key of an issuing CA is named in a step.
pub fn key_name(request: &CheckedCsr) -> String {
    hex(&request.spki_sha256())
}

impl ListedRoot {
    fn of(root: &TrustedRoot) -> Self {
        Self {
            root: root_name(&root.certificate),
            state: root.state.name().into(),
        }
    }
}
