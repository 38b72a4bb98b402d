//! Whose move is it when the HSM says no?

/// One failed request. The variants say who acts next; PKCS#11 codes stay inside this crate
/// (`detail` names the function and the CKR code for the log, never a secret).
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum HsmError {
    /// The queue is full, or the deadline passed before the device took the request: try later.
    #[error("the HSM is busy ({detail})")]
    Busy { detail: String },
    /// The session was lost and could not be made again in time: try later.
    #[error("the HSM session was lost ({detail})")]
    SessionLost { detail: String },
    /// The device or its library does not answer: an operator is needed if it lasts.
    #[error("the HSM does not answer ({detail})")]
    DeviceLost { detail: String },
    /// The PIN was refused. Nothing is retried, because wrong PINs lock HSM tokens.
    #[error("the HSM refused the PIN ({detail})")]
    PinRefused { detail: String },
    /// No such HSM token behind the module; the name says its label.
    #[error("no HSM token {name} behind this module")]
    TokenUnknown { name: String },
    /// The module could not be loaded.
    #[error("the PKCS#11 module {path:?} cannot be loaded ({detail})")]
    ModuleAbsent { path: String, detail: String },
    /// No key under this label: the configuration names a key that was never made.
    #[error("no key labelled {label:?} in the HSM token")]
    KeyUnknown { label: String },
    /// The label is there, and the key under it is not the one that it was: nothing is done with it.
    #[error("another key than before is labelled {label:?} in the HSM token")]
    KeyDiffers { label: String },
    /// A key under this label exists already.
    #[error("a key labelled {label:?} exists already")]
    LabelTaken { label: String },
    /// A sealed seed whose binding does not verify, or that does not unwrap: tampered or foreign.
    #[error("a sealed seed is not ours or was changed ({detail})")]
    NotOurKey { detail: String },
    /// The request breaks a limit or a rule of this crate.
    #[error("the request to the HSM is malformed ({detail})")]
    CallerFault { detail: String },
    /// The HSM lacks a mechanism or an attribute that M2Key needs.
    #[error("the HSM cannot do this ({detail})")]
    Unsupported { detail: String },
    /// Ours.
    #[error("unexpected answer of the HSM, please report ({detail})")]
    Bug { detail: String },
}

impl HsmError {
    /// One word per variant, for metrics and logs.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::SessionLost { .. } => "session-lost",
            Self::DeviceLost { .. } => "device-lost",
            Self::PinRefused { .. } => "pin-refused",
            Self::TokenUnknown { .. } => "token-unknown",
            Self::ModuleAbsent { .. } => "module-absent",
            Self::KeyUnknown { .. } => "key-unknown",
            Self::KeyDiffers { .. } => "key-differs",
            Self::LabelTaken { .. } => "label-taken",
            Self::NotOurKey { .. } => "not-our-key",
            Self::CallerFault { .. } => "caller-fault",
            Self::Unsupported { .. } => "unsupported",
            Self::Bug { .. } => "bug",
        }
    }
}
