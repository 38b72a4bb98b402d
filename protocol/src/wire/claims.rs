//! How does a phone claim, look and approve? On the public listener.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::charge::{ChargeKind, Mark};
use crate::ids::{AccountId, ClaimId, MerchantId, PaymentId, ReceiptId, TerminalId};
use crate::money::Money;
use crate::receipt::Payee;
use crate::time::Timestamp;
use crate::token::Channel;
use crate::wire::passkeys::Assertion;

/// `POST` here to claim; `GET …/{id}` looks, `POST …/{id}/approval` approves.
pub const CLAIMS_PATH: &str = "/v1/claims";
/// The JWK set that verifies everything the authority signs.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// The cookie that binds a claim to the phone that made it.
pub const CLAIM_COOKIE: &str = "__Host-m2key-claim";
/// Largest body of any request on the public listener, in bytes.
pub const PUBLIC_BODY_MAX: u64 = 4_096;

/// `POST /v1/claims`. A typed code needs an access token as well; a tapped or scanned link does not.
///
/// Mute, because the token in it may not be spent yet.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimRequest {
    /// The link, its `<terminal>.<token>`, or the typed code.
    pub token: String,
}

impl fmt::Debug for ClaimRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimRequest(..)")
    }
}

/// What the phone shows before anybody approves. The cookie in the answer opens it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimView {
    pub claim: ClaimId,
    pub terminal: TerminalId,
    pub channel: Channel,
    pub payee: Payee,
    pub kind: ChargeKind,
    /// What is asked for; absent for an open charge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// The most an open charge may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<Money>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    pub mark: Mark,
    pub state: ClaimState,
    /// Approved, and whoever moves the money is at work: held until it has answered.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub paying: bool,
    pub held_until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ClaimState {
    /// Waits for its approval.
    Held,
    /// Was not approved in time, or the till cancelled.
    Released,
    /// Approved and carried out.
    Paid,
}

/// `POST /v1/claims/{id}/approval`, with cookie and access token: the signature of the payment act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApprovalRequest {
    /// As the shopper saw it.
    pub amount: Money,
    /// As the shopper saw it.
    pub payee: MerchantId,
    /// The service account to pay from; absent: the default one, else the oldest of the currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// What a passkey signed for exactly this payment, where that is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Assertion>,
}

/// The answer to an approval, with status 202, while whoever moves the money has not answered: the same
/// approval again, after `Retry-After`, answers the receipt or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PendingResponse {
    pub state: Pending,
    pub payment: PaymentId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Pending {
    Pending,
}

/// The answer to an approval; to the same approval again, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApprovalResponse {
    pub payment: PaymentId,
    pub receipt_id: ReceiptId,
    /// Compact JWS, `typ` m2key-receipt+jwt.
    pub receipt: String,
}
