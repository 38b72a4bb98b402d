//! Who uses the verbs here, where is their key, and what do they ask?
//!
//! ```text
//!  --as bob.toml with [authority] ─────────────────────────────▶ Asking: the daemon at this address
//!  authority.toml, and for another operator --as bob.toml ─────▶ Asking: the daemon of this folder
//! ```
//! The first needs nothing of the daemon's folder: an operator has an account of their own, so that
//! nobody else reads their key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pki::TrustDomain;
use serde::Deserialize;

use super::{Config, ConfigError, Mistake, TrustConfig, syntax};

/// The lists of roots, beside an operator's file, once the root was replaced.
const BUNDLE_NAME: &str = "trust.json";

/// All that a verb needs which asks the running daemon.
#[derive(Debug, Clone)]
pub struct Asking {
    pub trust: TrustConfig,
    pub operator: OperatorConfig,
    pub daemon: DaemonAt,
}

/// Where the daemon answers.
#[derive(Debug, Clone)]
pub enum DaemonAt {
    /// It leaves its address in this folder; its certificate has one of these names.
    Here {
        run_dir: PathBuf,
        names: Vec<String>,
    },
    /// `https://host:port`.
    There(String),
}

/// The file of one operator: certificate, key, and the authority if it is not the one of this folder.
#[derive(Debug, Clone)]
pub struct OperatorFile {
    pub operator: OperatorConfig,
    pub authority: Option<AuthorityAt>,
}

/// Another account's authority, as an operator sees it.
#[derive(Debug, Clone)]
pub struct AuthorityAt {
    pub address: String,
    pub trust: TrustConfig,
}

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

impl OperatorFile {
    /// A file with the keys of the section `[operator]`, and perhaps an `[authority]`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let mistake = Mistake {
                key: String::new(),
                problem: format!("the operator's file cannot be read ({error})"),
                hint: "make one with `m2key-authority operator request`".into(),
            };
            failed(path, mistake)
        })?;
        Self::parse(&text, path)
    }

    /// Reads `text` as the contents of the file at `path`, which is not looked at.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: RawFile = toml::from_str(text).map_err(|error| failed(path, syntax(&error)))?;
        let operator = RawOperator {
            certificate: raw.certificate,
            key: raw.key,
            pkcs11: raw.pkcs11,
        };
        if operator.has_two_keys() {
            let mistake = Mistake {
                key: "key".into(),
                problem: "the key is in two places".into(),
                hint: "either key = a file, or [pkcs11]".into(),
            };
            return Err(failed(path, mistake));
        }
        // The file, not its folder: of a bare file name that would be no path at all.
        let file = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let folder = file.parent().unwrap_or(Path::new("."));
        let authority = raw.authority.map(|authority| authority.resolve(folder));
        Ok(Self {
            operator: operator.resolve(folder),
            authority: authority.transpose().map_err(|m| failed(path, m))?,
        })
    }

    /// What to ask as this operator, if the file says all of it.
    pub fn asking(self) -> Option<Asking> {
        let AuthorityAt { address, trust } = self.authority?;
        Some(Asking {
            trust,
            operator: self.operator,
            daemon: DaemonAt::There(address),
        })
    }
}

impl From<Config> for Asking {
    fn from(config: Config) -> Self {
        Self {
            trust: config.trust,
            operator: config.operator,
            daemon: DaemonAt::Here {
                run_dir: config.run_dir,
                names: config.agents.names,
            },
        }
    }
}

/// `https://host:port` and nothing behind it.
pub fn check_address(url: &str) -> Result<String, Mistake> {
    let parsed = reqwest::Url::parse(url).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        url.scheme() == "https" && url.host().is_some() && plain && bare
    });
    match parsed {
        Some(_) => Ok(url.trim_end_matches('/').to_owned()),
        None => Err(Mistake {
            key: "authority.address".into(),
            problem: format!("{url:?} is not https://host:port"),
            hint: "the address of the listener for terminals and operators, such as \
                   https://agents.pay.example:8444"
                .into(),
        }),
    }
}

impl OperatorConfig {
    /// What the PKCS#11 module of the key needs; nothing for a key in a file.
    pub fn environment(&self) -> BTreeMap<String, String> {
        match &self.key {
            OperatorKeyPlace::File(_) => BTreeMap::new(),
            OperatorKeyPlace::Hsm(hsm) => hsm.environment.clone(),
        }
    }
}

fn failed(path: &Path, mistake: Mistake) -> ConfigError {
    ConfigError {
        path: path.into(),
        mistakes: vec![mistake],
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default = "certificate")]
    certificate: PathBuf,
    key: Option<PathBuf>,
    pkcs11: Option<OperatorHsm>,
    authority: Option<RawAuthority>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthority {
    address: String,
    root: PathBuf,
    #[serde(default = "bundle")]
    bundle: PathBuf,
    domain: String,
}

impl RawAuthority {
    fn resolve(self, folder: &Path) -> Result<AuthorityAt, Mistake> {
        let domain: TrustDomain = self.domain.parse().map_err(|_| Mistake {
            key: "authority.domain".into(),
            problem: "not a trust domain".into(),
            hint: "[trust] domain of the authority, e.g. \"pay.example\"".into(),
        })?;
        Ok(AuthorityAt {
            address: check_address(&self.address)?,
            trust: TrustConfig {
                domain,
                root: folder.join(self.root),
                // Only the daemon knows its signer.
                issuing: PathBuf::new(),
                bundle: folder.join(self.bundle),
            },
        })
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

fn bundle() -> PathBuf {
    BUNDLE_NAME.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SAMPLE: &str = include_str!("../../../config/operator.toml");

    fn parse(text: &str) -> Result<OperatorFile, ConfigError> {
        OperatorFile::parse(text, Path::new("/home/bob/m2key/bob.toml"))
    }

    fn load(text: &str) -> Result<OperatorConfig, ConfigError> {
        parse(text).map(|file| file.operator)
    }

    #[test]
    fn the_sample_file_needs_nothing_beside_it() {
        let asking = parse(SAMPLE).unwrap().asking().unwrap();
        assert!(matches!(asking.daemon, DaemonAt::There(url) if url.ends_with(":8444")));
        assert_eq!(asking.trust.root, Path::new("/home/bob/m2key/root.pem"));
    }

    #[test]
    fn an_address_that_is_not_one_and_a_bad_domain_are_named() {
        let bend = |from: &str, to: &str| {
            assert!(SAMPLE.contains(from));
            let error = parse(&SAMPLE.replace(from, to)).unwrap_err();
            error.mistakes[0].key.clone()
        };
        for address in ["http://agents", "https://user@agents", "https://agents/v1"] {
            assert_eq!(bend("https://agents", address), "authority.address");
        }
        assert_eq!(
            bend("\"pay.example\"", "\"Pay Example\""),
            "authority.domain"
        );
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
