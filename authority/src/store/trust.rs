//! Which list of roots does each terminal follow?

use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use super::Result;

/// What a terminal said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follower {
    /// Of the list of roots it follows; 0: only the root it pinned.
    pub sequence: u64,
    pub seen_at: Timestamp,
}

/// Terminals that follow an older list than somebody asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behind {
    pub count: u64,
    /// The first of them, in order of id.
    pub first: Vec<TerminalId>,
}

/// Who holds certificates of some issuing CAs that can still be used or renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    pub terminals: Behind,
    /// Those whose newest certificate it is; their names, in order.
    pub operators: Vec<String>,
}

#[async_trait]
pub trait TrustFollowers {
    /// The terminal was connected at `at` and follows this list. A change of it goes into the audit.
    async fn follow_trust(&self, terminal: TerminalId, sequence: u64, at: Timestamp) -> Result<()>;

    async fn follower(&self, terminal: TerminalId) -> Result<Option<Follower>>;

    /// How many terminals follow each list, those that are banned left out; in order of sequence.
    async fn followers(&self, seen_since: Timestamp) -> Result<Vec<(u64, u64)>>;

    /// Who follows a list below this one, was seen since then and is not banned.
    async fn behind(&self, below: u64, seen_since: Timestamp, limit: u32) -> Result<Behind>;

    /// Who holds a certificate of these issuing CAs (key identifiers) that is neither revoked nor
    /// superseded. A terminal's counts if it ends at `ended_since` or later, because one that has ended
    /// can be renewed for a while; an operator's until its end.
    async fn holders(
        &self,
        issuer_keys: Vec<String>,
        ended_since: Timestamp,
        at: Timestamp,
        limit: u32,
    ) -> Result<Holders>;
}
