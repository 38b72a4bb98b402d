//! What did the terminal see? At least once, with ids that make a repeat harmless.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::EventId;
use crate::time::Timestamp;
use crate::token::Channel;
use crate::wear::TagWear;

/// `POST` a batch here.
pub const REPORTS_PATH: &str = "/v1/reports";
/// Most events in one batch.
pub const REPORTS_MAX: usize = 256;
/// Largest body on the agents' listener, in bytes.
pub const AGENT_BODY_MAX: u64 = 262_144;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    pub events: Vec<TerminalEvent>,
}

/// All ids that are now safe here; the terminal forgets them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportResponse {
    pub stored: Vec<EventId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalEvent {
    pub id: EventId,
    pub at: Timestamp,
    #[serde(flatten)]
    pub what: Seen,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Seen {
    /// Phones read the tag this often since the last visit.
    Tap {
        tag_uid: String,
        count: u32,
        /// The window that was on the tag.
        #[serde(skip_serializing_if = "Option::is_none")]
        window: Option<SeenWindow>,
        /// Of a visit that wrote nothing; otherwise `TagWritten` has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counter: Option<TagCounter>,
    },
    /// The tag was written and read back.
    TagWritten {
        tag_uid: String,
        pages: u32,
        window: SeenWindow,
        /// Of a tag that signs its links, where the write programmed something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signs: Option<TagSigns>,
        /// How worn it is after that; an agent of before does not say.
        #[serde(skip_serializing_if = "Option::is_none")]
        wear: Option<TagWear>,
        /// None: tag or reader do not tell it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counter: Option<TagCounter>,
    },
    /// The tag could not be written, in words.
    TagFailed { reason: String },
}

/// What a tag that signs its links said under its key, at the end of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagSigns {
    /// The version of its keys.
    pub key_version: u8,
    /// How often phones had read it: whatever was read before has a lower or the same count.
    pub counter: u32,
}

/// Where a tag's own counter of reads stood in one visit, so that whoever compares visits sees the reads
/// in between, whatever was not told of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagCounter {
    /// When the visit began. None: the terminal knows no earlier value of this tag, or its own reads may be
    /// among those since, and a count begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<u32>,
    /// When it ended.
    pub left: u32,
}

/// What the terminal had on the tag, without the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenWindow {
    pub channel: Channel,
    pub version: u32,
    pub epoch: u32,
    pub window: u16,
    pub turn: u16,
}
