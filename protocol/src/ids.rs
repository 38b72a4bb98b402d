//! Who and what is meant?
//!
//! Terminals have an 8-digit number that people read aloud; everything else has a UUIDv7 (RFC 9562).

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::damm;
use crate::typed::Digits;

/// The number of a terminal: 7 random decimal digits and a Damm check digit.
///
/// The same 8 digits stand in the SPIFFE ID, the link and the command line; the typed code leaves
/// the check digit out, because it carries its own over all digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TerminalId(u32);

/// How many different terminal numbers there are.
pub const TERMINAL_NUMBERS: u32 = 10_000_000;

impl TerminalId {
    /// The terminal with the given 7-digit number; the check digit is added.
    pub fn from_number(number: u32) -> Result<Self, BadId> {
        if number >= TERMINAL_NUMBERS {
            return Err(BadId::TerminalLength);
        }
        Ok(Self(
            number * 10 + u32::from(damm::check_digit(digits_of(number))),
        ))
    }

    /// The terminal of all 8 digits, as [`TerminalId::value`] has them. [`BadId::TerminalLength`] if there are more,
    /// [`BadId::TerminalCheck`] if the last does not fit the others.
    pub fn from_value(value: u32) -> Result<Self, BadId> {
        match Self::from_number(value / 10)? {
            id if id.value() == value => Ok(id),
            _ => Err(BadId::TerminalCheck),
        }
    }

    /// The 7 digits without the check digit.
    pub fn number(self) -> u32 {
        self.0 / 10
    }

    /// All 8 digits as one number, as the derivations take it.
    pub fn value(self) -> u32 {
        self.0
    }
}

impl FromStr for TerminalId {
    type Err = BadId;

    /// Accepts what people type: blanks and hyphens dropped, `O` read as 0, `I` and `l` as 1.
    fn from_str(text: &str) -> Result<Self, BadId> {
        let digits = Digits::<8>::parse(text).map_err(|_| BadId::TerminalLength)?;
        if !damm::is_valid(digits.iter()) {
            return Err(BadId::TerminalCheck);
        }
        Ok(Self(digits.value() as u32))
    }
}

impl fmt::Display for TerminalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.0)
    }
}

impl fmt::Debug for TerminalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TerminalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TerminalId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    #[error("a terminal id has 8 digits")]
    TerminalLength,
    #[error("the terminal id has a slip in it: its check digit does not fit")]
    TerminalCheck,
    #[error("not a UUID")]
    Uuid,
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(pub Uuid);

        impl $name {
            /// A UUIDv7 of `unix_ms` and 10 random bytes (the core neither tells time nor rolls dice).
            pub fn from_parts(unix_ms: u64, random: &[u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                Uuid::parse_str(text).map(Self).map_err(|_| BadId::Uuid)
            }
        }
    )+};
}

uuid_id! {
    /// Who is paid.
    MerchantId,
    /// What the merchant asks for, once.
    ChargeId,
    /// One phone has spent one token.
    ClaimId,
    /// The approval carried out on a rail.
    PaymentId,
    /// The signed statement of a payment.
    ReceiptId,
    /// An account of the built-in ledger.
    AccountId,
    /// One thing a terminal saw; the same id again is the same event.
    EventId,
    /// One browser, signed in once.
    SessionId,
    /// Money given back, once.
    RefundId,
    /// One thing a merchant is told by webhook; the same id again is the same notice.
    NoticeId,
}

fn digits_of(number: u32) -> impl Iterator<Item = u8> {
    (0..7)
        .rev()
        .map(move |place| (number / 10u32.pow(place) % 10) as u8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_terminal_id_reads_back_what_people_type() {
        let id = TerminalId::from_number(1_234_567).unwrap();
        let text = id.to_string();
        assert_eq!(text.len(), 8);
        assert_eq!(text.parse::<TerminalId>(), Ok(id));
        assert_eq!(text.replace('1', "l").parse::<TerminalId>(), Ok(id));
        let (a, b) = text.split_at(4);
        assert_eq!(alloc::format!(" {a} {b} ").parse::<TerminalId>(), Ok(id));
    }

    #[test]
    fn a_terminal_id_reads_back_what_is_stored() {
        let id = TerminalId::from_number(40_019).unwrap();
        assert_eq!(TerminalId::from_value(id.value()), Ok(id));
        assert_eq!(TerminalId::from_value(0), TerminalId::from_number(0));
        assert_eq!(
            TerminalId::from_value(100_000_000),
            Err(BadId::TerminalLength)
        );
    }

    #[test]
    fn one_wrong_digit_is_always_caught() {
        let id = TerminalId::from_number(7_040_019).unwrap().value();
        for place in 0..8 {
            let digit = id / 10u32.pow(place) % 10;
            for other in (0..10).filter(|d| *d != digit) {
                let slip = id - digit * 10u32.pow(place) + other * 10u32.pow(place);
                let text = alloc::format!("{slip:08}");
                assert_eq!(text.parse::<TerminalId>(), Err(BadId::TerminalCheck));
                assert_eq!(TerminalId::from_value(slip), Err(BadId::TerminalCheck));
            }
        }
    }
}
