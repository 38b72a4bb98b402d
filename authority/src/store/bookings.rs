//! What moved on whose account, newest first?
//!
//! One row per movement of a merchant's account, in the transaction of its fact. The shopper's history,
//! the merchant's and the settlement files read these rows and no others, so they cannot differ.

use async_trait::async_trait;
use protocol::ids::{MerchantId, ReceiptId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::history::HistoryEntry;
use uuid::Uuid;

use super::{PersonKey, Result};

/// Whose history.
#[derive(Debug, Clone)]
pub enum HistoryOf {
    Person(PersonKey),
    Merchant(MerchantId),
    Terminal(TerminalId),
}

/// A place between two entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub at: Timestamp,
    pub movement: Uuid,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.at.ms(), self.movement.simple())
    }
}

impl std::str::FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> std::result::Result<Self, BadCursor> {
        let (ms, movement) = text.split_once('.').ok_or(BadCursor)?;
        Ok(Self {
            at: Timestamp::from_ms(ms.parse().map_err(|_| BadCursor)?),
            movement: movement.parse().map_err(|_| BadCursor)?,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor that was answered here")]
pub struct BadCursor;

/// What one rail moved, minor units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RailSum {
    pub rail: String,
    /// Payments.
    pub credits: u64,
    pub credit_minor: i64,
    /// Refunds.
    pub debits: u64,
    pub debit_minor: i64,
}

/// What was booked at one terminal within a time.
pub type DayTotals = Vec<RailSum>;

#[async_trait]
pub trait Bookings {
    /// Entries before `before`, newest first, each with its place.
    async fn history(
        &self,
        of: HistoryOf,
        before: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<(Cursor, HistoryEntry)>>;

    /// Sums from `from` to before `until`, by rail.
    async fn booked_at_terminal(
        &self,
        terminal: TerminalId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<DayTotals>;

    /// The stored receipt of this payment or refund, if it is this person's.
    async fn own_receipt(&self, person: PersonKey, receipt: ReceiptId) -> Result<Option<String>>;

    /// The entry of one movement.
    async fn booked(&self, movement: Uuid) -> Result<Option<HistoryEntry>>;
}
