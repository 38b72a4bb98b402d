//! What is a merchant told by webhook? At least once, in order for each charge.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::ids::{MerchantId, NoticeId};
use crate::time::Timestamp;
use crate::wire::history::HistoryEntry;

/// The body of a webhook's request: the same bytes with every try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same id again is the same notice: take it once.
    pub notice: NoticeId,
    pub merchant: MerchantId,
    /// When it happened.
    pub at: Timestamp,
    #[serde(flatten)]
    pub what: Noticed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event")]
pub enum Noticed {
    #[serde(rename = "payment.paid")]
    Paid {
        entry: HistoryEntry,
        /// Compact JWS, `typ` m2key-receipt+jwt.
        receipt: String,
    },
    #[serde(rename = "payment.refunded")]
    Refunded {
        entry: HistoryEntry,
        /// Compact JWS, `typ` m2key-refund+jwt.
        receipt: String,
    },
    #[serde(rename = "settlement.closed")]
    Closed {
        number: u64,
        /// Compact JWS, `typ` m2key-settlement+jwt.
        statement: String,
    },
}
