//! Who may pay what, and for how long is it theirs?
//!
//! ```text
//! charge offered ──claim──▶ held (60 s, 5 min once signed in) ──approval──▶ paid
//!        ▲                      │ released: not approved in time
//!        └──────────────────────┘ three times, then the till must offer it again
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ChargeId, ClaimId, MerchantId, TerminalId};
use crate::money::Money;
use crate::time::{Millis, Timestamp};
use crate::token::TokenId;

/// How long a claim holds its charge before the shopper has signed in.
pub const HOLD_MS: Millis = 60_000;
/// How long, from the claim on, while the shopper is at an identity provider.
pub const HOLD_SIGNING_IN_MS: Millis = 180_000;
/// How long, from the sign-in on, once the shopper has signed in; once per claim.
pub const HOLD_SIGNED_IN_MS: Millis = 300_000;
/// How many claims may be released before a charge ends and the till must offer it again.
pub const RELEASES_MAX: u32 = 3;
/// How long the till's charge stays on offer.
pub const CHARGE_LIFE_MS: Millis = 600_000;
/// Longest reference the till may give a charge, in bytes.
pub const REFERENCE_MAX: usize = 64;

/// Where the amount comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ChargeKind {
    /// From the till.
    Till,
    /// The same for everybody, set by the merchant.
    Fixed,
    /// Typed by the shopper, within the merchant's cap.
    Open,
}

/// Two digits that phone, kiosk, till and receipt show for one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub struct Mark(u8);

impl Mark {
    /// From random bytes; uniform enough for two digits (bias below 2^-9).
    pub fn from_random(bytes: [u8; 2]) -> Self {
        Self((u16::from_be_bytes(bytes) % 100) as u8)
    }

    pub fn value(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Mark {
    type Error = &'static str;

    fn try_from(value: u8) -> Result<Self, Self::Error> {
        if value < 100 {
            Ok(Self(value))
        } else {
            Err("a mark has two digits")
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// One phone has spent one token: proof of place, and the charge it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub claim: ClaimId,
    pub token: TokenId,
    pub terminal: TerminalId,
    pub payee: MerchantId,
    pub charge: ChargeId,
    pub kind: ChargeKind,
    /// What is asked for; none while an open charge waits for the shopper.
    pub asked: Option<Money>,
    /// The most an open charge may be.
    pub cap: Option<Money>,
    pub reference: Option<alloc::string::String>,
    pub mark: Mark,
    pub claimed_at: Timestamp,
    pub held_until: Timestamp,
}

/// What the signed-in shopper agreed to, as they saw it (PSD2 RTS, Article 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub amount: Money,
    pub payee: MerchantId,
}

/// A claim whose approval fits it. Only [`Claimed::approve`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    claimed: Claimed,
    amount: Money,
}

/// Why an approval does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalRefusal {
    #[error("the time to approve is over")]
    Late,
    #[error("the amount is not what the terminal asks for")]
    Amount,
    #[error("the payee is not who the terminal belongs to")]
    Payee,
}

impl Claimed {
    /// The approval must name the charge's own amount, currency and payee, in time.
    pub fn approve(self, approval: &Approval, now: Timestamp) -> Result<Approved, ApprovalRefusal> {
        if now >= self.held_until {
            return Err(ApprovalRefusal::Late);
        }
        if approval.payee != self.payee {
            return Err(ApprovalRefusal::Payee);
        }
        if !self.asks_for(approval.amount) {
            return Err(ApprovalRefusal::Amount);
        }
        Ok(Approved {
            claimed: self,
            amount: approval.amount,
        })
    }

    fn asks_for(&self, amount: Money) -> bool {
        match (self.asked, self.cap) {
            (Some(asked), _) => amount == asked,
            (None, Some(cap)) if self.kind == ChargeKind::Open => {
                amount.currency() == cap.currency() && amount.amount_minor() <= cap.amount_minor()
            }
            (None, _) => false,
        }
    }
}

impl Approved {
    pub fn claimed(&self) -> &Claimed {
        &self.claimed
    }

    pub fn amount(&self) -> Money {
        self.amount
    }
}
