//! Where does the root's key lie, as a command line says it?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use hsm::{KeyLabel, Module, OpenOptions, Pin, Pkcs11Hsm};
use pki::root::KeyPlace;
use pki::{Passphrase, PkiError};

/// The file of a root key within the directory of its root.
const KEY_FILE: &str = "root.key";

#[derive(Args)]
pub(crate) struct KeyArguments {
    /// The key is in root.key; the first line of this file is its passphrase
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "token",
        required_unless_present = "token"
    )]
    passphrase_file: Option<PathBuf>,
    /// The key is in the HSM token of this label
    #[arg(long, value_name = "LABEL", requires = "pin_file")]
    token: Option<String>,
    /// The file with the PIN of that HSM token
    #[arg(long, value_name = "FILE", requires = "token")]
    pin_file: Option<PathBuf>,
    /// The PKCS#11 module of that HSM token
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/usr/lib/softhsm/libsofthsm2.so"
    )]
    module: PathBuf,
    /// The label of the key in that HSM token
    #[arg(long, value_name = "LABEL", default_value = "m2key-root-1")]
    key_label: String,
}

impl KeyArguments {
    /// Reads the passphrase, or opens the HSM token, which blocks. `dir` is that of the root.
    pub(crate) fn place(&self, dir: &Path) -> Result<KeyPlace, PkiError> {
        if let (Some(token), Some(pin_file)) = (&self.token, &self.pin_file) {
            return self.in_token(token, pin_file);
        }
        let passphrase_file = self.passphrase_file.as_deref();
        let passphrase_file = passphrase_file.expect("clap demands a passphrase or an HSM token");
        Ok(KeyPlace::File {
            path: dir.join(KEY_FILE),
            passphrase: Passphrase::from_file(passphrase_file)?,
        })
    }

    fn in_token(&self, token: &str, pin_file: &Path) -> Result<KeyPlace, PkiError> {
        let module = Module::load(&self.module)?;
        let options = OpenOptions::new(token, Pin::from_file(pin_file)?);
        Ok(KeyPlace::Hsm {
            hsm: Arc::new(Pkcs11Hsm::open(&module, options)?),
            label: KeyLabel(self.key_label.clone()),
        })
    }
}
