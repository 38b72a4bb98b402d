//! What is behind us for ever, and when does it go?
//!
//! A token that was spent must be remembered as long as anybody could accept it again. The fence says from
//! which epoch on that is so; only what lies behind it is deleted. What a terminal saw must be remembered as long as
//! it could tell it again: a fence of its own says from when on it is taken.

use async_trait::async_trait;
use protocol::time::Timestamp;

use super::Result;

/// So many epochs are kept, and go, together.
pub const DAY_EPOCHS: u32 = 24;
/// Most rows that are deleted in one transaction, where they cannot go as a whole.
pub const FORGET_ROWS_MAX: u32 = 2_000;

#[async_trait]
pub trait Retention {
    /// No token of an epoch below it is accepted.
    async fn epoch_fence(&self) -> Result<u32>;

    /// From its commit on no token of an epoch below is accepted. It never goes down: the answer is the
    /// fence that is in force.
    async fn raise_epoch_fence(&self, below: u32, at: Timestamp) -> Result<u32>;

    /// Deletes spent tokens and turns behind the fence: a whole day where a day is kept apart, else at most
    /// [`FORGET_ROWS_MAX`] rows. False once nothing is left there.
    async fn forget_behind_fence(&self) -> Result<bool>;

    /// Makes a place for one more day of those from the epoch's day to the one `days` later, or for a day
    /// that has rows and no place; true if one was lacking. Where days are not kept apart none is.
    async fn make_day(&self, epoch: u32, days: u32) -> Result<bool>;

    /// Events of terminals from before it are not kept.
    async fn report_fence(&self) -> Result<Timestamp>;

    /// From its commit on no event from before `below` is kept. It never goes down: the answer is the fence that
    /// is in force.
    async fn raise_report_fence(&self, below: Timestamp, at: Timestamp) -> Result<Timestamp>;

    /// Deletes events behind their fence, at most [`FORGET_ROWS_MAX`]; false once none is left whose id, too, is
    /// from before it.
    async fn forget_reports(&self) -> Result<bool>;

    /// Spent tokens and turns that lie in no day's place, counted up to [`FORGET_ROWS_MAX`].
    async fn rows_without_day(&self) -> Result<u32>;
}
