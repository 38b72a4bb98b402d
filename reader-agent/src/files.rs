//! How do small files get onto the disk, whole and private?

use std::fs;
use std::io::Write;
use std::path::Path;

use base64ct::{Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use crate::error::AgentError;
use crate::{ids, platform};

/// Largest secret file worth reading.
pub const SECRET_MAX: usize = 4_096;

/// A secret of a local interface. Mute; compared in constant time.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Reads the secret, or makes it if there is none yet.
    pub fn load_or_make(path: &Path) -> Result<Self, AgentError> {
        if !path.exists() {
            let mut bytes = Zeroizing::new([0; 24]);
            ids::fill(bytes.as_mut());
            let text = Zeroizing::new(Base64UrlUnpadded::encode_string(bytes.as_ref()));
            write_new(path, text.as_bytes())?;
        }
        let text =
            Zeroizing::new(fs::read_to_string(path).map_err(|e| AgentError::file(path, &e))?);
        let text = text.trim();
        if text.len() < 16 || text.len() > SECRET_MAX {
            return Err(AgentError::operator(
                format!("{}: not a secret of 16 characters or more", path.display()),
                "delete the file; the agent makes a new one",
            ));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    pub fn matches(&self, other: &str) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Writes a file of mode 0600 that was not there before.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let write = || -> std::io::Result<()> {
        let mut file = platform::new_private_file(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| AgentError::file(path, &e))
}
