//! What does a failure of SQLite mean to the caller?

use rusqlite::{Error, ErrorCode};

use crate::store::StoreError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match &error {
            Error::SqliteFailure(failure, _) => of_code(failure.code, detail),
            _ => Self::Corrupt { detail },
        }
    }
}

/// A row, or a caller, that breaks the rules of the tables.
pub(in crate::store) fn corrupt(detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt {
        detail: detail.into(),
    }
}

pub(in crate::store) fn unusable(detail: impl Into<String>) -> StoreError {
    StoreError::Unusable {
        detail: detail.into(),
    }
}

pub(in crate::store) fn cannot_write(detail: impl Into<String>) -> StoreError {
    StoreError::CannotWrite {
        detail: detail.into(),
    }
}

fn of_code(code: ErrorCode, detail: String) -> StoreError {
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OutOfMemory => {
            StoreError::Busy
        }
        ErrorCode::DiskFull
        | ErrorCode::ReadOnly
        | ErrorCode::SystemIoFailure
        | ErrorCode::PermissionDenied => cannot_write(detail),
        ErrorCode::CannotOpen
        | ErrorCode::NotADatabase
        | ErrorCode::SchemaChanged
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::NoLargeFileSupport => unusable(detail),
        _ => corrupt(detail),
    }
}
