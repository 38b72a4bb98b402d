//! How is money given back? The same bodies on the agent's loopback and on the agents' listener.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ids::{ChargeId, PaymentId, ReceiptId, RefundId};
use crate::money::Money;

/// `POST` gives money back; the same request again is the same refund.
pub const REFUNDS_PATH: &str = "/v1/refunds";
/// Longest reason, in bytes.
pub const REASON_MAX: usize = 140;
/// Digits of a merchant's PIN.
pub const PIN_DIGITS: core::ops::RangeInclusive<usize> = 6..=12;

/// Give back a part of what was paid for a charge, or all of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefundRequest {
    /// A UUIDv7 of the till's own making.
    pub refund: RefundId,
    /// What was paid; a charge of this merchant, at whichever terminal.
    pub charge: ChargeId,
    pub amount: Money,
    /// In the merchant's words; the shopper reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub pin: Pin,
}

/// A refund as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefundResponse {
    pub refund: RefundId,
    pub charge: ChargeId,
    pub payment: PaymentId,
    pub amount: Money,
    #[serde(flatten)]
    pub stage: RefundStage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RefundStage {
    /// The rail has not said yet: ask again with the same request.
    Asked,
    /// Done: a compact JWS, `typ` m2key-refund+jwt.
    Refunded {
        receipt_id: ReceiptId,
        receipt: String,
    },
    /// The rail does not do it; nothing was given back.
    Declined { reason: String },
}

/// The merchant's secret for refunds: 6 to 12 digits. Mute.
#[derive(Clone, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Pin(String);

impl Pin {
    pub fn parse(text: &str) -> Result<Self, BadPin> {
        let fits = PIN_DIGITS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(BadPin)
        }
    }

    /// For the one function that derives from it.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let read = Self::parse(&text);
        text.zeroize();
        read.map_err(serde::de::Error::custom)
    }
}

/// What is no PIN is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PIN has 6 to 12 digits and nothing else")]
pub struct BadPin;
