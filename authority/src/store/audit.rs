//! What happened, in order, and can it be shown that nothing was changed?

use async_trait::async_trait;
use protocol::audit::{AuditRow, Head};
use protocol::time::Timestamp;

use super::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    pub row: AuditRow,
    pub hash: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCheckpoint {
    pub at: Timestamp,
    /// Compact JWS, `typ` m2key-checkpoint+jwt.
    pub jws: String,
}

#[async_trait]
pub trait AuditLog {
    /// The heads of all chains.
    async fn audit_heads(&self) -> Result<Vec<Head>>;

    /// Rows of one node in order, after `after`.
    async fn audit_rows(&self, node: &str, after: u64, limit: u32) -> Result<Vec<StoredRow>>;

    /// Keeps a signed checkpoint of these heads; the journal knows them before this answers.
    async fn add_checkpoint(&self, checkpoint: StoredCheckpoint, heads: Vec<Head>) -> Result<()>;

    /// Checkpoints in order, after the first `skip`.
    async fn checkpoints(&self, skip: u64, limit: u32) -> Result<Vec<StoredCheckpoint>>;

    /// A fact that has no other verb, e.g. that the daemon started.
    async fn note(&self, kind: &str, body: String, at: Timestamp) -> Result<()>;

    /// Writes and reads back a probe, for readiness.
    async fn probe(&self) -> Result<()>;
}
