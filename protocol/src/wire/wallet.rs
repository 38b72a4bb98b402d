//! How does a wallet look, and pay in one call? On the public listener.
//!
//! Every request carries an access token by the scheme DPoP and a proof ([`crate::dpop`]). A proof covers
//! no body, so the approval itself is a statement of its own, signed by the same key.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::charge::ChargeKind;
use crate::ids::{AccountId, MerchantId, PaymentId, ReceiptId, TerminalId};
use crate::jws::Purpose;
use crate::money::{Currency, Money};
use crate::presented::{Malformed, Presented};
use crate::receipt::Payee;
use crate::time::{Millis, Timestamp};
use crate::token::Channel;

/// `POST` here to look at what a token would claim.
pub const VIEWS_PATH: &str = "/v1/wallet/views";
/// `POST` here to claim and approve; `GET …/{id}` looks.
pub const PAYMENTS_PATH: &str = "/v1/wallet/payments";
/// `GET` here for the accounts to pay from.
pub const ACCOUNTS_PATH: &str = "/v1/wallet/accounts";
/// Names a payment that may be asked for again (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Longest name of a request, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 128;
/// How long a request is remembered under its name.
pub const IDEMPOTENCY_MS: Millis = 24 * 3_600_000;
/// How old a signed approval may be when it comes.
pub const APPROVAL_PAST_MS: Millis = 120_000;
/// How far the clock of the wallet that signed it may be ahead.
pub const APPROVAL_FUTURE_MS: Millis = 30_000;

/// `POST /v1/wallet/views`. Spends nothing; a typed code that is wrong counts as a miss.
///
/// Mute, because the token in it may not be spent yet.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ViewRequest {
    /// The link, its `<terminal>.<token>`, or the typed code.
    pub token: String,
}

impl fmt::Debug for ViewRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ViewRequest(..)")
    }
}

/// What a claim with this token would hold now. It may be gone a moment later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WalletView {
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
    /// The shopper's accounts that may pay it.
    pub accounts: Vec<WalletAccount>,
}

/// `GET /v1/wallet/accounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WalletAccounts {
    pub accounts: Vec<WalletAccount>,
}

/// An account to pay from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WalletAccount {
    pub account: AccountId,
    /// What the shopper calls it.
    pub name: String,
    /// What moves its money: `ledger`, or a rail of the operator.
    pub rail: String,
    pub currency: Currency,
}

/// `POST /v1/wallet/payments`, with `Idempotency-Key`: spends the token and approves.
///
/// Mute, because the token in it may not be spent yet.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PaymentRequest {
    /// As in a view.
    pub token: String,
    /// Compact JWS of [`SignedApproval`], by the key that the access token is bound to.
    pub approval: String,
}

impl fmt::Debug for PaymentRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentRequest(..)")
    }
}

/// The signature of the payment act: what the shopper agreed to, as the wallet showed it. `kid` is the
/// thumbprint of the wallet's key.
///
/// It names the token rather than the claim: the claim is made in the same call, after it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignedApproval {
    /// The authority's address, `https://` and the host of its links.
    pub aud: String,
    /// Random, for this approval alone.
    pub jti: String,
    /// NumericDate, seconds.
    pub iat: i64,
    /// [`token_hash`] of the token that the payment spends.
    pub token_hash: String,
    pub amount: Money,
    pub payee: MerchantId,
    /// What pays.
    pub account: AccountId,
}

impl Purpose for SignedApproval {
    const TYP: &'static str = crate::typ::APPROVAL;
}

/// base64url of SHA-256 over the token as the protocol writes it: `<terminal>.<token>`, or the 15 digits
/// of a typed code. However it was spelt.
pub fn token_hash(token: &str) -> Result<String, Malformed> {
    let written = Presented::parse(token)?.written();
    Ok(Base64UrlUnpadded::encode_string(&Sha256::digest(
        written.as_bytes(),
    )))
}

/// The answer to a payment and to a look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WalletPayment {
    pub payment: PaymentId,
    pub state: PaymentState,
    pub amount: Money,
    pub payee: MerchantId,
    pub account: AccountId,
    /// When it was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_id: Option<ReceiptId>,
    /// Compact JWS, `typ` m2key-receipt+jwt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum PaymentState {
    /// The rail is at work: look again.
    Pending,
    /// The money has moved.
    Paid,
    /// The rail refused; nothing was paid.
    Declined,
    /// Given up before it was paid; what the rail had taken, it gives back.
    Reversed,
}

/// An `Idempotency-Key`: a string of structured fields (RFC 8941, section 3.3.3), in its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The header is no quoted string of visible characters, or empty, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a quoted string of 1 to {IDEMPOTENCY_KEY_MAX} visible characters, e.g. \"8e03978e-40d5-43e8\""
)]
pub struct BadIdempotencyKey;

impl IdempotencyKey {
    /// From the header's value.
    pub fn parse(header: &str) -> Result<Self, BadIdempotencyKey> {
        let inside = header.trim().strip_prefix('"');
        let inside = inside.and_then(|rest| rest.strip_suffix('"'));
        Self::new(inside.ok_or(BadIdempotencyKey)?)
    }

    pub fn new(name: &str) -> Result<Self, BadIdempotencyKey> {
        let plain = |c: u8| (b' '..=b'~').contains(&c) && c != b'"' && c != b'\\';
        let fits = (1..=IDEMPOTENCY_KEY_MAX).contains(&name.len()) && name.bytes().all(plain);
        match fits {
            true => Ok(Self(name.to_string())),
            false => Err(BadIdempotencyKey),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The header's value.
    pub fn header(&self) -> String {
        alloc::format!("\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_token_has_one_hash_however_it_is_spelt() {
        let whole = "https://pay.example:8443/t/47110422.448FT7303N447EFB8H2JK8WRP4";
        let hash = token_hash(whole).unwrap();
        for same in [
            "47110422.448FT7303N447EFB8H2JK8WRP4",
            "https://pay.example/t/47110422.448ft73o3n447efb8h2jk8wrp4",
        ] {
            assert_eq!(token_hash(same).unwrap(), hash);
        }
        let other = "47110422.548FT7303N447EFB8H2JK8WRP4";
        assert_ne!(token_hash(other).unwrap(), hash);
        assert!(token_hash("hello").is_err());
    }

    #[test]
    fn the_name_of_a_request_stands_in_quotes() {
        let key = IdempotencyKey::parse("\"a b\"").unwrap();
        assert_eq!(key.as_str(), "a b");
        assert_eq!(key.header(), "\"a b\"");
        let long = alloc::format!("\"{}\"", "x".repeat(IDEMPOTENCY_KEY_MAX + 1));
        for bad in [
            "",
            "\"\"",
            "\"",
            "abc",
            "\"a\\\"b\"",
            "\"é\"",
            long.as_str(),
        ] {
            assert_eq!(IdempotencyKey::parse(bad), Err(BadIdempotencyKey), "{bad}");
        }
    }
}
