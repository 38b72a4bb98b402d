//! How does an attempt at the HSM fail, and what is done about it?

use crate::{HsmError, KeyLabel, pkcs11::TokenName};

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Try later.
    Busy,
    /// Make the session again, log in again, and try once more.
    LostSession,
    /// Initialise the module again, and try once more.
    LostDevice,
    /// What was to be unsealed is tampered with or foreign.
    NotOurKey,
    /// Another key than before has the label: an operator's move.
    OtherKey,
    /// The request is wrong, or names the wrong key.
    CallersFault,
    /// The HSM lacks something M2Key needs.
    Unsupported,
    /// The PIN was refused: never try again.
    Pin,
    /// Ours.
    Bug,
}

impl Class {
    /// Whether the HSM or the way to it is at fault, and not the request.
    pub(crate) fn is_our_trouble(self) -> bool {
        match self {
            Self::LostSession | Self::LostDevice | Self::Pin => true,
            Self::Busy
            | Self::NotOurKey
            | Self::OtherKey
            | Self::CallersFault
            | Self::Unsupported
            | Self::Bug => false,
        }
    }
}

/// A failed attempt: how to go on, and what the caller hears if there is no going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    pub(crate) error: HsmError,
}

impl Failure {
    pub(crate) fn new(class: Class, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let error = match class {
            Class::Busy => HsmError::Busy { detail },
            Class::LostSession => HsmError::SessionLost { detail },
            Class::LostDevice => HsmError::DeviceLost { detail },
            Class::NotOurKey => HsmError::NotOurKey { detail },
            Class::OtherKey => HsmError::KeyDiffers { label: detail },
            Class::CallersFault => HsmError::CallerFault { detail },
            Class::Unsupported => HsmError::Unsupported { detail },
            Class::Pin => HsmError::PinRefused { detail },
            Class::Bug => HsmError::Bug { detail },
        };
        Self { class, error }
    }

    /// The key with this label is not the one that it was.
    pub(crate) fn key_differs(label: &KeyLabel) -> Self {
        Self::new(Class::OtherKey, label.0.clone())
    }

    /// An answer of ours that needs its own variant.
    pub(crate) fn refusal(error: HsmError) -> Self {
        Self {
            class: Class::CallersFault,
            error,
        }
    }

    /// The HSM token is not there (any more): only a new look by the module can find it.
    pub(crate) fn token_unknown(name: &TokenName) -> Self {
        Self {
            class: Class::LostDevice,
            error: HsmError::TokenUnknown {
                name: name.to_string(),
            },
        }
    }
}
