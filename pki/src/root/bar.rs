//! How many operators must consent before this root signs, and who counts as one?
//!
//! ```text
//!   <dir>/consents.toml   how many, and who (`config/consents.full.toml` shows every key)
//!         ceremony.log    which transcripts were used, which issuing keys were compromised
//! ```
//! An offline machine has no list of revoked operators; it has its own clock, and what it signed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ceremony::{CERTIFICATE_FILE, ISSUING_SIGNED, REVOKED, is_compromise};
use super::{BadCeremony, Ceremony};
use crate::certificate::{Certificate, hex};
use crate::chain::certificates_from_pem;
use crate::consent::clear::clear;
use crate::consent::policy::REQUIRED_MAX;
use crate::consent::{Bar, CeremonyStep, Cleared, IssuingKeys, Warrant};
use crate::error::PkiError;
use crate::files;

/// In the directory of a root.
pub const CONSENTS_FILE: &str = "consents.toml";
/// Most operators that are listed by name.
const OPERATORS_MAX: usize = 64;

const REQUIRED_CHANGED: &str = "consents-required";
const REQUEST: &str = "request";

/// What a machine is told about consents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consents {
    /// How many operators must consent besides the one who asks.
    pub required: u32,
    /// Operators who count, and SHA-256 of their keys; empty: every operator of the roots.
    pub operators: BTreeMap<String, String>,
}

/// The same, of a root.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RootConsents {
    required: u32,
    operators: BTreeMap<String, String>,
    /// PEM; where operators' certificates lead to, if not to this root.
    roots: Option<PathBuf>,
}

impl Consents {
    /// What is wrong with it, under the name `key`.
    pub(crate) fn check(&self, key: &str, mistakes: &mut Vec<String>) {
        if self.required > REQUIRED_MAX {
            mistakes.push(format!("{key}required: at most {REQUIRED_MAX}"));
        }
        if self.operators.len() > OPERATORS_MAX {
            mistakes.push(format!("{key}operators: at most {OPERATORS_MAX}"));
        }
        for (name, id) in &self.operators {
            if id.len() != 64 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                mistakes.push(format!(
                    "{key}operators.{name}: the SHA-256 of a key has 64 digits of 0-9 a-f"
                ));
            }
        }
        if !self.operators.is_empty() && self.operators.len() < self.required as usize + 1 {
            mistakes.push(format!(
                "{key}operators: {} are listed, and {} must consent besides the one who asks",
                self.operators.len(),
                self.required
            ));
        }
    }
}

impl Ceremony {
    /// Whether enough operators consented to `step` for this root.
    pub fn clear<S: CeremonyStep>(
        &self,
        step: &S,
        transcript: Option<&str>,
    ) -> Result<Cleared, PkiError> {
        Ok(clear(step, transcript, &self.bar()?)?)
    }

    /// The same before a signature; a number that somebody changed is noted in the log.
    pub(super) fn clear_now<S: CeremonyStep>(
        &mut self,
        step: &S,
        transcript: Option<&str>,
    ) -> Result<Vec<(&'static str, String)>, PkiError> {
        let cleared = self.clear(step, transcript)?;
        self.note_required()?;
        Ok(cleared.warrant().map(facts).unwrap_or_default())
    }

    fn bar(&self) -> Result<Bar, PkiError> {
        let consents = self.consents()?;
        let own = self.at(CERTIFICATE_FILE);
        let roots = consents.roots.as_ref().map(|path| self.at(path));
        let pem = files::read_public(&roots.unwrap_or(own))?;
        Ok(Bar {
            required: consents.required,
            roots: certificates_from_pem(&String::from_utf8_lossy(&pem))?,
            issuing: Vec::new(),
            domain: None,
            now: self.now(),
            issuing_keys: IssuingKeys::AllBut(self.compromised()?),
            operators: consents.operators,
            revoked: BTreeSet::new(),
            used: self.used(),
        })
    }

