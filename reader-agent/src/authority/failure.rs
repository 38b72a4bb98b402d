//! Why did a call to the authority come to nothing, and whose move is it?

use std::error::Error;

use protocol::problem::{Problem, ProblemType};
use rustls::AlertDescription;

use crate::error::Whose;

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the authority cannot be reached ({detail})")]
    Unreachable { detail: String },
    #[error("who answers there is not the authority this terminal trusts ({detail})")]
    ForeignServer { detail: String },
    #[error("who answers there sends this terminal elsewhere ({detail})")]
    Elsewhere { detail: String },
    #[error("the authority does not accept this terminal's certificate ({detail})")]
    OwnCertificate { detail: String },
    #[error("the root certificate there has another fingerprint: {found}")]
    Fingerprint { found: String },
    #[error("the authority says: {}{}", .0.title, detail_of(.0))]
    Refused(Box<Problem>),
    #[error("the authority's answer cannot be read ({detail})")]
    Answer { detail: String },
}

impl CallError {
    /// Sorts what went wrong below HTTP.
    pub fn of(error: &reqwest::Error) -> Self {
        let detail = innermost(error);
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) if judges_certificate(*alert) => {
                Self::OwnCertificate { detail }
            }
            Some(_) => Self::ForeignServer { detail },
            None if is_cut(error) => Self::Unreachable {
                detail: "the connection was cut".into(),
            },
            None if error.is_decode() || error.is_body() && !error.is_timeout() => {
                Self::Answer { detail }
            }
            None => Self::Unreachable { detail },
        }
    }

    pub fn answer(detail: impl std::fmt::Display) -> Self {
        Self::Answer {
            detail: detail.to_string(),
        }
    }

    /// Somebody answers in the authority's place.
    pub fn is_stranger(&self) -> bool {
        matches!(self, Self::ForeignServer { .. } | Self::Elsewhere { .. })
    }

    /// The authority understood and said no to this terminal itself. Who only stands in its place says
    /// nothing about this terminal: that is as good as nobody.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::OwnCertificate { .. } => true,
            Self::Refused(problem) => matches!(
                problem.problem_type(),
                Some(
                    ProblemType::TerminalRefused
                        | ProblemType::CertificateRefused
                        | ProblemType::CertificateNeeded
                )
            ),
            _ => false,
        }
    }

    pub fn is(&self, problem: ProblemType) -> bool {
        matches!(self, Self::Refused(p) if p.problem_type() == Some(problem))
    }

    /// The certificate this call was made with is not (or not any more) taken.
    pub fn is_about_certificate(&self) -> bool {
        match self {
            Self::OwnCertificate { .. } => true,
            Self::Refused(problem) => matches!(
                problem.problem_type(),
                Some(ProblemType::CertificateRefused | ProblemType::CertificateNeeded)
            ),
            _ => false,
        }
    }

    /// How long the authority asks us to wait.
    pub fn retry_after_ms(&self) -> i64 {
        match self {
            Self::Refused(problem) => i64::from(problem.retry_after_s.unwrap_or(0)) * 1000,
            _ => 0,
        }
    }

    pub fn whose(&self) -> Whose {
        match self {
            Self::Unreachable { .. } => Whose::Later,
            Self::ForeignServer { .. } | Self::Elsewhere { .. } | Self::OwnCertificate { .. } => {
                Whose::Operator
            }
            Self::Fingerprint { .. } => Whose::Asker,
            Self::Refused(problem) if problem.status >= 500 => Whose::Later,
            Self::Refused(_) => Whose::Asker,
            Self::Answer { .. } => Whose::Operator,
        }
    }

    /// What a merchant does next.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "check the network of this machine and the authority's address, then try again".into()
            }
            Self::ForeignServer { .. } => {
                "if this network asks people to sign in (guest Wi-Fi), open any page in a browser on this PC and sign in; otherwise check the authority's address, compare clocks, then ask the operator whether the root certificate was replaced; nothing was sent".into()
            }
            Self::Elsewhere { .. } => {
                "if this network asks people to sign in (guest Wi-Fi), open any page in a browser on this PC and sign in; otherwise ask the operator what stands before the authority: no authority sends anybody elsewhere, and whoever does may have read what was asked".into()
            }
            Self::OwnCertificate { .. } => {
                "the certificate may have been revoked, or have expired too long ago: ask the operator for a new join token and enrol again".into()
            }
            Self::Fingerprint { .. } => {
                "nothing was sent; compare the fingerprint with the operator by telephone, and check the authority's address".into()
            }
            Self::Refused(problem) => problem.next_step.to_string(),
            Self::Answer { .. } => {
                "check that the address is the authority's port for terminals (8444 unless set otherwise), and that no network in between shows a sign-in page".into()
            }
        }
    }
}

fn detail_of(problem: &Problem) -> String {
    let detail = problem.detail.as_ref();
    detail.map(|d| format!(" ({d})")).unwrap_or_default()
}

/// Only what is said of certificates is about ours. Whatever else a server breaks off for (no TLS 1.3, a
/// name it does not know) an authority does not say.
fn judges_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

fn innermost(error: &dyn Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// Whether a connection ended in the middle of an answer.
fn is_cut(error: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|it| {
        matches!(
            it.kind(),
            ConnectionAborted | ConnectionReset | UnexpectedEof
        )
    }) || error.source().is_some_and(is_cut)
}

/// An I/O error hides what it carries from `source`, so both ways are followed.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    let carried = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    carried
        .and_then(|inner| tls_error(inner))
        .or_else(|| error.source().and_then(tls_error))
}
