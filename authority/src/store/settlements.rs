//! Which of a merchant's days are closed, and what is in them?

use async_trait::async_trait;
use protocol::ids::MerchantId;
use protocol::money::Currency;
use protocol::settlement::{RailTotals, Totals};
use protocol::time::Timestamp;
use protocol::wire::history::HistoryEntry;

use super::{Cursor, Result};

/// Close what was booked before `to` and is in no earlier file.
#[derive(Debug, Clone)]
pub struct CloseDay {
    pub merchant: MerchantId,
    /// The business day, YYYY-MM-DD, and its time zone.
    pub day: String,
    pub zone: String,
    pub to: Timestamp,
    /// An operator's name, or the authority's own.
    pub by: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseOutcome {
    Closed(Box<Settlement>),
    /// Nothing was booked.
    Nothing,
    /// There is no such merchant, or its last cut is as late.
    Refused,
    /// The file is not the change of the ledger account: nothing was closed.
    Differs {
        file_minor: i64,
        ledger_minor: i64,
    },
}

/// A closed day. It never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub merchant: MerchantId,
    pub payee_name: String,
    /// From 1, without gaps.
    pub number: u64,
    pub day: String,
    pub zone: String,
    pub from: Timestamp,
    pub to: Timestamp,
    pub currency: Currency,
    pub totals: Totals,
    pub rails: Vec<RailTotals>,
    pub closed_by: String,
    pub closed_at: Timestamp,
    /// Compact JWS once it was signed and stored.
    pub statement: Option<String>,
}

/// A merchant with something that is in no file yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    pub merchant: MerchantId,
    /// Its own time zone, if it has one.
    pub zone: Option<String>,
    /// Its earliest booking in no file.
    pub oldest: Timestamp,
    /// Its last cut.
    pub last_cut: Option<Timestamp>,
}

#[async_trait]
pub trait Settlements {
    /// In one transaction: the bookings take the next number, each is compared with its ledger entry,
    /// the totals with the ledger account, and the day stays closed; or nothing.
    async fn close_day(&self, close: CloseDay) -> Result<CloseOutcome>;

    /// In order of merchant, after `after`.
    async fn unsettled(&self, after: Option<MerchantId>, limit: u32) -> Result<Vec<Unsettled>>;

    /// Newest first, before number `before`.
    async fn settlements(
        &self,
        merchant: MerchantId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Settlement>>;

    async fn settlement(&self, merchant: MerchantId, number: u64) -> Result<Option<Settlement>>;

    /// Its lines after `after`, oldest first, each with its place.
    async fn settlement_lines(
        &self,
        merchant: MerchantId,
        number: u64,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<Vec<(Cursor, HistoryEntry)>>;

    /// Stores the signed statement and answers the one that is stored: the first stays for ever.
    async fn store_statement(
        &self,
        merchant: MerchantId,
        number: u64,
        jws: String,
        at: Timestamp,
    ) -> Result<String>;

    /// Closed days without their statement.
    async fn statements_due(&self, limit: u32) -> Result<Vec<Settlement>>;
}
