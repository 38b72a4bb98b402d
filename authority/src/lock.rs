//! Is another process at work on this authority?
//!
//! A second process at the same HSM token and store is a fault source, so whoever works takes the
//! lock; the system releases it however the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "authority.lock";

/// Held while this process works.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another process works on this authority (lock {})", .0.display())]
    Held(PathBuf),
    #[error("cannot lock {} ({error})", .path.display())]
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
}

impl Lock {
    /// Takes the lock of this run folder, which is made if it is not there.
    pub fn take(run_dir: &Path) -> Result<Self, LockError> {
        let path = run_dir.join(LOCK_FILE);
        let failed = |error| LockError::Io {
            path: path.clone(),
            error,
        };
        std::fs::create_dir_all(run_dir).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(path)),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}
