//! Whose move is it when a name, a key or a certificate is refused?

#[cfg(feature = "ca")]
use hsm::HsmError;

use crate::certificate::BadCertificate;
use crate::consent::transcript::BadTranscript;
use crate::consent::{BadStatement, NotCleared};
use crate::crl::{BadCrl, BadList};
use crate::csr::BadCsr;
use crate::files::BadFile;
use crate::names::BadName;
use crate::root::BadCeremony;
#[cfg(feature = "ca")]
use crate::signer::SignerError;
use crate::trust::BadTrust;

/// Why nothing was issued, read or believed. Messages hold no key and no passphrase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// The one who asks must ask differently.
    #[error("the certificate request is refused: {0}")]
    Csr(#[from] BadCsr),
    /// The one who shows this certificate must bring another.
    #[error("the certificate is refused: {0}")]
    Certificate(#[from] BadCertificate),
    /// The one who chose this name must choose another.
    #[error("the name is refused: {0}")]
    Name(#[from] BadName),
    /// The one who gave this trust bundle must give another.
    #[error("the trust bundle is refused: {0}")]
    Trust(#[from] BadTrust),
    /// The one who asks for this revocation list must ask differently.
    #[error("the revocation list is not signed: {0}")]
    Crl(#[from] BadCrl),
    /// The one who shows this revocation list must bring another.
    #[error("the revocation list is refused: {0}")]
    List(#[from] BadList),
    /// What the people at a ceremony have to settle first.
    #[error(transparent)]
    Ceremony(#[from] BadCeremony),
    /// The one who signed this must sign anew.
    #[error("the statement is refused: {0}")]
    Statement(#[from] BadStatement),
    /// The one who shows this transcript must bring another.
    #[error("the transcript is refused: {0}")]
    Transcript(#[from] BadTranscript),
    /// More people must agree before this is done here; its variant says whose move it is.
    #[error(transparent)]
    NotCleared(#[from] NotCleared),
    /// Someone with access to this machine must look at the file.
    #[error("{path}: {problem}")]
    File { path: String, problem: BadFile },
    /// The HSM said no; its variant says whether to wait or to call someone.
    #[cfg(feature = "ca")]
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The signer, or the way to it; its variant says whose move it is.
    #[cfg(feature = "ca")]
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The key and the certificate of the issuing CA do not belong together.
    #[error("the key {label:?} in the HSM is not the one in the issuing certificate")]
    ForeignIssuingKey { label: String },
    /// The root key does not belong to the root certificate given with it.
    #[error("the root key is not the one in the root certificate")]
    ForeignRootKey,
    /// The issuing certificate is not valid at this time: a new one, or a clock put right.
    #[error("the issuing certificate is not valid at this time")]
    IssuerNotValid,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandom,
    /// A time that X.509 cannot express.
    #[error("a certificate cannot be dated so: the clock is wrong")]
    ClockWrong,
    /// Ours.
    #[error("unexpected, please report: {detail}")]
    Bug { detail: String },
}

/// Who acts next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The one who asked: the same request will be refused again.
    Asker,
    /// Nobody: the same request may succeed later.
    Later,
    /// An operator of this machine.
    Operator,
    /// We have a bug.
    Ours,
}

impl PkiError {
    pub fn whose_move(&self) -> Move {
        match self {
            Self::Csr(_)
            | Self::Certificate(_)
            | Self::Name(_)
            | Self::Trust(_)
            | Self::Crl(_)
            | Self::List(_)
            | Self::Statement(_)
            | Self::Transcript(_) => Move::Asker,
            #[cfg(feature = "ca")]
            Self::Hsm(error) => hsm_move(error),
            #[cfg(feature = "ca")]
            Self::Signer(error) => error.whose_move(),
            Self::Ceremony(error) => error.whose_move(),
            Self::NotCleared(error) => error.whose_move(),
            Self::File { .. }
            | Self::ForeignIssuingKey { .. }
            | Self::ForeignRootKey
            | Self::IssuerNotValid
            | Self::NoRandom
            | Self::ClockWrong => Move::Operator,
            Self::Bug { .. } => Move::Ours,
        }
    }

    /// What to do about it, for the line after `error:`.
    pub fn hint(&self) -> &str {
        match self {
            Self::Csr(error) => error.hint(),
            Self::Certificate(error) => error.hint(),
            Self::Name(error) => error.hint(),
            Self::Trust(error) => error.hint(),
            Self::Crl(error) => error.hint(),
            Self::List(error) => error.hint(),
            Self::Ceremony(error) => error.hint(),
            Self::Statement(error) => error.hint(),
            Self::Transcript(error) => error.hint(),
            Self::NotCleared(error) => error.hint(),
            Self::File { problem, .. } => problem.hint(),
            #[cfg(feature = "ca")]
            Self::Hsm(error) => hsm_hint(hsm_move(error)),
            #[cfg(feature = "ca")]
            Self::Signer(error) => error.hint(),
            Self::ForeignIssuingKey { .. } => {
                "name the key that belongs to the installed issuing certificate"
            }
            Self::ForeignRootKey => {
                "give the root certificate and the root key of the same ceremony"
            }
            Self::IssuerNotValid => {
                "check the clock; if it is right, issue a new issuing certificate"
            }
            Self::NoRandom => "check that the system offers getrandom(2)",
            Self::ClockWrong => "set the clock of this machine",
            Self::Bug { .. } => "report this with the message above",
        }
    }

    pub(crate) fn bug(detail: impl std::fmt::Display) -> Self {
        Self::Bug {
            detail: detail.to_string(),
        }
    }
}

impl Move {
    /// The exit code of every M2Key command.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Asker => 1,
            Self::Later => 3,
            Self::Operator => 4,
            Self::Ours => 5,
        }
    }
}

#[cfg(feature = "ca")]
fn hsm_move(error: &HsmError) -> Move {
    match error {
        HsmError::Busy { .. } | HsmError::SessionLost { .. } => Move::Later,
        HsmError::DeviceLost { .. }
        | HsmError::PinRefused { .. }
        | HsmError::TokenUnknown { .. }
        | HsmError::ModuleAbsent { .. }
        | HsmError::KeyUnknown { .. }
        | HsmError::KeyDiffers { .. }
        | HsmError::LabelTaken { .. }
        | HsmError::NotOurKey { .. }
        | HsmError::Unsupported { .. } => Move::Operator,
        HsmError::CallerFault { .. } | HsmError::Bug { .. } => Move::Ours,
    }
}

#[cfg(feature = "ca")]
fn hsm_hint(whose: Move) -> &'static str {
    match whose {
        Move::Later => "try again in a few seconds",
        Move::Operator => "check the HSM section of the configuration and the HSM itself",
        Move::Asker | Move::Ours => "report this with the message above",
    }
}

#[cfg(all(test, feature = "ca"))]
mod tests {
    use super::*;

    #[test]
    fn a_busy_hsm_is_tried_later_and_a_wrong_pin_needs_an_operator() {
        let detail = String::new();
        let busy = PkiError::from(HsmError::Busy {
            detail: detail.clone(),
        });
        assert_eq!(busy.whose_move().exit_code(), 3);
        let pin = PkiError::from(HsmError::PinRefused { detail });
        assert_eq!(pin.whose_move().exit_code(), 4);
    }
}
