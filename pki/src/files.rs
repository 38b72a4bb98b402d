//! How does a secret get into a file and out of it without anyone else reading it?

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::PkiError;

/// Largest file worth reading: a bundle of certificates, or a key.
pub(crate) const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Why a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    #[error("there is no such file or directory")]
    Missing,
    #[error("there is such a file already, and it is not overwritten")]
    Exists,
    #[error("this process may not read or write it")]
    Forbidden,
    #[error("the disk is full")]
    DiskFull,
    #[error("it is larger than what is read here")]
    TooLarge,
    #[error("others than its owner may read it")]
    LooseMode,
    #[error("it is not text")]
    NotText,
    #[error("it holds no certificate, request, revocation list or signed statement")]
    Unknown,
    #[error("it is not a JWK set")]
    NotKeySet,
    #[error("it does not hold a P-256 key as PKCS#8 PEM")]
    NotKey,
    #[error("the passphrase does not open it")]
    WrongPassphrase,
    #[error(
        "its passphrase is shorter than {} or longer than {} bytes",
        crate::root::PASSPHRASE_MIN_BYTES,
        crate::root::PASSPHRASE_MAX_BYTES
    )]
    PassphraseLength,
    #[error("the operating system refuses ({0})")]
    Io(io::ErrorKind),
}

impl BadFile {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Missing => "check the path",
            Self::Exists => {
                "choose another path, or move the old file away if it is not needed any more"
            }
            Self::Forbidden => {
                "run as the owner of the file, or give it to the account that runs this"
            }
            Self::DiskFull => "free some space; nothing was changed",
            Self::NotKeySet => "give what the authority serves under /.well-known/jwks.json",
            Self::TooLarge | Self::NotText | Self::Unknown | Self::NotKey => {
                "check that this is the file you meant"
            }
            Self::LooseMode => "chmod 600 it, and think about who may have read it",
            Self::WrongPassphrase => "check that the passphrase file belongs to this key",
            Self::PassphraseLength => {
                "put a passphrase of at least 12 characters on the first line"
            }
            Self::Io(_) => "check the disk and the directory",
        }
    }

    pub(crate) fn at(self, path: &Path) -> PkiError {
        PkiError::File {
            path: path.display().to_string(),
            problem: self,
        }
    }
}

impl From<io::Error> for BadFile {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::PermissionDenied => Self::Forbidden,
            io::ErrorKind::StorageFull => Self::DiskFull,
            io::ErrorKind::InvalidData => Self::NotText,
            other => Self::Io(other),
        }
    }
}

/// May a file that is there be replaced?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    Yes,
    Never,
}

/// Who may read a file?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    Owner,
    Everyone,
}

/// Writes a file of mode 0600 that is either whole or not there, also after a power cut.
pub(crate) fn write_private(path: &Path, bytes: &[u8], replace: Replace) -> Result<(), PkiError> {
    write(path, bytes, replace, Readers::Owner)
}

/// The same for what everyone may read, mode 0644.
pub(crate) fn write_public(path: &Path, bytes: &[u8], replace: Replace) -> Result<(), PkiError> {
    write(path, bytes, replace, Readers::Everyone)
}

/// Refuses a path that is taken, before the work whose result shall go there.
pub fn refuse_taken(path: &Path) -> Result<(), PkiError> {
    match path.exists() {
        true => Err(BadFile::Exists.at(path)),
        false => Ok(()),
    }
}

/// Writes what everyone may read, and replaces nothing.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write_public(path, bytes, Replace::Never)
}

fn write(path: &Path, bytes: &[u8], replace: Replace, readers: Readers) -> Result<(), PkiError> {
    let temporary = temporary_beside(path)?;
    let written =
        write_synced(&temporary, bytes, readers).and_then(|()| publish(&temporary, path, replace));
    if written.is_err() {
        // What went wrong is reported; a temporary file that cannot be removed either adds nothing.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|error| BadFile::from(error).at(path))
}

/// A directory that only its owner may enter; one that is there stays as it is.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), PkiError> {
    let mut builder = fs::DirBuilder::new();
    owner_only(builder.recursive(true));
    let made = builder.create(path);
    made.map_err(|error| BadFile::from(error).at(path))
}

