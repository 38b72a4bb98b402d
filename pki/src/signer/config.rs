//! What does the signer need to be told?
//!
//! One TOML file. Unknown keys are refused, all mistakes are told at once, and paths that are not
//! absolute start at the file's own folder. `config/signer.full.toml` shows every key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hsm::{Module, OpenOptions, Pin, Pkcs11Hsm};
use serde::Deserialize;

use super::SignerError;
use crate::error::PkiError;
use crate::names::{BadName, TrustDomain};
use crate::profiles::CrlBase;
use crate::root::Consents;

/// Longest path of a Unix socket that every system takes (sun_path holds 108 bytes on Linux).
pub const SOCKET_PATH_MAX_BYTES: usize = 103;
/// Most accounts besides its own that may ask the signer.
const USERS_MAX: usize = 16;

/// A configuration whose rules hold; only [`SignerConfig::load`] and [`SignerConfig::parse`] make one.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    pub trust_domain: TrustDomain,
    /// PEM; an issuing certificate must hang on one of these.
    pub roots: PathBuf,
    /// Keys and their states, and the log of what was signed.
    pub state_dir: PathBuf,
    /// The two sockets.
    pub run_dir: PathBuf,
    pub access: Access,
    /// Where the revocation lists will be served, if certificates shall say so.
    pub crl_base: Option<CrlBase>,
    /// What operators must have agreed to before a step of `m2key-pki issuing`.
    pub consents: Consents,
    pub hsm: SignerHsm,
    pub log: SignerLog,
}

/// Who, besides the signer's own account, may ask for certificates.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Group of the authority's socket, by name or number.
    pub group: Option<String>,
    /// Accounts, by name or number.
    pub users: Vec<String>,
}

/// The HSM token of the issuing keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerHsm {
    pub module: PathBuf,
    pub token_label: String,
    pub pin_file: PathBuf,
    /// Set before the module is loaded, e.g. SOFTHSM2_CONF.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default = "one")]
    pub workers: usize,
    #[serde(default = "queue_max")]
    pub queue_max: usize,
    #[serde(default = "deadline_ms")]
    pub deadline_ms: u64,
}

/// What the process says while it runs; what it signed is in `state_dir`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignerLog {
    pub format: LogFormat,
    /// In the syntax of `RUST_LOG`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    trust_domain: String,
    #[serde(default = "roots")]
    roots: PathBuf,
    #[serde(default = "state_dir")]
    state_dir: PathBuf,
    #[serde(default = "run_dir")]
    run_dir: PathBuf,
    #[serde(default)]
    access: Access,
    crl_base: Option<String>,
    #[serde(default)]
    consents: Consents,
    hsm: SignerHsm,
    #[serde(default)]
    log: SignerLog,
}

impl SignerConfig {
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let text = std::fs::read_to_string(path).map_err(SignerError::io(path))?;
        Self::parse(&text, path)
    }

    /// Reads `text` as the contents of the file at `path`, which is not looked at.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PkiError> {
        let said = |what: String| SignerError::Configuration(format!("{}: {what}", path.display()));
        // What the TOML reader says, without repeating the file.
        let raw: Raw = toml::from_str(text).map_err(|error| said(error.message().into()))?;
        // The file, not its folder: of a bare file name that would be no path at all.
        let file = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let folder = file.parent().unwrap_or(Path::new("."));
        raw.check(folder).map_err(|all| said(all.join("; ")).into())
    }

    /// What the authority asks.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("signer.sock")
    }

    /// What an administrator asks.
    pub fn admin_socket(&self) -> PathBuf {
        self.run_dir.join("admin.sock")
    }

    /// Opens the HSM token. Blocks: call it while starting up, in a process that has the environment.
    pub fn open_hsm(&self) -> Result<Pkcs11Hsm, PkiError> {
        let hsm = &self.hsm;
        let module = Module::load(&hsm.module)?;
        let options = OpenOptions {
            workers: hsm.workers,
            queue_max: hsm.queue_max,
            deadline: Duration::from_millis(hsm.deadline_ms),
            ..OpenOptions::new(&hsm.token_label, Pin::from_file(&hsm.pin_file)?)
        };
        Ok(Pkcs11Hsm::open(&module, options)?)
    }
}

