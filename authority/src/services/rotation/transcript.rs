//! How does an auditor see, years later and without us, what was done and by whom?
//!
//! A transcript is one JWS under the checkpoint key: the operation, what others consented to, and the
//! audit rows that tell of it, each with what its hash is over.

use hsm::Priority;
use protocol::audit::{AuditRow, Head};
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws, Purpose, Verified};
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{find, refused};
use crate::app::App;
use crate::journal::hex;
use crate::services::{Failure, keyring};
use crate::store::{OPERATION_ROWS_MAX, Operation, OperationId, OperationState, StoredRow, Work};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TranscriptClaims {
    pub iss: String,
    /// When the transcript was signed.
    pub iat: i64,
    pub operation: OperationId,
    pub verb: String,
    pub work: Work,
    pub asked_by: String,
    /// The request that others consented to; their signatures are in its own transcript.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consent: Option<String>,
    pub state: OperationState,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<String>,
    pub terminals_done: u64,
    pub started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_at: Option<Timestamp>,
    pub rows: Vec<TranscriptRow>,
    /// There are more rows than a transcript holds.
    pub rows_left_out: bool,
    /// The audit chains when it was signed: every row is in one of them.
    pub heads: Vec<Head>,
}

/// An audit row with everything its hash is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptRow {
    pub node: String,
    pub sequence: u64,
    pub previous: String,
    pub at_ms: i64,
    pub kind: String,
    pub body: String,
    pub hash: String,
}

/// Why a transcript shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTranscript {
    #[error(transparent)]
    Signature(#[from] BadJws),
    #[error("it was signed after its key was tainted")]
    Tainted,
    #[error("audit row {0} in it is not what its hash is over")]
    Row(u64),
    #[error("its audit rows tell of another operation")]
    Foreign,
}

impl Purpose for TranscriptClaims {
    const TYP: &'static str = protocol::typ::TRANSCRIPT;
}

/// Signs what is known of an operation now.
pub async fn of(app: &App, id: OperationId) -> Result<String, Failure> {
    let operation = find(app, id).await?;
    if operation.state == OperationState::Running {
        let detail = format!("operation {id} is not over");
        return Err(refused(ProblemType::NotReady, detail));
    }
    let rows = app.store.operation_rows(id).await?;
    let claims = TranscriptClaims {
        iss: app.issuer_uri(),
        iat: app.clock.now().secs(),
        rows_left_out: rows.len() >= OPERATION_ROWS_MAX as usize,
        rows: rows.into_iter().map(TranscriptRow::from).collect(),
        heads: app.store.audit_heads().await?,
        ..TranscriptClaims::from(operation)
    };
    let keys = app.keyring();
    keyring::sign(&app.hsm, keys.checkpoint(), &claims, Priority::Renewal).await
}

/// Verifies a transcript with nothing but the published keys.
pub fn verify(compact: &str, keys: &JwkSet) -> Result<Verified<TranscriptClaims>, BadTranscript> {
    let verified = jws::verify_kept::<TranscriptClaims>(compact, keys)?;
    let claims = verified.claims();
    if verified.is_past_taint(claims.iat) {
        return Err(BadTranscript::Tainted);
    }
    for row in &claims.rows {
        if row.computed_hash().as_deref() != Some(row.hash.as_str()) {
            return Err(BadTranscript::Row(row.sequence));
        }
        if !row.body.contains(&claims.operation.to_string()) {
            return Err(BadTranscript::Foreign);
        }
    }
    Ok(verified)
}

impl From<Operation> for TranscriptClaims {
    fn from(operation: Operation) -> Self {
        Self {
            iss: String::new(),
            iat: 0,
            operation: operation.id,
            verb: operation.verb,
            work: operation.work,
            asked_by: operation.asked_by,
            consent: operation.consent,
            state: operation.state,
            outcome: operation.outcome,
            terminals_done: operation.done,
            started_at: operation.started_at,
            ended_at: operation.ended_at,
            rows: Vec::new(),
            rows_left_out: false,
            heads: Vec::new(),
        }
    }
}

impl From<StoredRow> for TranscriptRow {
    fn from(stored: StoredRow) -> Self {
        let row = stored.row;
        Self {
            node: row.node,
            sequence: row.sequence,
            previous: hex(&row.previous),
            at_ms: row.at.ms(),
            kind: row.kind,
            body: row.body,
            hash: hex(&stored.hash),
        }
    }
}

impl TranscriptRow {
    fn computed_hash(&self) -> Option<String> {
        let row = AuditRow {
            node: self.node.clone(),
            sequence: self.sequence,
            previous: unhex(&self.previous)?,
            at: Timestamp::from_ms(self.at_ms),
            kind: self.kind.clone(),
            body: self.body.clone(),
        };
        Some(hex(&row.hash()))
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(bytes)
}
