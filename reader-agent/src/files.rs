//! How do small files get onto the disk, whole and private?

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

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
            write_new(path, random().as_bytes())?;
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

    /// Puts a new secret into the place of whatever there was.
    pub fn renew(path: &Path) -> Result<(), AgentError> {
        write_whole(path, random().as_bytes())
    }

    pub fn matches(&self, other: &str) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn random() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 24]);
    ids::fill(bytes.as_mut());
    Zeroizing::new(Base64UrlUnpadded::encode_string(bytes.as_ref()))
}

/// Writes a file of mode 0600 that is either whole or as it was before, also after a power cut.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    let temporary = temporary(path);
    let write = || -> std::io::Result<()> {
        remove_if_there(&temporary)?;
        let mut file = platform::new_private_file(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| AgentError::file(path, &e))?;
    replace(&temporary, path)
}

/// Puts one file into the place of another; what is there afterwards stays there after a power cut.
pub fn replace(from: &Path, to: &Path) -> Result<(), AgentError> {
    let renamed = fs::rename(from, to).and_then(|()| platform::sync_directory_of(to));
    renamed.map_err(|e| AgentError::file(to, &e))
}

/// Removes a file, which need not be there.
pub fn remove(path: &Path) -> Result<(), AgentError> {
    let removed = remove_if_there(path).and_then(|()| platform::sync_directory_of(path));
    removed.map_err(|e| AgentError::file(path, &e))
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Hidden, so that nobody takes it for the file itself.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

/// Writes a file of mode 0600, whole or not at all. One that is there already must say the same: it is
/// what an enrolment left that was cut off, and it is not written over if it is somebody's own.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), AgentError> {
    match fs::read(path) {
        Ok(there) if there == bytes => Ok(()),
        Ok(_) => Err(AgentError::operator(
            format!(
                "{} is there already and says something else",
                path.display()
            ),
            "move it away and do the same again",
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_whole(path, bytes),
        Err(error) => Err(AgentError::file(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_not_written_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        write_new(&path, b"one").unwrap();
        write_new(&path, b"one").unwrap();
        let refused = write_new(&path, b"two").unwrap_err();
        assert!(refused.to_string().contains("something else"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn a_file_is_replaced_whole_and_what_a_cut_left_half_written_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        write_whole(&path, b"one").unwrap();
        fs::write(temporary(&path), b"tw").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
