//! Where does a root key lie, and how is one made there?

use std::fmt;
use std::path::PathBuf;
#[cfg(feature = "ca")]
use std::sync::Arc;

#[cfg(feature = "ca")]
use hsm::{Hsm, HsmError, KeyKind, KeyLabel};

use super::{Passphrase, RootKey, RootSigner};
use crate::error::PkiError;

/// A file under a passphrase, or a label in an HSM token that is open.
pub enum KeyPlace {
    File {
        path: PathBuf,
        passphrase: Passphrase,
    },
    #[cfg(feature = "ca")]
    Hsm { hsm: Arc<dyn Hsm>, label: KeyLabel },
}

impl KeyPlace {
    /// The key that lies there.
    pub async fn open(self) -> Result<RootSigner, PkiError> {
        match self {
            Self::File { path, passphrase } => Ok(RootKey::load(&path, &passphrase)?.into()),
            #[cfg(feature = "ca")]
            Self::Hsm { hsm, label } => RootSigner::in_hsm(hsm, label).await,
        }
    }

    /// A new key. One that is there already is taken only if `adopt`: an attempt of ours that was
    /// interrupted has made it.
    pub(super) async fn make(self, adopt: bool) -> Result<RootSigner, PkiError> {
        match &self {
            Self::File { path, .. } if adopt && path.exists() => {}
            Self::File { path, passphrase } => RootKey::generate()?.save(path, passphrase)?,
            #[cfg(feature = "ca")]
            Self::Hsm { hsm, label } => match hsm.generate_key(KeyKind::Signing, label).await {
                Err(HsmError::LabelTaken { .. }) if adopt => {}
                other => other?,
            },
        }
        self.open().await
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { .. } => f.write_str("file"),
            #[cfg(feature = "ca")]
            Self::Hsm { label, .. } => write!(f, "hsm:{}", label.0),
        }
    }
}

impl fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPlace({self})")
    }
}
