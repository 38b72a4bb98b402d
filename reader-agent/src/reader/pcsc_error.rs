//! Which of our errors is a PC/SC error?

use crate::platform::{Door, card_service};
use crate::tag::TagError;
use pcsc::{Context, Error, Scope};

/// A context of the service. libpcsclite calls a service that hangs up on us by different names, as it
/// happens to be speaking or listening then: where the door is open and we are not let in, that is what it is.
pub(super) fn enter() -> Result<Context, Error> {
    Context::establish(Scope::System).map_err(|error| match error {
        Error::NoService | Error::CommError if card_service() == Some(Door::Open) => {
            Error::SecurityViolation
        }
        error => error,
    })
}

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
        // pcscd hangs up on whoever polkit does not let in, and libpcsclite says so in either way.
        Error::SecurityViolation | Error::NoAccess => TagError::NotLetIn,
        Error::SharingViolation => TagError::ReaderBusy,
        Error::RemovedCard | Error::NoSmartcard | Error::NotTransacted | Error::UnpoweredCard => {
            TagError::Removed
        }
        Error::UnresponsiveCard => TagError::Mute,
        Error::ResetCard => TagError::Reset,
        other => TagError::Reader(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_let_in_is_not_told_to_unplug_the_reader() {
        for refused in [Error::SecurityViolation, Error::NoAccess] {
            let error = tag_error(refused);
            assert_eq!(error, TagError::NotLetIn);
            let words = error.to_string();
            assert!(
                words.contains("polkit") && !words.contains("unplug"),
                "{words}"
            );
        }
    }

    #[test]
    fn every_end_of_the_service_makes_the_agent_start_over() {
        for end in [
            Error::NoService,
            Error::ServiceStopped,
            Error::CommError,
            Error::InvalidHandle,
        ] {
            assert_eq!(tag_error(end), TagError::PcscdAbsent);
        }
    }
}
