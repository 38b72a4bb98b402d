//! What can anybody verify of money that was given back?

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::ids::{ChargeId, PaymentId, ReceiptId, RefundId, TerminalId};
use crate::jws::Purpose;
use crate::money::Money;
use crate::receipt::Payee;

/// The authority's signed statement of a refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundClaims {
    /// The authority, as a SPIFFE ID.
    pub iss: String,
    /// Who paid and is given back, by the pseudonym of the payment's receipt.
    pub sub: String,
    /// Same as `receipt`.
    pub jti: String,
    /// NumericDate, seconds: when the money was given back.
    pub iat: i64,
    pub receipt: ReceiptId,
    pub refund: RefundId,
    pub payment: PaymentId,
    /// The receipt of that payment.
    pub payment_receipt: ReceiptId,
    pub charge: ChargeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Where it was asked for; absent when an operator did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalId>,
    /// Who gives back.
    pub payee: Payee,
    /// What is given back.
    pub amount: Money,
    /// What was paid.
    pub paid: Money,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What moved the money, and its own reference.
    pub rail: String,
    pub rail_reference: String,
}

impl Purpose for RefundClaims {
    const TYP: &'static str = crate::typ::REFUND;
}
