//! Which terminals are there, and under which seeds?

use async_trait::async_trait;
use hsm::{KeyLabel, SealedSeed, SealingKeys};
use protocol::ids::{MerchantId, TerminalId};
use protocol::time::Timestamp;

use super::{JoinToken, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    pub id: TerminalId,
    pub merchant: MerchantId,
    /// Where it stands, in the merchant's words.
    pub name: String,
    pub status: TerminalStatus,
    /// Version of the seed in force.
    pub version: u32,
    /// The last schedule's sequence, 0 before the first.
    pub sequence: u64,
    /// The last epoch any schedule held.
    pub issued_until: Option<u32>,
    pub added_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalStatus {
    Active,
    Banned { at: Timestamp, reason: String },
}

/// One version of a terminal's seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    pub terminal: TerminalId,
    pub version: u32,
    /// First epoch derived from this version.
    pub from_epoch: u32,
    pub keys: SealingKeys,
    pub sealed: SealedSeed,
}

/// A key in the HSM and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// RFC 7638 thumbprint; for keys without a public half, the label.
    pub kid: String,
    /// `schedule`, `receipt`, `checkpoint`, `sealing`, `binding`.
    pub purpose: String,
    /// `prepared`, `active`, `tainted`, `retired`.
    pub state: String,
    pub label: KeyLabel,
    /// Uncompressed SEC 1 point, for signing keys.
    pub public_point: Option<[u8; 65]>,
    pub made_at: Timestamp,
}

#[async_trait]
pub trait Terminals {
    /// The life of this database, an input of every epoch key.
    async fn generation(&self) -> Result<u32>;

    /// Records a key; false if its kid or label is taken.
    async fn add_key(&self, key: KeyRecord) -> Result<bool>;

    async fn keys(&self) -> Result<Vec<KeyRecord>>;

    /// Adds a terminal with its first seed and join token; false if the id is taken.
    async fn add_terminal(
        &self,
        terminal: Terminal,
        seed: Seed,
        join_token: JoinToken,
    ) -> Result<bool>;

    async fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>>;

    /// In order of id, after `after`.
    async fn terminals(&self, after: Option<TerminalId>, limit: u32) -> Result<Vec<Terminal>>;

    /// The seed version that `epoch` of this terminal is derived from.
    async fn seed_for(&self, terminal: TerminalId, epoch: u32) -> Result<Option<Seed>>;

    /// Bans: from this commit on tokens, claims and schedules of the terminal are refused, its
    /// charge is ended and its held claim released, and its certificates are revoked. None if there is no such terminal; banning twice
    /// answers the first ban.
    async fn ban_terminal(
        &self,
        id: TerminalId,
        reason: String,
        at: Timestamp,
    ) -> Result<Option<Terminal>>;

    /// Takes the next schedule sequence and records the horizon. None if unknown or banned.
    async fn record_schedule(
        &self,
        terminal: TerminalId,
        first_epoch: u32,
        last_epoch: u32,
        at: Timestamp,
    ) -> Result<Option<u64>>;
}
