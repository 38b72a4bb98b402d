//! Which terminals are there, and under which seeds?

use async_trait::async_trait;
use hsm::{SealedSeed, SealingKeys};
use protocol::ids::{MerchantId, TerminalId};
use protocol::time::Timestamp;

use super::{JoinToken, KeyRecord, Pace, Pacing, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    pub id: TerminalId,
    pub merchant: MerchantId,
    /// Where it stands, in the merchant's words.
    pub name: String,
    pub status: TerminalStatus,
    /// Version of the newest seed; a planned one may count only from a later epoch on.
    pub version: u32,
    /// The last schedule's sequence, 0 before the first.
    pub sequence: u64,
    /// The last epoch any schedule held.
    pub issued_until: Option<u32>,
    /// Every schedule it holds is void until it has fetched one from the present on.
    pub refetch: bool,
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

/// What some epochs of a terminal are judged by, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judging {
    pub terminal: Terminal,
    /// As [`super::Wear::paces`] answers them.
    pub paces: Vec<Pace>,
    /// Each seed in force, with its epochs; an epoch before the first seed stands nowhere.
    pub seeds: Vec<(Seed, Vec<u32>)>,
}

/// A schedule that is about to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSchedule {
    pub terminal: TerminalId,
    /// First and last epoch, each with the seed version its key was derived from.
    pub first: (u32, u32),
    pub last: (u32, u32),
    /// From the present epoch on, so that it replaces whatever the terminal holds.
    pub whole: bool,
    pub pacing: Pacing,
    /// The key that will sign it.
    pub kid: String,
    pub at: Timestamp,
}

/// Whether it may be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheduled {
    /// Under this sequence; these paces are recorded, which every process judges by.
    Under { sequence: u64, paces: Vec<Pace> },
    /// Unknown or banned.
    Refused,
    /// A seed was replaced since the keys were derived: derive them again.
    SeedMoved,
}

#[async_trait]
pub trait Terminals {
    /// The life of this database, an input of every epoch key.
    async fn generation(&self) -> Result<u32>;

    /// Records a key; false if its kid or label is taken.
    async fn add_key(&self, key: KeyRecord) -> Result<bool>;

    async fn keys(&self) -> Result<Vec<KeyRecord>>;

    /// Adds a terminal with its first seed and join token; false if the id is taken, or the seed is
    /// under a key that was replaced since.
    async fn add_terminal(
        &self,
        terminal: Terminal,
        seed: Seed,
        join_token: JoinToken,
    ) -> Result<bool>;

    async fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>>;

    /// In order of id, after `after`.
    async fn terminals(&self, after: Option<TerminalId>, limit: u32) -> Result<Vec<Terminal>>;

    /// What these epochs, which rise, are judged by; none of a terminal that is not known.
    async fn judging(&self, terminal: TerminalId, epochs: Vec<u32>) -> Result<Option<Judging>>;

    /// Every seed of the terminals with the highest numbers, from the last down; at most so many.
    async fn last_seeds(&self, limit: u32) -> Result<Vec<Seed>>;

    /// Bans: from this commit on tokens, claims and schedules of the terminal are refused, its
    /// charge is ended and its held claim released, and its certificates are revoked. None if there is no such terminal; banning twice
    /// answers the first ban.
    async fn ban_terminal(
        &self,
        id: TerminalId,
        reason: String,
        at: Timestamp,
    ) -> Result<Option<Terminal>>;

    /// Takes the next schedule sequence and records the horizon.
    async fn record_schedule(&self, schedule: NewSchedule) -> Result<Scheduled>;
}
