//! Which tags sign their links, whose are they, and which of their taps count?

use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::sun::{TagUid, Tap};
use protocol::time::Timestamp;

use super::Result;

/// Most sets of keys whose links count at one terminal. Each costs two macs of the HSM for every link
/// that its tags sign.
pub const TAGS_PER_TERMINAL_MAX: u32 = 8;

/// One tag with one set of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRecord {
    pub uid: TagUid,
    pub key_version: u8,
    pub terminal: TerminalId,
    /// Kid of the key from which its keys follow.
    pub master: String,
    pub made_at: Timestamp,
    /// Its read counter at its last write: a link counts only above it.
    pub read_floor: u32,
    /// Since when it is known to have these keys; none: nobody has seen it yet.
    pub signing_since: Option<Timestamp>,
    pub written_at: Option<Timestamp>,
    /// Since when its links are refused, and why.
    pub retired: Option<(Timestamp, String)>,
    /// How many of its taps spent a token.
    pub taps: u64,
}

/// Whose links count at a terminal, and from which key its keys follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountingTag {
    pub uid: TagUid,
    pub key_version: u8,
    pub master: String,
}

/// Keys that an operator is about to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTag {
    pub uid: TagUid,
    pub key_version: u8,
    pub terminal: TerminalId,
    pub master: String,
    pub at: Timestamp,
}

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagAdded {
    Added,
    /// Somebody else had this version first, or the master key has changed: look again.
    Moved,
    /// Unknown or banned.
    TerminalRefused,
    /// It signs at another terminal: an operator retires it there first.
    SignsElsewhere,
    /// The terminal has [`TAGS_PER_TERMINAL_MAX`] sets of keys that count.
    TooMany,
}

/// A tap that a mac has proved, by the version of the keys that it proved itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedTap {
    pub tap: Tap,
    pub key_version: u8,
}

/// Why a tap, or a link of a tag without one, spends no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TapRefusal {
    #[error("the terminal has a tag that signs, and this link is not signed")]
    Unsigned,
    #[error("no keys of this version were made for this tag")]
    Unknown,
    #[error("the tag is another terminal's")]
    Elsewhere,
    #[error("the tag is retired")]
    Retired,
    #[error("the key from which the tag's keys follow is not believed")]
    Disbelieved,
    #[error("the tag was written since it was read")]
    Stale,
    #[error("a link with this counter has spent a token")]
    Repeated,
}

#[async_trait]
pub trait Tags {
    /// The version that the next keys of this tag have, above those that are here and `above`; none if it
    /// has had all there are.
    async fn next_key_version(&self, uid: TagUid, above: u8) -> Result<Option<u8>>;

    /// Keys were made: its links count from now on. Links that they signed with earlier keys do so until
    /// the tag is known to have these.
    async fn add_tag(&self, tag: NewTag) -> Result<TagAdded>;

    /// Whose links count at a terminal, the latest first.
    async fn tags_of(&self, terminal: TerminalId) -> Result<Vec<CountingTag>>;

    /// Every set of keys that a tag ever had here, the latest first.
    async fn tag(&self, uid: TagUid) -> Result<Vec<TagRecord>>;

    /// All tags, or those of one terminal, by their numbers, after `after`.
    async fn tags(
        &self,
        terminal: Option<TerminalId>,
        after: Option<(TagUid, u8)>,
        limit: u32,
    ) -> Result<Vec<TagRecord>>;

    /// Links of this tag are refused from the commit on, with whichever keys. How many sets of keys
    /// counted before; none for a tag that never had any.
    async fn retire_tag(&self, uid: TagUid, because: String, at: Timestamp) -> Result<Option<u32>>;

    /// What a claim with a token of `terminal`'s tag would be refused for now, with this tap or without.
    async fn tap_refusal(
        &self,
        terminal: TerminalId,
        tap: Option<KeyedTap>,
    ) -> Result<Option<TapRefusal>>;
}
