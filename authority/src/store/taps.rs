//! Do the reads of a terminal's tag and the claims on nfc fit together?
//!
//! ```text
//! report ─▶ tag_watches: where the counter stood ─▶ tag_links: reads while one link was on the tag
//!                                                └▶ tap_days: reads of one day
//! later ──▶ a link that another one replaced, beside its claims ─▶ alarm, or nothing
//!           a day that has changed, beside its claims and the days before
//! ```
//! What rings, and what does not, is decided in [`rules`]; docs/decisions/0027 says why.

use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};

use super::Result;

pub mod rules;

/// A link is judged this long after the terminal reported another one on its tag: until then a phone that
/// read it may still claim.
pub const JUDGE_AFTER_MS: Millis = 5 * 60_000;
/// A day that has changed is judged at most this often.
pub const JUDGE_DAY_EVERY_MS: Millis = 10 * 60_000;
/// Links and their reads are kept this long, for disputes.
pub const LINKS_KEPT_MS: Millis = 40 * 24 * 3_600_000;
/// A closed alarm is kept this long after it was closed; what was found stays in the audit chain.
pub const CLOSED_ALARMS_KEPT_MS: Millis = 400 * 24 * 3_600_000;
/// A tag that nobody could write for longer is not judged.
pub const SPAN_EPOCHS_MAX: u32 = 14 * 24;
/// The terminal's clock is believed for the day of a report if it is within this long before, and a day
/// after, the moment the report comes.
pub const LATE_MAX_MS: Millis = 40 * 24 * 3_600_000;

/// What does not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TagAlarmKind {
    /// More claims on nfc than reads of the tag.
    ClaimsWithoutTaps,
    /// A tag's counter, which only rises, stood lower than before.
    CounterBack,
    /// Spent links were brought again from other networks.
    SecondPlace,
    /// Many more reads than claims.
    TapsWithoutClaims,
}

/// One alarm of a terminal and day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagAlarm {
    pub terminal: TerminalId,
    pub kind: TagAlarmKind,
    /// Days since 1970, UTC.
    pub day: i64,
    /// Claims, steps back, links or reads, by kind.
    pub times: u64,
    pub reason: String,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub closed: Option<Closed>,
}

/// An operator has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub at: Timestamp,
    pub by: String,
    pub note: String,
}

/// What one run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Links and days that were judged, and links, days and closed alarms that were forgotten.
    pub done: u32,
    /// Whether as many as the limit were due: there may be more.
    pub more: bool,
}

#[async_trait]
pub trait Taps {
    /// Whether anything is due at `now`.
    async fn taps_due(&self, now: Timestamp) -> Result<bool>;

    /// Judges what is due at `now` and forgets what is old, at most `limit` of each, in one transaction.
    async fn reconcile_taps(&self, now: Timestamp, limit: u32) -> Result<Reconciled>;

    /// So many spent links of each terminal were brought again from another network.
    async fn add_second_places(&self, seen: Vec<(TerminalId, u32)>, at: Timestamp) -> Result<()>;

    /// All, or those of one terminal; latest first.
    async fn tag_alarms(
        &self,
        terminal: Option<TerminalId>,
        with_closed: bool,
        limit: u32,
    ) -> Result<Vec<TagAlarm>>;

    /// How many are open, by kind; kinds without any are left out.
    async fn open_tag_alarms(&self) -> Result<Vec<(TagAlarmKind, u64)>>;

    /// None if there is no such alarm. Twice as much of it on the same day opens it again.
    async fn close_tag_alarm(
        &self,
        terminal: TerminalId,
        kind: TagAlarmKind,
        day: i64,
        note: String,
        at: Timestamp,
    ) -> Result<Option<TagAlarm>>;
}

impl TagAlarmKind {
    pub const ALL: [Self; 4] = [
        Self::ClaimsWithoutTaps,
        Self::CounterBack,
        Self::SecondPlace,
        Self::TapsWithoutClaims,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::ClaimsWithoutTaps => "claims-without-taps",
            Self::CounterBack => "counter-back",
            Self::SecondPlace => "second-place",
            Self::TapsWithoutClaims => "taps-without-claims",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
