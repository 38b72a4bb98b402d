//! Which of our errors is a PC/SC error?

use crate::tag::TagError;
use pcsc::Error;

/// The one place that knows PC/SC's error codes.
pub(super) fn tag_error(error: Error) -> TagError {
    match error {
        Error::NoService
        | Error::ServiceStopped
        | Error::CommError
        | Error::CommDataLost
        | Error::InvalidHandle => TagError::PcscdAbsent,
        Error::UnknownReader | Error::ReaderUnavailable | Error::NoReadersAvailable => {
            TagError::NoReader { wanted: None }
        }
        Error::SharingViolation => TagError::ReaderBusy,
        Error::RemovedCard
        | Error::NoSmartcard
        | Error::NotTransacted
        | Error::UnpoweredCard
        | Error::UnresponsiveCard => TagError::Removed,
        Error::ResetCard => TagError::Reset,
        other => TagError::Reader(other.to_string()),
    }
}
