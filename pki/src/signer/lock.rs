//! Does another signer work on these keys?

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::SignerError;
use crate::error::PkiError;
use crate::files::make_private_directory;

const FILE: &str = "signer.lock";

/// Held while this process works; the system releases it however the process ends.
#[derive(Debug)]
pub struct SignerLock {
    _file: File,
}

impl SignerLock {
    pub fn take(state_dir: &Path) -> Result<Self, PkiError> {
        make_private_directory(state_dir)?;
        let path = state_dir.join(FILE);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(&path).map_err(SignerError::io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(SignerError::Locked(state_dir.into()).into()),
            Err(TryLockError::Error(error)) => Err(SignerError::io(&path)(error).into()),
        }
    }
}
