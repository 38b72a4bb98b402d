//! Why did a sign-in at a provider come to nothing, and whose move is it?

use protocol::problem::{Problem, ProblemType};

use crate::services::Failure;
use crate::services::sign_in::token::BadToken;

/// How long until a provider that is down may be back, in seconds.
const PROVIDER_RETRY_S: u32 = 5;

/// For the log in full; shoppers hear whose move it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The provider's move, soon: it does not answer, or says that it cannot.
    #[error("it cannot be had: {0}")]
    Down(String),
    /// The provider's or the operator's move: what it says breaks the rules, or it does not know us.
    #[error("its answer is not accepted: {0}")]
    Refused(String),
    /// The shopper's move: begin again.
    #[error("the sign-in is over: {0}")]
    Over(String),
    /// The operator's move: a file of ours.
    #[error("our key or secret cannot be used: {0}")]
    Ours(String),
}

impl Trouble {
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Down(_) => {
                Problem::new(ProblemType::ProviderDown).with_retry_after(PROVIDER_RETRY_S)
            }
            Self::Refused(_) => Problem::new(ProblemType::ProviderRefused),
            Self::Over(_) => Problem::new(ProblemType::SignInOver),
            Self::Ours(_) => Problem::new(ProblemType::NotReady),
        }
    }

    /// Logged, and in the words for shoppers.
    pub(super) fn told(self, provider: &str) -> Failure {
        match self {
            Self::Over(_) => tracing::info!(provider, trouble = %self, "nobody is signed in"),
            _ => tracing::warn!(provider, trouble = %self, "nobody is signed in"),
        }
        self.problem().into()
    }

    /// The same for a provider that told us something itself.
    pub(super) fn told_provider(self, provider: &str) -> Failure {
        tracing::warn!(provider, trouble = %self, "a logout is not accepted");
        match self {
            Self::Down(_) | Self::Ours(_) => self.problem().into(),
            Self::Refused(_) | Self::Over(_) => Problem::new(ProblemType::MalformedRequest)
                .with_detail("the logout token is not accepted")
                .into(),
        }
    }
}

impl From<BadToken> for Trouble {
    fn from(bad: BadToken) -> Self {
        match bad {
            BadToken::ProviderDown => Self::Down(bad.to_string()),
            _ => Self::Refused(bad.to_string()),
        }
    }
}
