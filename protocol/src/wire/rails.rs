//! What is a bank, a wallet or a carrier asked, when it is a rail, and what does it answer?
//!
//! `POST <url of the rail>/<verb>`, signed ([`crate::http_signature`]) with the authority's request key.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{ChargeId, PaymentId, TerminalId};
use crate::money::Money;
use crate::receipt::Payee;

pub const AUTHORISE: &str = "authorise";
pub const CAPTURE: &str = "capture";
pub const REVERSE: &str = "reverse";
pub const QUERY: &str = "query";
pub const REFUND: &str = "refund";

/// What the signature of a call covers, in this order.
pub const COVERED: [&str; 5] = [
    "@method",
    "@target-uri",
    "content-type",
    "content-digest",
    "idempotency-key",
];
/// Largest call and largest answer, in bytes.
pub const RAIL_BODY_MAX: usize = 4_096;
pub const RAIL_ANSWER_MAX: usize = 16_384;

/// The body of every call about one payment: the same in each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderCall {
    /// Random; the same as `Idempotency-Key`. The rail acts on it once.
    pub key: Uuid,
    pub payment: PaymentId,
    /// The rail's own reference of the account that pays; of an invoice rail, the phone number.
    pub account: String,
    pub amount: Money,
    pub payee: Payee,
    pub terminal: TerminalId,
    pub charge: ChargeId,
}

/// The body of `refund`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundCall {
    /// Of this refund alone, and the same as `Idempotency-Key`.
    pub key: Uuid,
    /// The key that the payment was captured under.
    pub of: Uuid,
    pub account: String,
    pub amount: Money,
}

/// The body of every answer with status 200. Any other status, and any answer that does not repeat key and
/// amount, says nothing: the caller asks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RailAnswer {
    pub key: Uuid,
    pub amount: Money,
    pub outcome: Outcome,
    /// What the rail calls it: with `done`, `authorised` and `captured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// With `declined`: funds-short, over-limit, account-unknown, account-closed or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is as asked for, now or since before.
    Done,
    Declined,
    /// Answers to `query` only.
    Unseen,
    Authorised,
    Captured,
    Reversed,
}
