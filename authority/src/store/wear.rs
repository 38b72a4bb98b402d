//! How worn are the tags, and how slow are the windows that spare them?

use async_trait::async_trait;
use protocol::ids::{MerchantId, TerminalId};
use protocol::time::Timestamp;
use protocol::wear::TagWear;
use protocol::window::NfcWindows;

use super::Result;

/// The tag that a terminal wrote last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WornTag {
    pub terminal: TerminalId,
    pub uid: String,
    /// Cycles that were counted before a terminal lost its count are in it.
    pub wear: TagWear,
    /// When it was written.
    pub at: Timestamp,
    /// Reckoned then.
    pub replace_by: Timestamp,
    /// Since when only the margin is left.
    pub due_since: Option<Timestamp>,
}

/// A tag that is to be replaced, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingTag {
    pub tag: WornTag,
    pub merchant: MerchantId,
    /// Where the terminal stands, in the merchant's words.
    pub name: String,
}

/// Where the next page of ending tags begins.
pub type EndingAfter = (Timestamp, TerminalId);

/// The windows of the nfc channel from an epoch on; `None`: as the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub from_epoch: u32,
    pub windows: Option<NfcWindows>,
}

/// What a schedule does to the pace of the epochs that nobody was told of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// They get these windows; `None`: as the policy says.
    Set(Option<NfcWindows>),
    /// The terminal follows no paces: none is left from the schedule's first epoch on.
    Ended,
}

#[async_trait]
pub trait Wear {
    /// The tag of this terminal, if it told of one.
    async fn worn_tag(&self, terminal: TerminalId) -> Result<Option<WornTag>>;

    /// The tags of the terminals from `first` to `last`, in order of terminal.
    async fn worn_tags(&self, first: TerminalId, last: TerminalId) -> Result<Vec<WornTag>>;

    /// Tags of terminals that are not banned, to be replaced at `until` at the latest, in order of that
    /// time and terminal, behind `after`.
    async fn ending_tags(
        &self,
        until: Timestamp,
        after: Option<EndingAfter>,
        limit: u32,
    ) -> Result<Vec<EndingTag>>;

    /// How many tags of terminals that are not banned are to be replaced between each of `until` and the
    /// one before, then how many later; `until` rises.
    async fn count_ending_tags(&self, until: Vec<Timestamp>) -> Result<Vec<u64>>;

    /// The paces of a terminal from the one in force shortly before now on, in rising order.
    async fn paces(&self, terminal: TerminalId) -> Result<Vec<Pace>>;
}
