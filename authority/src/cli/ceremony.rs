//! `m2key-authority ceremony …`: how do several operators agree to what is done at the signer or at the
//! offline root?
//!
//! Nothing is done here: a request for exactly one step is signed and left with the daemon for others
//! to consent to. Its transcript is shown where the step is taken.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand};
use pki::consent::step::{key_name, root_name};
use pki::consent::{CeremonyStep, IssuingStep, RootStep};
use pki::crl::Reason;
use pki::profiles::CrlBase;
use pki::trust::Draft;
use pki::{Certificate, PkiError, csr};
use serde::Serialize;

use super::consent::requested;
use super::daemon::Desk;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::operators::RequestView;

#[derive(Debug, Clone, Subcommand)]
pub(super) enum Verb {
    /// A step of an issuing key, for `m2key-pki issuing … --transcript`
    #[command(subcommand)]
    Issuing(Issuing),
    /// A signature of a root, for `m2key-pki root … --transcript`
    #[command(subcommand)]
    Root(Root),
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum Issuing {
    /// To make the next issuing key
    Prepare {
        /// What it will be called, as `m2key-pki issuing prepare --dry-run` says
        label: String,
    },
    /// To take the certificate that the root signed
    Install {
        /// The certificate, or its SHA-256
        #[arg(value_name = "FILE|SHA256")]
        certificate: Named,
    },
    /// To issue under a key from now on
    Activate(Key),
    /// To believe nothing any more that a key issued
    Taint(Key),
    /// To destroy a key
    Retire(Key),
}

#[derive(Debug, Clone, Args)]
pub(super) struct Key {
    /// The `key id` that `m2key-pki issuing list` shows
    key_id: Named,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum Root {
    /// To sign an issuing certificate
    Sign {
        /// The request of the issuing CA, or SHA-256 of its key
        #[arg(value_name = "FILE|SHA256")]
        request: Named,
        #[command(flatten)]
        by: By,
        /// As `m2key-pki root sign` will be told
        #[arg(long, value_name = "URL")]
        crl_base: Option<CrlBase>,
        /// Although there is a certificate for this key already
        #[arg(long)]
        again: bool,
    },
    /// To sign a revocation list
    Crl {
        #[command(flatten)]
        by: By,
        /// The number of the list, as `m2key-pki root crl --dry-run` says
        #[arg(long)]
        number: u64,
        /// The serial number of an issuing certificate that is newly on it
        #[arg(long, value_name = "SERIAL")]
        revoke: Vec<String>,
        /// Why
        #[arg(long, default_value_t = Reason::CaCompromise)]
        reason: Reason,
        /// The next list comes within so many days
        #[arg(long, value_name = "DAYS", default_value_t = 180)]
        next_days: u32,
    },
    /// To sign the next list of trusted roots
    Trust {
        /// The draft that `m2key-pki root trust` made
        draft: PathBuf,
        #[command(flatten)]
        by: By,
        /// Although this root has signed another list of this sequence
        #[arg(long)]
        again: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct By {
    /// The root that signs: its certificate, or its fingerprint
    #[arg(long, value_name = "FILE|FINGERPRINT")]
    root: Named,
}

/// A file, or the SHA-256 that it would come to.
#[derive(Debug, Clone)]
pub(super) struct Named(String);

/// A request that waits for consents, and what becomes of it.
#[derive(Debug, Serialize)]
struct Wanted {
    request: RequestView,
    /// Where the step is taken.
    there: &'static str,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb.clone() {
        Verb::Issuing(verb) => ask(arguments, &verb.step()?, "the signer: m2key-pki issuing"),
        Verb::Root(verb) => ask(arguments, &verb.step()?, "the root: m2key-pki root"),
    }
}

/// Whatever the policy here needs: how many are needed there, this machine does not know.
fn ask<S: CeremonyStep>(
    arguments: &Arguments,
    step: &S,
    there: &'static str,
) -> Result<(), CliError> {
    let desk = Desk::open(arguments)?;
    let request = desk.run(requested(&desk, S::VERB, step.body()))?;
    tell(arguments, &Wanted { request, there });
    Ok(())
}

impl Issuing {
    fn step(self) -> Result<IssuingStep, CliError> {
        Ok(match self {
            Self::Prepare { label } => IssuingStep::Prepare { label },
            Self::Install { certificate } => match certificate.file() {
                Some(path) => IssuingStep::install(&Certificate::load(path)?),
                None => IssuingStep::Install {
                    certificate: certificate.sha256()?,
                },
            },
            Self::Activate(Key { key_id }) => IssuingStep::Activate {
                key_id: key_id.sha256()?,
            },
            Self::Taint(Key { key_id }) => IssuingStep::Taint {
                key_id: key_id.sha256()?,
            },
            Self::Retire(Key { key_id }) => IssuingStep::Retire {
                key_id: key_id.sha256()?,
            },
        })
    }
}

impl Root {
    fn step(self) -> Result<RootStep, CliError> {
        Ok(match self {
            Self::Sign {
                request,
                by,
                crl_base,
                again,
            } => RootStep::Sign {
                root: by.name()?,
                key_id: match request.file() {
                    Some(path) => key_of(path)?,
                    None => request.sha256()?,
                },
                crl_base: crl_base.map(|base| base.to_string()),
                again,
            },
            Self::Crl {
                by,
                number,
                mut revoke,
                reason,
                next_days,
            } => {
                revoke.sort_unstable();
                RootStep::Crl {
                    root: by.name()?,
                    number,
                    reason: (!revoke.is_empty()).then(|| reason.name().to_owned()),
                    revoke,
                    next_days,
                }
            }
            Self::Trust { draft, by, again } => {
                RootStep::trust(by.name()?, &Draft::load(&draft)?, again)
            }
        })
    }
}

fn key_of(request: &Path) -> Result<String, CliError> {
    let request = pki::read_public(request)?;
    let request = csr::check(&request).map_err(PkiError::from)?;
    Ok(key_name(&request))
}

impl By {
    fn name(&self) -> Result<String, CliError> {
        match self.root.file() {
            Some(path) => Ok(root_name(&Certificate::load(path)?)),
            None => self.root.sha256(),
        }
    }
}

impl FromStr for Named {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl Named {
    fn file(&self) -> Option<&Path> {
        let path = Path::new(&self.0);
        path.exists().then_some(path)
    }

    /// 64 digits, however they are grouped.
    fn sha256(&self) -> Result<String, CliError> {
        let grouping = |c: &char| !c.is_whitespace() && *c != ':';
        let digits: String = self.0.chars().filter(grouping).collect();
        let digits = digits.to_ascii_lowercase();
        match digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => Ok(digits),
            false => Err(CliError::new(
                Exit::Usage,
                format!("{:?} is no file here, and no SHA-256 of 64 digits", self.0),
                "take it from what --dry-run says at the signer or at the root",
            )),
        }
    }
}

impl Say for Wanted {
    fn say(&self) -> String {
        let RequestView {
            id,
            required,
            consented,
            expires_at,
            ..
        } = &self.request;
        let others = match required {
            0 => String::new(),
            _ => {
                format!("another operator: m2key-authority consent sign {id}\nwith enough of them ")
            }
        };
        format!(
            "request {id} has {} of {required} consents, until {expires_at}; nothing is done here\n\
             {others}you, for the record: m2key-authority consent carry-out {id}\n\
             then: m2key-authority consent transcript {id} > transcript.json\n\
             and at {} … --transcript transcript.json",
            consented.len(),
            self.there
        )
    }
}
