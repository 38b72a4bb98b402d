//! What can a bookkeeper verify of a closed day?

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::jws::Purpose;
use crate::money::Currency;
use crate::receipt::Payee;
use crate::time::Timestamp;

/// The authority's signed statement of a merchant's closed day: its totals, and the digests of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementClaims {
    /// The authority, as a SPIFFE ID.
    pub iss: String,
    /// `<merchant>/<generation>/<number>`: after a restore a number may come again, in a later generation.
    pub jti: String,
    /// NumericDate, seconds: when the day was closed.
    pub iat: i64,
    pub payee: Payee,
    /// From 1, without gaps.
    pub number: u64,
    /// The business day, YYYY-MM-DD, and the time zone it is one of.
    pub day: String,
    pub zone: String,
    /// Cut and cut: what was booked before `to` and is in no earlier file.
    pub from: Timestamp,
    pub to: Timestamp,
    pub currency: Currency,
    pub totals: Totals,
    pub rails: Vec<RailTotals>,
    /// SHA-256 of the file in each form, lower-case hex.
    pub csv_sha256: String,
    pub json_sha256: String,
}

/// In minor units. Closing is opening, plus credits, less debits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Totals {
    pub opening_minor: i64,
    pub closing_minor: i64,
    /// Payments.
    pub credits: u64,
    pub credit_minor: i64,
    /// Refunds.
    pub debits: u64,
    pub debit_minor: i64,
}

/// The part of it that one rail moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RailTotals {
    pub rail: String,
    #[serde(flatten)]
    pub totals: Totals,
}

impl Purpose for SettlementClaims {
    const TYP: &'static str = crate::typ::SETTLEMENT;
}
