//! Who paid, and where is the receipt?

use async_trait::async_trait;
use protocol::charge::Approved;
use protocol::ids::{AccountId, ClaimId, PaymentId, ReceiptId, TerminalId};
use protocol::time::Timestamp;
use protocol::token::WindowId;

use super::{Barred, Intent, PersonKey, RailKey, Result, SpendRules, Strength};

/// Carry out an approval: on the built-in ledger at once, on any other rail by an intent.
#[derive(Debug, Clone)]
pub struct Pay {
    pub payment: PaymentId,
    pub receipt: ReceiptId,
    pub approved: Approved,
    pub person: PersonKey,
    /// The service account to pay from; none: the default one, else the oldest of the currency.
    pub account: Option<AccountId>,
    /// How strongly the shopper is known, and what is allowed in this currency.
    pub strength: Strength,
    pub rules: SpendRules,
    /// What an outside rail would be asked with.
    pub key: RailKey,
    pub at: Timestamp,
    /// Windows that advance by one, because the charge ends.
    pub moved: Vec<WindowId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayOutcome {
    /// Paid now; its receipt is due.
    Paid(Box<Payment>),
    /// This claim was paid by the same person, the same amount, before.
    Already(Box<Payment>),
    /// An outside rail has to be asked now; the claim waits for it.
    Begun(Box<Intent>),
    /// This account was asked before for this claim, and is not asked again: so it stands.
    Asked(Box<Intent>),
    /// The claim is released, its time is over, or somebody else paid it.
    ClaimOver,
    /// None to pay from: not theirs, closed, or of another currency.
    NoAccount,
    FundsShort,
    /// A limit, a lock, or a sign-in that is not enough.
    Barred(Barred),
    /// The account may not pay so much at once, or in this month.
    CapReached,
    /// Banned since the claim.
    TerminalRefused,
}

/// A payment with all a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub id: PaymentId,
    pub receipt: ReceiptId,
    pub approved: Approved,
    pub payee_name: String,
    /// The payer's pseudonym towards this merchant.
    pub pseudonym: String,
    pub paid_at: Timestamp,
    /// What it was paid from.
    pub service_account: AccountId,
    /// What moved the money: the ledger, or a rail of the configuration.
    pub rail: String,
    /// What the rail calls it.
    pub rail_reference: String,
    /// Compact JWS once it was signed and stored.
    pub receipt_jws: Option<String>,
}

/// The signed receipt of a payment that the store has answered.
#[derive(Debug, Clone)]
pub struct NewReceipt {
    pub(super) payment: PaymentId,
    pub(super) receipt: ReceiptId,
    pub(super) terminal: TerminalId,
    pub(super) paid_at: Timestamp,
    /// Compact JWS.
    pub(super) jws: String,
    pub(super) at: Timestamp,
}

impl NewReceipt {
    pub fn of(payment: &Payment, jws: String, at: Timestamp) -> Self {
        Self {
            payment: payment.id,
            receipt: payment.receipt,
            terminal: payment.approved.claimed().terminal,
            paid_at: payment.paid_at,
            jws,
            at,
        }
    }
}

#[async_trait]
pub trait Payments {
    /// In one transaction. From the ledger: its entries (never negative), claim and charge paid, payment
    /// and `receipt_due`, audit row, revision. From any other account: the intent, before its rail is
    /// asked.
    async fn pay(&self, pay: Pay) -> Result<PayOutcome>;

    /// Stores a receipt, and answers the one that is stored: the first stays for ever.
    async fn store_receipt(&self, receipt: NewReceipt) -> Result<String>;

    async fn payment_of(&self, claim: ClaimId) -> Result<Option<Payment>>;

    /// Payments whose receipt was never stored, oldest first.
    async fn receipts_due(&self, limit: u32) -> Result<Vec<Payment>>;
}
