//! What was paid and given back? The shopper and the merchant read the same facts.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{ChargeId, PaymentId, ReceiptId, RefundId, TerminalId};
use crate::money::{Currency, Money};
use crate::receipt::Payee;
use crate::settlement::{RailTotals, Totals};
use crate::time::Timestamp;
use crate::token::Channel;

/// `GET`: on the public listener the shopper's, on the agents' listener the terminal's.
pub const HISTORY_PATH: &str = "/v1/history";
/// `GET` on the agents' listener: how the terminal's business day stands.
pub const DAY_PATH: &str = "/v1/day";
/// Most entries of one page, and how many there are unless fewer are asked for.
pub const HISTORY_MAX: u32 = 100;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// `next` of the page before; the newest without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryPage {
    pub entries: Vec<HistoryEntry>,
    /// Where the next page begins; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One payment, or one refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryEntry {
    pub kind: EntryKind,
    pub at: Timestamp,
    pub amount: Money,
    pub payee: Payee,
    /// Where it was paid, or the refund asked for.
    pub terminal: TerminalId,
    /// Of the token that was spent for the payment.
    pub channel: Channel,
    /// Of the payer towards this payee.
    pub pseudonym: String,
    pub charge: ChargeId,
    /// The till's own number for the sale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The payment itself, or the one that is given back.
    pub payment: PaymentId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund: Option<RefundId>,
    /// Of this payment or this refund.
    pub receipt: ReceiptId,
    pub rail: String,
    pub rail_reference: String,
    /// Of a payment: what has been given back of it, or is being, in minor units.
    pub refunded_minor: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EntryKind {
    Payment,
    Refund,
}

/// One terminal's business day so far. Nothing is closed by looking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DayReport {
    pub terminal: TerminalId,
    pub payee: Payee,
    /// YYYY-MM-DD in `zone`.
    pub day: String,
    pub zone: String,
    pub from: Timestamp,
    pub until: Timestamp,
    pub currency: Currency,
    /// Of this day and terminal alone: opening is zero.
    pub totals: Totals,
    pub rails: Vec<RailTotals>,
}
