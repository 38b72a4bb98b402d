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

#[async_trait]
pub trait TrustFollowers {
    /// The terminal was connected at `at` and follows this list. A change of it goes into the audit.
    async fn follow_trust(&self, terminal: TerminalId, sequence: u64, at: Timestamp) -> Result<()>;

    async fn follower(&self, terminal: TerminalId) -> Result<Option<Follower>>;

    /// How many terminals follow each list, those that are banned left out; in order of sequence.
    async fn followers(&self, seen_since: Timestamp) -> Result<Vec<(u64, u64)>>;

    /// Who follows a list below this one, was seen since then and is not banned.
    async fn behind(&self, below: u64, seen_since: Timestamp, limit: u32) -> Result<Behind>;
}
