//! How often was a typed code guessed wrong?

use async_trait::async_trait;
use protocol::time::{Millis, Timestamp};
use protocol::token::WindowId;

use super::{PersonKey, Result};

/// How far back a person's misses count.
pub const PERSON_SPAN_MS: Millis = 15 * 60 * 1000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MissCount {
    /// Of this person since `since`.
    pub person: u32,
    /// At this terminal in this window, by anybody.
    pub window: u32,
}

#[async_trait]
pub trait Misses {
    async fn misses(
        &self,
        person: PersonKey,
        window: WindowId,
        since: Timestamp,
    ) -> Result<MissCount>;

    /// Records one miss and answers the counts with it.
    async fn add_miss(
        &self,
        person: PersonKey,
        window: WindowId,
        since: Timestamp,
        at: Timestamp,
    ) -> Result<MissCount>;
}
