//! What can a shopper, a merchant or a court verify afterwards?

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::charge::{ChargeKind, Mark};
use crate::ids::{ChargeId, ClaimId, MerchantId, PaymentId, ReceiptId, TerminalId};
use crate::jws::Purpose;
use crate::money::Money;
use crate::token::Channel;

/// The authority's signed statement of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptClaims {
    /// The authority, as a SPIFFE ID.
    pub iss: String,
    /// The payer, as a pseudonym that is different for every merchant.
    pub sub: String,
    /// Same as `receipt`.
    pub jti: String,
    /// NumericDate, seconds: when the payment was carried out.
    pub iat: i64,
    pub receipt: ReceiptId,
    pub payment: PaymentId,
    pub claim: ClaimId,
    pub charge: ChargeId,
    pub kind: ChargeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub terminal: TerminalId,
    pub channel: Channel,
    pub payee: Payee,
    pub amount: Money,
    pub mark: Mark,
    /// What moved the money, and its own reference.
    pub rail: String,
    pub rail_reference: String,
}

impl Purpose for ReceiptClaims {
    const TYP: &'static str = crate::typ::RECEIPT;
}

/// Who is paid, by id and by the name the shopper saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Payee {
    pub id: MerchantId,
    pub name: String,
}
