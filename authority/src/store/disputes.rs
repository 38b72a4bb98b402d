//! What happened, from the token to the last refund, in one line of time?

use std::collections::BTreeMap;

use async_trait::async_trait;
use protocol::ids::{ChargeId, MerchantId, TerminalId};
use protocol::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Result;

/// Taps this long before the first claim and after the last are shown: a terminal's clock and its tag's
/// counter are not exact.
pub const TAPS_AROUND_MS: Millis = 10 * 60_000;
/// Most reports of taps in one time line.
pub const TAPS_MAX: u32 = 100;

/// Everything that is kept of one charge. Persons only by their pseudonym towards the merchant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    pub charge: ChargeId,
    pub merchant: MerchantId,
    pub payee_name: String,
    pub terminal: TerminalId,
    /// Oldest first.
    pub moments: Vec<Moment>,
}

/// One thing that happened, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub at: Timestamp,
    pub source: Source,
    pub what: String,
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// By its clock; reported, and not proven.
    Terminal,
    /// Decided and recorded here.
    Authority,
    /// As an outside rail answered.
    Rail,
    /// As the merchant's server answered.
    Merchant,
}

#[async_trait]
pub trait Disputes {
    /// By the id of a charge, a claim, a payment, a refund, or a receipt of either.
    async fn dispute(&self, id: Uuid) -> Result<Option<Dispute>>;
}
