//! What is a caller told when a service says no, and what does only the log say?

use std::fmt;

use hsm::HsmError;
use protocol::problem::{Problem, ProblemType};

use crate::store::StoreError;

/// How long a caller should wait before the same request has a chance again, in seconds.
const BUSY_RETRY_S: u32 = 1;
/// How long until an operator may have helped, in seconds.
const OPERATOR_RETRY_S: u32 = 30;

/// A refusal: the problem goes out, the internal message stays here.
#[derive(Debug, Clone)]
pub struct Refused {
    pub problem: Problem,
    /// For the log; none where the problem says it all.
    pub internal: Option<String>,
}

impl Refused {
    pub fn new(problem: ProblemType) -> Self {
        Self { problem: Problem::new(problem), internal: None }
    }

    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.problem = self.problem.with_detail(detail);
        self
    }

    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.problem = self.problem.with_retry_after(seconds);
        self
    }

    pub fn with_internal(mut self, internal: impl fmt::Display) -> Self {
        self.internal = Some(internal.to_string());
        self
    }

    /// Ours: the caller learns nothing, the log everything.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(ProblemType::Internal).with_internal(message)
    }

    pub fn is(&self, problem: ProblemType) -> bool {
        self.problem.problem_type() == Some(problem)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.internal {
            Some(internal) => write!(f, "{}: {internal}", self.problem.title),
            None => f.write_str(&self.problem.title),
        }
    }
}

impl From<ProblemType> for Refused {
    fn from(problem: ProblemType) -> Self {
        Self::new(problem)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let refused = match error {
            StoreError::Busy => Self::new(ProblemType::Busy).with_retry_after(BUSY_RETRY_S),
            StoreError::CannotWrite { .. } | StoreError::Unusable { .. } => {
                Self::new(ProblemType::NotReady).with_retry_after(OPERATOR_RETRY_S)
            }
            StoreError::Corrupt { .. } => Self::new(ProblemType::Internal),
        };
        refused.with_internal(error)
    }
}

impl From<HsmError> for Refused {
    fn from(error: HsmError) -> Self {
        let refused = match error {
            HsmError::Busy { .. } | HsmError::SessionLost { .. } => {
                Self::new(ProblemType::Busy).with_retry_after(BUSY_RETRY_S)
            }
            HsmError::DeviceLost { .. }
            | HsmError::PinRefused { .. }
            | HsmError::TokenUnknown { .. }
            | HsmError::ModuleAbsent { .. }
            | HsmError::KeyUnknown { .. }
            | HsmError::Unsupported { .. } => {
                Self::new(ProblemType::NotReady).with_retry_after(OPERATOR_RETRY_S)
            }
            HsmError::NotOurKey { .. } => Self::new(ProblemType::TerminalRefused),
            HsmError::LabelTaken { .. }
            | HsmError::CallerFault { .. }
            | HsmError::Bug { .. } => Self::new(ProblemType::Internal),
            #[allow(unreachable_patterns)]
            _ => Self::new(ProblemType::Internal),
        };
        refused.with_internal(error)
    }
}