impl Raw {
    fn check(self, folder: &Path) -> Result<SignerConfig, Vec<String>> {
        let mut mistakes = Vec::new();
        let domain = self.trust_domain.parse::<TrustDomain>();
        if domain.is_err() {
            mistakes.push("trust_domain: 1 to 255 of a-z 0-9 . _ -, e.g. pay.example".into());
        }
        let crl_base = self.crl_base.as_deref().map(str::parse).transpose();
        let crl_base = crl_base.unwrap_or_else(|error: BadName| {
            mistakes.push(format!("crl_base: {error}: {}", error.hint()));
            None
        });
        self.hsm.check(&mut mistakes);
        self.consents.check("consents.", &mut mistakes);
        let run_dir = folder.join(self.run_dir);
        if run_dir.join("signer.sock").as_os_str().len() > SOCKET_PATH_MAX_BYTES {
            mistakes.push(format!(
                "run_dir: with signer.sock after it, it is longer than the {SOCKET_PATH_MAX_BYTES} \
                 bytes that a socket's path may have"
            ));
        }
        if self.access.users.len() > USERS_MAX {
            mistakes.push(format!("access.users: at most {USERS_MAX}"));
        }
        let (Ok(trust_domain), true) = (domain, mistakes.is_empty()) else {
            return Err(mistakes);
        };
        Ok(SignerConfig {
            trust_domain,
            roots: folder.join(self.roots),
            state_dir: folder.join(self.state_dir),
            run_dir,
            access: self.access,
            crl_base,
            consents: self.consents,
            hsm: SignerHsm {
                module: folder.join(self.hsm.module),
                pin_file: folder.join(self.hsm.pin_file),
                ..self.hsm
            },
            log: self.log,
        })
    }
}

impl SignerHsm {
    fn check(&self, mistakes: &mut Vec<String>) {
        let numbers = [
            (
                "hsm.workers",
                self.workers as u64,
                1,
                hsm::WORKERS_MAX as u64,
            ),
            (
                "hsm.queue_max",
                self.queue_max as u64,
                1,
                hsm::QUEUE_MAX as u64,
            ),
            ("hsm.deadline_ms", self.deadline_ms, 10, 60_000),
        ];
        for (key, value, min, max) in numbers {
            if !(min..=max).contains(&value) {
                mistakes.push(format!("{key}: {value} is out of range, {min} to {max}"));
            }
        }
    }
}

impl Default for SignerLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            filter: "info".into(),
        }
    }
}

fn roots() -> PathBuf {
    "roots.pem".into()
}

fn state_dir() -> PathBuf {
    "state".into()
}

fn run_dir() -> PathBuf {
    "run".into()
}

fn one() -> usize {
    1
}

fn queue_max() -> usize {
    1024
}

fn deadline_ms() -> u64 {
    5_000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINIMAL: &str = include_str!("../../../config/signer.toml");
    const FULL: &str = include_str!("../../../config/signer.full.toml");

    fn parse(text: &str) -> Result<SignerConfig, PkiError> {
        SignerConfig::parse(text, Path::new("/etc/m2key/signer/signer.toml"))
    }

    #[test]
    fn the_sample_files_hold_and_the_full_one_shows_the_defaults() {
        let (minimal, full) = (parse(MINIMAL).unwrap(), parse(FULL).unwrap());
        assert_eq!(minimal.roots, full.roots);
        assert_eq!(minimal.state_dir, full.state_dir);
        assert_eq!(minimal.run_dir, full.run_dir);
        assert_eq!(minimal.consents, full.consents);
        assert_eq!(minimal.hsm.workers, full.hsm.workers);
        assert_eq!(minimal.hsm.queue_max, full.hsm.queue_max);
        assert_eq!(minimal.hsm.deadline_ms, full.hsm.deadline_ms);
        assert_eq!(minimal.log.filter, full.log.filter);
    }

    #[test]
    fn a_bare_file_name_is_one_of_the_current_folder() {
        let config = SignerConfig::parse(MINIMAL, Path::new("signer.toml")).unwrap();
        assert!(config.roots.is_absolute() && config.state_dir.is_absolute());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = FULL
            .replace("\"pay.example\"", "\"Pay Example\"")
            .replace("http://pay", "ftp://pay")
            .replace("workers = 1", "workers = 0")
            .replace("deadline_ms = 5000", "deadline_ms = 1")
            .replace("required = 0", "required = 16")
            .replace(
                "run_dir = \"run\"",
                &format!("run_dir = \"{}\"", "r".repeat(100)),
            );
        let said = parse(&text).unwrap_err().to_string();
        for key in [
            "crl_base: ",
            "trust_domain: ",
            "hsm.workers: ",
            "hsm.deadline_ms: ",
            "run_dir: ",
            "consents.required: ",
        ] {
            assert!(said.contains(key), "{said}");
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_refused_by_name() {
        let said = parse(&FULL.replace("queue_max", "queue_maxx")).unwrap_err();
        assert!(said.to_string().contains("queue_maxx"), "{said}");
    }
}
