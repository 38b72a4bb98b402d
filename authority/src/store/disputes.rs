//! What happened, from the token to the last refund, in one line of time?

use std::collections::BTreeMap;

use async_trait::async_trait;
use protocol::ids::{
    AccountId, ChargeId, ClaimId, MerchantId, PaymentId, ReceiptId, RefundId, TerminalId,
};
use protocol::money::Money;
use protocol::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{KeptApproval, Result, StoredRow};

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
    /// What was kept of it to be verified again.
    #[serde(skip)]
    pub kept: Option<Box<Kept>>,
    /// What that proves now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// What evidence shows when it is verified again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub holds: bool,
    /// What it proves if it holds, in words.
    pub proves: String,
    /// Why it does not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// Evidence as it lies in the database, and what is known beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub evidence: Evidence,
    /// Which claim it was kept with.
    pub claim: ClaimId,
    /// The payment that was asked for; none: nothing came of the claim.
    pub asked: Option<AskedPayment>,
    /// What the audit chain recorded when it was kept.
    pub rows: Vec<StoredRow>,
}

/// A payment, or an intent of one, as it lies in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedPayment {
    pub payment: PaymentId,
    pub amount: Money,
    pub payee: MerchantId,
    pub account: AccountId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A wallet's key signed it.
    Approval {
        approval: KeptApproval,
        at: Timestamp,
    },
    /// A passkey signed it.
    Assertion(KeptAssertion),
    /// A phone replied with the number that was sent to it.
    Reply(KeptReply),
    /// The audit chain has rows about evidence that is not there.
    Gone,
    /// A sign-in was enough.
    SignInAlone,
    Receipt {
        receipt: ReceiptId,
        jws: String,
    },
    RefundReceipt {
        refund: RefundId,
        amount: Money,
        jws: String,
    },
}

/// What a passkey signed for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAssertion {
    pub passkey: Vec<u8>,
    /// None: the passkey is not known any more.
    pub public_point: Option<Vec<u8>>,
    pub nonce: [u8; 32],
    pub authenticator_data: Vec<u8>,
    pub client_data: Vec<u8>,
    pub signature: Vec<u8>,
}

/// Where a talk by SMS stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReply {
    pub talk: Uuid,
    pub stage: String,
    pub offered: Option<Money>,
    pub wrong: u32,
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
