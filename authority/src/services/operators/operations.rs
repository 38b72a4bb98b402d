//! How far is what was asked for, and what shows later that it was?

use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, refused};
use crate::app::App;
use crate::services::Failure;
use crate::services::rotation::transcript;
use crate::store::{Operation, OperationId, OperationState, Work};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationList {
    #[serde(default)]
    pub before: Option<OperationId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationShow {
    pub operation: OperationId,
}

/// The signed record of an operation that is over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationTranscript {
    pub operation: OperationId,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct OperationsView {
    pub operations: Vec<OperationView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TranscriptView {
    /// Compact JWS.
    pub transcript: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationView {
    pub operation: OperationId,
    pub verb: String,
    /// What it does, exactly.
    pub work: Work,
    pub asked_by: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consent: Option<String>,
    pub state: OperationState,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<String>,
    /// Why it does not get on at the moment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<String>,
    /// Terminals done, of so many.
    pub done: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total: Option<u64>,
    pub started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
}

impl OperationView {
    pub fn new(app: &App, operation: Operation) -> Self {
        Self {
            trouble: app.operations.trouble(operation.id),
            operation: operation.id,
            verb: operation.verb,
            work: operation.work,
            asked_by: operation.asked_by,
            consent: operation.consent,
            state: operation.state,
            outcome: operation.outcome,
            done: operation.done,
            total: operation.total,
            started_at: operation.started_at,
            ended_at: operation.ended_at,
        }
    }
}

impl Verb for OperationList {
    const NAME: &'static str = "operation-list";
    const CHANGES: bool = false;
    type Answer = OperationsView;

    async fn run(self, app: &App) -> Result<OperationsView, Failure> {
        let found = app.store.operations(self.before, LIST_MAX).await?;
        let view = |operation| OperationView::new(app, operation);
        Ok(OperationsView {
            operations: found.into_iter().map(view).collect(),
        })
    }
}

impl Verb for OperationShow {
    const NAME: &'static str = "operation-show";
    const CHANGES: bool = false;
    type Answer = OperationView;

    async fn run(self, app: &App) -> Result<OperationView, Failure> {
        let found = app.store.operation(self.operation).await?;
        found
            .map(|operation| OperationView::new(app, operation))
            .ok_or_else(|| {
                let detail = format!("no operation {}", self.operation);
                refused(ProblemType::Unknown, detail)
            })
    }
}

impl Verb for OperationTranscript {
    const NAME: &'static str = "operation-transcript";
    const CHANGES: bool = false;
    type Answer = TranscriptView;

    async fn run(self, app: &App) -> Result<TranscriptView, Failure> {
        Ok(TranscriptView {
            transcript: transcript::of(app, self.operation).await?,
        })
    }
}