    fn consents(&self) -> Result<RootConsents, PkiError> {
        let path = self.at(CONSENTS_FILE);
        if !path.exists() {
            return Ok(RootConsents::default());
        }
        let text = files::read_public(&path)?;
        read(&String::from_utf8_lossy(&text)).map_err(|detail| {
            let file = path.display().to_string();
            BadCeremony::Consents { file, detail }.into()
        })
    }

    /// Issuing keys that this root revoked because others may have them: as the revocation names the
    /// key, as the signature did, or as the copy of the certificate has it.
    fn compromised(&self) -> Result<BTreeSet<String>, PkiError> {
        let mut keys = BTreeSet::new();
        for entry in self.steps_of(REVOKED).filter(|entry| is_compromise(entry)) {
            let serial = entry.fact("serial").unwrap_or_default();
            let signed = self.steps_of(ISSUING_SIGNED);
            let signed = signed.filter(|it| it.fact("serial") == Some(serial));
            let named = signed.chain([entry]).filter_map(|it| it.fact("key"));
            keys.extend(named.map(str::to_owned));
            let kept = self.kept(serial)?;
            if kept.exists() {
                keys.insert(hex(&Certificate::load(&kept)?.spki_sha256()));
            }
        }
        Ok(keys)
    }

    fn used(&self) -> BTreeSet<String> {
        let requests = self.entries().filter_map(|entry| entry.fact(REQUEST));
        requests.map(str::to_owned).collect()
    }

    /// Whoever lowers the number, signs, and raises it again, leaves lines; so does another operator's
    /// key, or another root for a while.
    fn note_required(&mut self) -> Result<(), PkiError> {
        let (number, digest) = self.fingerprint_of_consents()?;
        let last = self.steps_of(REQUIRED_CHANGED).last();
        let same = match last {
            Some(entry) => entry.fact("sha256") == Some(&digest),
            None => !self.at(CONSENTS_FILE).exists(),
        };
        match same {
            true => Ok(()),
            false => self.note(
                REQUIRED_CHANGED,
                &[("number", &number.to_string()), ("sha256", &digest)],
            ),
        }
    }

    /// The number, and the hash of all that is said about consents here.
    fn fingerprint_of_consents(&self) -> Result<(u32, String), PkiError> {
        let (consents, path) = (self.consents()?, self.at(CONSENTS_FILE));
        let mut hash = Sha256::new();
        if path.exists() {
            hash.update(files::read_public(&path)?);
        }
        if let Some(roots) = &consents.roots {
            hash.update(files::read_public(&self.at(roots))?);
        }
        Ok((consents.required, hex(&hash.finalize())))
    }
}

fn read(text: &str) -> Result<RootConsents, String> {
    let raw: RootConsents = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut mistakes = Vec::new();
    let consents = Consents {
        required: raw.required,
        operators: raw.operators.clone(),
    };
    consents.check("", &mut mistakes);
    match mistakes.is_empty() {
        true => Ok(raw),
        false => Err(mistakes.join("; ")),
    }
}

/// As they stand in the log.
fn facts(warrant: &Warrant) -> Vec<(&'static str, String)> {
    vec![
        (REQUEST, warrant.request_sha256.clone()),
        ("asked-by", warrant.asked_by.clone()),
        ("consented", warrant.consented.join(",")),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    const FULL: &str = include_str!("../../../config/consents.full.toml");

    #[test]
    fn the_sample_file_holds() {
        let full = read(FULL).unwrap();
        assert_eq!(full.operators.len(), 3);
        assert_eq!(full.roots.unwrap(), Path::new("operators-roots.pem"));
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_unknown_keys_by_name() {
        let text = FULL.replace("required = 1", "required = 16");
        let said = read(&text.replace("3f9a", "3F9A")).unwrap_err();
        for key in ["required: at most 15", "operators.ann: ", "3 are listed"] {
            assert!(said.contains(key), "{said}");
        }
        let said = read("require = 1").unwrap_err();
        assert!(said.contains("require"), "{said}");
    }
}
