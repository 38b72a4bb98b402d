//! Why could a service not do it, and how much of that does the asker hear?

use hsm::HsmError;
use pki::PkiError;
use protocol::problem::{Problem, ProblemType};

use super::issuing::Unbelieved;
use crate::store::StoreError;

/// How long somebody should wait before trying a busy house again.
const BUSY_RETRY_S: u32 = 1;
/// How long when nobody knows what became of what they asked for.
const LATE_RETRY_S: u32 = 2;
/// How long when an operator has to do something first.
const NOT_READY_RETRY_S: u32 = 30;

/// A refusal, or a part of the house that does not work.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    #[error("{}{}", .0.title, .0.detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
    Refused(Problem),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Hsm(#[from] HsmError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Unbelieved(#[from] Unbelieved),
}

impl Failure {
    pub fn new(problem: ProblemType) -> Self {
        Self::Refused(Problem::new(problem))
    }

    /// For strangers: what is wrong inside goes to the log only.
    pub fn into_problem(self) -> Problem {
        if let Self::Refused(problem) = self {
            return problem;
        }
        tracing::warn!(error = %self, "a request could not be served");
        self.kind()
    }

    /// For operators: with what is wrong inside.
    pub fn into_operator_problem(self) -> Problem {
        let detail = self.to_string();
        match self {
            Self::Refused(problem) => problem,
            inside => inside.into_problem().with_detail(detail),
        }
    }

    /// What it is called where strangers look.
    pub(crate) fn kind(&self) -> Problem {
        match self {
            Self::Refused(problem) => problem.clone(),
            Self::Store(error) => of_store(error),
            Self::Hsm(error) => of_hsm(error),
            Self::Pki(error) => of_pki(error),
            Self::Unbelieved(_) => not_ready(),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<ProblemType> for Failure {
    fn from(problem: ProblemType) -> Self {
        Self::new(problem)
    }
}

fn of_store(error: &StoreError) -> Problem {
    match error {
        StoreError::Busy => busy(),
        StoreError::Late => Problem::new(ProblemType::AnswerLate).with_retry_after(LATE_RETRY_S),
        StoreError::CannotWrite { .. }
        | StoreError::Unjournalled { .. }
        | StoreError::Unusable { .. } => not_ready(),
        StoreError::Corrupt { .. } => Problem::new(ProblemType::Internal),
    }
}

fn of_hsm(error: &HsmError) -> Problem {
    match error {
        HsmError::Busy { .. } | HsmError::SessionLost { .. } => busy(),
        HsmError::DeviceLost { .. }
        | HsmError::PinRefused { .. }
        | HsmError::TokenUnknown { .. }
        | HsmError::ModuleAbsent { .. }
        | HsmError::KeyUnknown { .. }
        | HsmError::KeyDiffers { .. }
        | HsmError::LabelTaken { .. }
        | HsmError::Unsupported { .. } => not_ready(),
        HsmError::NotOurKey { .. } | HsmError::CallerFault { .. } | HsmError::Bug { .. } => {
            Problem::new(ProblemType::Internal)
        }
    }
}

fn of_pki(error: &PkiError) -> Problem {
    match error {
        PkiError::Trust(_) => Problem::new(ProblemType::MalformedRequest).with_detail(error),
        PkiError::Csr(_) | PkiError::Certificate(_) | PkiError::Name(_) => {
            Problem::new(ProblemType::RequestRefused).with_detail(error)
        }
        PkiError::Hsm(error) => of_hsm(error),
        // The signer's refusal of what was asked for, in its words.
        PkiError::Signer(_) if error.whose_move() == pki::Move::Asker => {
            Problem::new(ProblemType::RequestRefused).with_detail(error)
        }
        other => match other.whose_move() {
            pki::Move::Later => busy(),
            pki::Move::Operator => not_ready(),
            pki::Move::Asker | pki::Move::Ours => Problem::new(ProblemType::Internal),
        },
    }
}

fn busy() -> Problem {
    Problem::new(ProblemType::Busy).with_retry_after(BUSY_RETRY_S)
}

fn not_ready() -> Problem {
    Problem::new(ProblemType::NotReady).with_retry_after(NOT_READY_RETRY_S)
}
