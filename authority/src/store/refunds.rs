//! What was given back, and what is about to be?

use async_trait::async_trait;
use protocol::ids::{ChargeId, ReceiptId, RefundId, TerminalId};
use protocol::money::Money;
use protocol::time::Timestamp;
use uuid::Uuid;

use super::{Payment, Result};

/// Give back a part of what was paid for a charge, or all of it.
#[derive(Debug, Clone)]
pub struct NewRefund {
    pub id: RefundId,
    pub charge: ChargeId,
    pub amount: Money,
    pub reason: Option<String>,
    pub asker: RefundAsker,
    /// Of its ledger entries, and its key at an outside rail.
    pub movement: Uuid,
    pub receipt: ReceiptId,
    /// The merchant's business day.
    pub day: String,
    /// The most on that day, minor units, unless the merchant's terms say otherwise.
    pub day_max_minor: i64,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundAsker {
    Terminal(TerminalId),
    /// By name.
    Operator(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundOutcome {
    /// Given back now; its receipt is due.
    Refunded(Box<Refund>),
    /// It counts, and an outside rail is to be asked.
    Asked(Box<Refund>),
    /// The same id with the same contents: the same refund, as it stands.
    Already(Box<Refund>),
    /// The same id with other contents, or of another merchant.
    Differs,
    /// There is none, or it is another merchant's.
    ChargeUnknown,
    /// Nothing was paid for it.
    Unpaid,
    Currency,
    /// It was paid from the built-in ledger, by a profile that is deleted: nobody could have the money.
    PayerGone,
    /// So much is left of the payment, minor units.
    TooMuch {
        left_minor: i64,
    },
    /// So much is left of the day's cap, minor units.
    OverCap {
        left_minor: i64,
    },
    /// Unknown or banned.
    TerminalRefused,
}

/// A refund with all its receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    pub id: RefundId,
    pub payment: Payment,
    pub movement: Uuid,
    pub receipt: ReceiptId,
    pub amount: Money,
    pub reason: Option<String>,
    pub asker: RefundAsker,
    pub state: RefundState,
    /// Calls of the rail so far.
    pub tries: u32,
    pub asked_at: Timestamp,
    /// Compact JWS once it was signed and stored.
    pub receipt_jws: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundState {
    Asked,
    Refunded {
        at: Timestamp,
        rail_reference: String,
    },
    Declined {
        at: Timestamp,
        reason: String,
    },
}

/// What an outside rail said, or did not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundStep {
    Refunded {
        reference: String,
    },
    /// Nothing is given back, and what counted counts no more.
    Declined {
        reason: String,
    },
    /// No answer, or none that counts: asked again then.
    Unanswered {
        next_at: Timestamp,
    },
}

#[async_trait]
pub trait Refunds {
    /// In one transaction: never more than was paid and than the day's cap, audit row; for a payment of
    /// the built-in ledger the entries, the booking and `receipt_due`, too.
    async fn refund(&self, refund: NewRefund) -> Result<RefundOutcome>;

    async fn refund_of(&self, id: RefundId) -> Result<Option<Refund>>;

    /// Takes a step if the refund still waits for it; answers the refund as it stands then.
    async fn step_refund(
        &self,
        id: RefundId,
        step: RefundStep,
        at: Timestamp,
    ) -> Result<Option<Refund>>;

    /// Refunds that this rail is to be asked about, the longest due first.
    async fn refunds_due(&self, rail: String, now: Timestamp, limit: u32) -> Result<Vec<Refund>>;

    /// The rails that have not said of every refund.
    async fn rails_that_owe_refunds(&self) -> Result<Vec<String>>;

    /// The oldest first.
    async fn refunds_of_charge(&self, charge: ChargeId) -> Result<Vec<Refund>>;

    /// Stores the signed receipt and answers the one that is stored: the first stays for ever.
    async fn store_refund_receipt(
        &self,
        refund: RefundId,
        jws: String,
        at: Timestamp,
    ) -> Result<String>;

    /// Refunds whose receipt was never stored, oldest first.
    async fn refund_receipts_due(&self, limit: u32) -> Result<Vec<Refund>>;
}
