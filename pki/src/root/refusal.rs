//! Whose move is it when a ceremony stops?

use crate::error::Move;

/// What the people at a ceremony have to settle first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCeremony {
    #[error("this was not agreed to, and nothing was signed")]
    NotConfirmed,
    #[error("there is a root in this directory already")]
    RootThere,
    #[error("another ceremony has this directory open")]
    InUse,
    #[error("line {line} of the log does not follow from the line before it")]
    LogBroken { line: usize },
    #[error("the clock says a time before the last step of the log ({last})")]
    ClockBehind { last: String },
    #[error("the root certificate is not valid at the time that the clock says ({now})")]
    RootNotValid { now: String },
    #[error("the request holds the key of the root itself")]
    OwnKey,
    #[error("a certificate of this key was revoked because others may have the key ({serial})")]
    RevokedKey { serial: String },
    #[error("there is a certificate for this key already: {file}")]
    AlreadySigned { file: String },
    #[error("{what} is neither a certificate that this root signed nor the serial number of one")]
    NotIssuedHere { what: String },
    #[error("{file}: {detail}")]
    Consents { file: String, detail: String },
}

impl BadCeremony {
    pub(crate) fn whose_move(&self) -> Move {
        match self {
            Self::NotConfirmed
            | Self::OwnKey
            | Self::RevokedKey { .. }
            | Self::AlreadySigned { .. }
            | Self::NotIssuedHere { .. } => Move::Asker,
            Self::InUse => Move::Later,
            Self::RootThere
            | Self::Consents { .. }
            | Self::LogBroken { .. }
            | Self::ClockBehind { .. }
            | Self::RootNotValid { .. } => Move::Operator,
        }
    }

    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotConfirmed => "answer yes, or give --yes where nobody can answer",
            Self::RootThere => "make a new root in a directory of its own",
            Self::InUse => "let the other one finish",
            Self::LogBroken { .. } => {
                "compare the log with the other copies; do not use this one before you know why"
            }
            Self::ClockBehind { .. } | Self::RootNotValid { .. } => {
                "set the clock of this machine; if it is right, this root is over"
            }
            Self::OwnKey => "make the request with the key of the issuing CA",
            Self::RevokedKey { .. } => "make a new key for the issuing CA, and a request with it",
            Self::AlreadySigned { .. } => "use that one, or give --again to sign another",
            Self::Consents { .. } => "compare with config/consents.full.toml",
            Self::NotIssuedHere { .. } => "m2key-pki root show lists what was signed here",
        }
    }
}