/// Reads a secret, and refuses one that others can read.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, PkiError> {
    let read = || -> Result<Zeroizing<String>, BadFile> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if is_loose(&metadata) {
            return Err(BadFile::LooseMode);
        }
        // Room for all of it from the start: growing would leave copies behind in freed memory.
        let room = metadata.len().min(FILE_MAX_BYTES) as usize + 1;
        let mut text = Zeroizing::new(String::with_capacity(room));
        limited(file, FILE_MAX_BYTES)?.read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|problem| problem.at(path))
}

/// Reads what is not secret.
pub fn read_public(path: &Path) -> Result<Vec<u8>, PkiError> {
    read_public_up_to(path, FILE_MAX_BYTES)
}

/// The same for what may be larger than certificates and keys are.
pub(crate) fn read_public_up_to(path: &Path, max_bytes: u64) -> Result<Vec<u8>, PkiError> {
    let read = || -> Result<Vec<u8>, BadFile> {
        let mut bytes = Vec::new();
        limited(File::open(path)?, max_bytes)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|problem| problem.at(path))
}

fn limited(file: File, max_bytes: u64) -> Result<impl Read, BadFile> {
    if file.metadata()?.len() > max_bytes {
        return Err(BadFile::TooLarge);
    }
    Ok(file.take(max_bytes))
}

fn temporary_beside(path: &Path) -> Result<PathBuf, PkiError> {
    let name = path.file_name().ok_or_else(|| BadFile::Missing.at(path))?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| PkiError::NoRandom)?;
    let suffix = crate::certificate::hex(&random);
    Ok(path.with_file_name(format!(".{}.{suffix}", name.to_string_lossy())))
}

fn write_synced(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    restrict(&mut options, readers);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn publish(temporary: &Path, path: &Path, replace: Replace) -> io::Result<()> {
    match replace {
        Replace::Yes => fs::rename(temporary, path)?,
        // A link, unlike a rename, fails when the name is taken.
        Replace::Never => {
            fs::hard_link(temporary, path)?;
            fs::remove_file(temporary)?;
        }
    }
    sync_directory(path)
}

// The agent also runs on Windows, where the directory's access list takes the place of the mode.
#[cfg(unix)]
fn restrict(options: &mut OpenOptions, readers: Readers) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(match readers {
        Readers::Owner => 0o600,
        Readers::Everyone => 0o644,
    });
}

#[cfg(not(unix))]
fn restrict(_: &mut OpenOptions, _: Readers) {}

#[cfg(unix)]
fn owner_only(builder: &mut fs::DirBuilder) {
    use std::os::unix::fs::DirBuilderExt;
    builder.mode(0o700);
}

#[cfg(not(unix))]
fn owner_only(_: &mut fs::DirBuilder) {}

#[cfg(unix)]
fn is_loose(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_loose(_: &fs::Metadata) -> bool {
    false
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn problem<T>(result: Result<T, PkiError>) -> BadFile {
        match result.map(|_| ()) {
            Err(PkiError::File { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_file_is_for_its_owner_only_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_private(&path, b"one", Replace::Never).unwrap();
        write_private(&path, b"two", Replace::Yes).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(read_private(&path).unwrap().as_str(), "two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_must_not_be_replaced_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_private(&path, b"one", Replace::Never).unwrap();
        assert_eq!(
            problem(write_private(&path, b"two", Replace::Never)),
            BadFile::Exists
        );
        assert_eq!(read_private(&path).unwrap().as_str(), "one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_private(&path, b"one", Replace::Never).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(problem(read_private(&path)), BadFile::LooseMode);
        }
    }

    #[test]
    fn missing_and_oversized_files_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        assert_eq!(problem(read_public(&path)), BadFile::Missing);
        File::create(&path)
            .unwrap()
            .set_len(FILE_MAX_BYTES + 1)
            .unwrap();
        assert_eq!(problem(read_public(&path)), BadFile::TooLarge);
        assert_eq!(
            problem(write_private(
                &dir.path().join("no/where"),
                b"",
                Replace::Yes
            )),
            BadFile::Missing
        );
    }
}
