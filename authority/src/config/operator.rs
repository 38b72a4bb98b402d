//! Who uses the verbs here, and where is their key?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{ConfigError, Mistake, syntax};

/// An operator's certificate and key.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    pub certificate: PathBuf,
    pub key: OperatorKeyPlace,
}

#[derive(Debug, Clone)]
pub enum OperatorKeyPlace {
    /// PKCS#8 PEM, mode 0600.
    File(PathBuf),
    /// An HSM token or a smart card.
    Hsm(OperatorHsm),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorHsm {
    pub module: PathBuf,
    pub token_label: String,
    pub key_label: String,
    pub pin_file: PathBuf,
    /// Set before the module is loaded, e.g. SOFTHSM2_CONF.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

impl OperatorConfig {
    /// One operator of several on a machine: a file with the keys of the section `[operator]`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |mistake| ConfigError {
            path: path.into(),
            mistakes: vec![mistake],
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            failed(Mistake {
                key: String::new(),
                problem: format!("the operator's file cannot be read ({error})"),
                hint: "make one with `m2key-authority operator request`".into(),
            })
        })?;
        let raw: RawOperator = toml::from_str(&text).map_err(|error| failed(syntax(&error)))?;
        if raw.has_two_keys() {
            return Err(failed(Mistake {
                key: "key".into(),
                problem: "the key is in two places".into(),
                hint: "either key = a file, or [pkcs11]".into(),
            }));
        }
        // The file, not its folder: of a bare file name that would be no path at all.
        let file = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let folder = file.parent().unwrap_or(Path::new("."));
        Ok(raw.resolve(folder))
    }

    /// What the PKCS#11 module of the key needs; nothing for a key in a file.
    pub fn environment(&self) -> BTreeMap<String, String> {
        match &self.key {
            OperatorKeyPlace::File(_) => BTreeMap::new(),
            OperatorKeyPlace::Hsm(hsm) => hsm.environment.clone(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOperator {
    #[serde(default = "certificate")]
    certificate: PathBuf,
    key: Option<PathBuf>,
    pkcs11: Option<OperatorHsm>,
}

impl RawOperator {
    pub(super) fn has_two_keys(&self) -> bool {
        self.key.is_some() && self.pkcs11.is_some()
    }

    pub(super) fn resolve(self, folder: &Path) -> OperatorConfig {
        let at = |path: PathBuf| folder.join(path);
        let key = match self.pkcs11 {
            Some(hsm) => OperatorKeyPlace::Hsm(OperatorHsm {
                module: at(hsm.module),
                pin_file: at(hsm.pin_file),
                ..hsm
            }),
            None => OperatorKeyPlace::File(at(self.key.unwrap_or_else(|| "operator.key".into()))),
        };
        OperatorConfig {
            certificate: at(self.certificate),
            key,
        }
    }
}

impl Default for RawOperator {
    fn default() -> Self {
        Self {
            certificate: certificate(),
            key: None,
            pkcs11: None,
        }
    }
}

fn certificate() -> PathBuf {
    "operator.pem".into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn load(text: &str) -> Result<OperatorConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bob.toml");
        std::fs::write(&path, text).unwrap();
        OperatorConfig::load(&path)
    }

    const CARD: &str = "[pkcs11]\nmodule = \"/usr/lib/card.so\"\ntoken_label = \"bob\"\n\
                        key_label = \"PIV AUTH key\"\npin_file = \"bob.pin\"\n";

    #[test]
    fn a_key_is_in_a_file_or_in_an_hsm_token() {
        let file = load("certificate = \"bob.pem\"\nkey = \"bob.key\"\n").unwrap();
        assert!(matches!(file.key, OperatorKeyPlace::File(path) if path.ends_with("bob.key")));
        let card = load(CARD).unwrap();
        assert!(matches!(card.key, OperatorKeyPlace::Hsm(hsm) if hsm.token_label == "bob"));
    }

    #[test]
    fn a_key_in_two_places_is_refused() {
        let error = load(&format!("key = \"bob.key\"\n{CARD}")).unwrap_err();
        assert_eq!(error.mistakes[0].problem, "the key is in two places");
    }
}
