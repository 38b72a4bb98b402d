//! Is this database the latest, and what makes a restored one safe?
//!
//! The journal outside holds a part of what was acknowledged here. Whatever stands there and not here
//! was lost by a restore; whatever stands here and not there was cut off by a crash, and is written.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::audit::Head;
use protocol::ids::TerminalId;
use protocol::sun::TagUid;
use protocol::time::Timestamp;

use super::{Certificate, KeyRecord, Result, StoredCheckpoint};
use crate::journal::{Fact, Known, Last, NumberedPolicy};

/// How this database and a journal differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Of the database.
    pub generation: u32,
    /// The last line of this node's journal that the database heard of.
    pub wrote: Option<Last>,
    /// Journalled and not here, in the order of their kinds.
    pub missing: Missing,
    /// Here and not journalled.
    pub unjournalled: Vec<(Timestamp, Fact)>,
}

/// What a restored database does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    pub bans: Vec<TerminalId>,
    /// Serials.
    pub revocations: Vec<String>,
    /// Labels of keys whose signatures are kept.
    pub keys: Vec<String>,
    /// Labels of keys that were tainted.
    pub taints: Vec<String>,
    /// Terminals whose seed a compromise replaced.
    pub seeds: Vec<TerminalId>,
    /// Profiles of shoppers that were locked, by random id.
    pub locks: Vec<String>,
    /// Passkeys that were removed, by SHA-256.
    pub passkeys: Vec<String>,
    /// Tags that were retired, with keys that count here or that are not here.
    pub tags: Vec<TagUid>,
    /// Operators who were revoked.
    pub operators: Vec<String>,
    /// A policy that was set.
    pub policy: Option<NumberedPolicy>,
    /// Heads that the chains here do not contain.
    pub heads: Vec<Head>,
    /// Issuing CAs whose list numbers are behind.
    pub crls: Vec<String>,
}

/// A new generation, and what the journal knows that must hold in it.
#[derive(Debug, Clone)]
pub struct Raise {
    /// Above every generation that anybody knows of.
    pub generation: u32,
    pub known: Arc<Known>,
    /// Bans of this generation and later ones are carried out; earlier ones were, when it was begun.
    pub since: u32,
    pub reason: String,
    /// Who asked for it.
    pub by: String,
    /// Made in the HSM: they take the place of active keys that the journal knows to be tainted.
    pub successors: Vec<KeyRecord>,
    /// Of the lost time, and still in the HSM: they verify what they signed, and sign no more.
    pub found: Vec<KeyRecord>,
}

/// What a raise did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raised {
    pub was: u32,
    /// Terminals that are banned again.
    pub bans: Vec<TerminalId>,
    /// Certificates that are revoked again.
    pub revocations: u64,
    /// Labels of keys that are tainted again.
    pub keys: Vec<String>,
    /// Terminals that are refused until they have a new seed.
    pub seeds: u64,
    /// Profiles of shoppers that are locked again.
    pub locks: u64,
    /// Passkeys that are removed again.
    pub passkeys: u64,
    /// Tags that are retired again.
    pub tags: Vec<TagUid>,
    /// Operators who are revoked again.
    pub operators: Vec<String>,
    /// Whether a consent policy was lost, and one that is as strict is in force now.
    pub policy: bool,
    /// Join tokens that were still good.
    pub join_tokens: u64,
    /// Charges that were on offer or held, each with its claim.
    pub charges: u64,
    /// Browser sessions that were open.
    pub sessions: u64,
    /// Merchants whose PIN for refunds is to be set again.
    pub pins: u64,
    /// Audit rows that the journal, or a terminal, knew of; what no checkpoint bound is not counted.
    pub lost_rows: u64,
}

/// A raise as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaiseRecord {
    pub generation: u32,
    pub at: Timestamp,
    pub reason: String,
    pub lost_rows: u64,
}

/// What becomes of a terminal's certificate that this database has never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// Recorded as if it had never been lost.
    Yes,
    /// There was no raise since it was issued: it was not issued here.
    NotLost,
    Revoked,
    /// The terminal is not known, banned, or was added after the raise.
    NoTerminal,
    /// A later one of the terminal is known, so this one was superseded or is a copy.
    Older,
    /// Its key is certified for somebody else.
    ForeignKey,
}

#[async_trait]
pub trait Fences {
    async fn differs_from(&self, known: Arc<Known>) -> Result<Difference>;

    /// Remembers a line of the journal, so that a journal without it is noticed.
    async fn remember_journal(&self, last: Last) -> Result<()>;

    /// Raises the generation: whatever the journal knows to be refused is refused again, open join
    /// tokens die, open charges and browser sessions end, PINs for refunds are cleared. None if the generation is not above the present one.
    async fn raise(&self, raise: Raise, at: Timestamp) -> Result<Option<Raised>>;

    /// Latest first.
    async fn raises(&self, limit: u32) -> Result<Vec<RaiseRecord>>;

    /// Takes in a certificate of a terminal that was issued between a backup and the last raise.
    async fn adopt_certificate(&self, certificate: Certificate, at: Timestamp) -> Result<Adopted>;

    async fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>>;
}
