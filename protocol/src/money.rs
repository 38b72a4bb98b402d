//! How much, of what?

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest amount of one charge, in minor units: far above any till, far below overflow.
pub const AMOUNT_MINOR_MAX: i64 = 100_000_000_000;

/// A positive amount in the minor units of its currency; never a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawMoney")]
pub struct Money {
    amount_minor: i64,
    currency: Currency,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMoney {
    amount_minor: i64,
    currency: Currency,
}

impl Money {
    /// Between 1 and [`AMOUNT_MINOR_MAX`] minor units.
    pub fn new(amount_minor: i64, currency: Currency) -> Result<Self, BadMoney> {
        if !(1..=AMOUNT_MINOR_MAX).contains(&amount_minor) {
            return Err(BadMoney::Amount);
        }
        Ok(Self {
            amount_minor,
            currency,
        })
    }

    pub fn amount_minor(self) -> i64 {
        self.amount_minor
    }

    pub fn currency(self) -> Currency {
        self.currency
    }
}

impl TryFrom<RawMoney> for Money {
    type Error = BadMoney;

    fn try_from(raw: RawMoney) -> Result<Self, BadMoney> {
        Self::new(raw.amount_minor, raw.currency)
    }
}

impl fmt::Display for Money {
    /// `4.20 EUR`, `420 JPY`, `0.420 KWD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent();
        let unit = 10i64.pow(exponent);
        write!(f, "{}", self.amount_minor / unit)?;
        if exponent > 0 {
            write!(
                f,
                ".{:0width$}",
                self.amount_minor % unit,
                width = exponent as usize
            )?;
        }
        write!(f, " {}", self.currency)
    }
}

/// A currency of ISO 4217 by its alphabetic code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// ISO 4217 currencies whose minor unit is not a hundredth (exponent 0 and 3).
const EXPONENT_0: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
const EXPONENT_3: &str = "BHD IQD JOD KWD LYD OMR TND";
/// ISO 4217 currencies with exponent 2 that a terminal may charge in.
const EXPONENT_2: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN \
     BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL \
     GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR \
     LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB \
     PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SYP SZL \
     THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD XCG YER ZAR ZMW ZWG";

impl Currency {
    pub const EUR: Self = Self(*b"EUR");

    pub fn code(&self) -> &str {
        core::str::from_utf8(&self.0).expect("only ASCII codes of the tables are constructed")
    }

    /// How many decimal digits the minor unit stands behind the point.
    pub fn exponent(self) -> u32 {
        let listed = |list: &str| list.split_whitespace().any(|code| code == self.code());
        if listed(EXPONENT_0) {
            0
        } else if listed(EXPONENT_3) {
            3
        } else {
            2
        }
    }
}

impl FromStr for Currency {
    type Err = BadMoney;

    fn from_str(text: &str) -> Result<Self, BadMoney> {
        let known = [EXPONENT_2, EXPONENT_0, EXPONENT_3]
            .iter()
            .flat_map(|list| list.split_whitespace())
            .find(|code| *code == text)
            .ok_or(BadMoney::Currency)?;
        known
            .as_bytes()
            .try_into()
            .map(Self)
            .map_err(|_| BadMoney::Currency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        alloc::string::String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Why an amount is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMoney {
    #[error("an amount is between 1 and {AMOUNT_MINOR_MAX} minor units")]
    Amount,
    #[error("not a currency of ISO 4217 that can be charged in")]
    Currency,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use alloc::string::ToString;

    fn money(amount_minor: i64, currency: &str) -> Money {
        Money::new(amount_minor, currency.parse().unwrap()).unwrap()
    }

    #[test]
    fn amounts_are_written_with_the_exponent_of_their_currency() {
        assert_eq!(money(420, "EUR").to_string(), "4.20 EUR");
        assert_eq!(money(420, "JPY").to_string(), "420 JPY");
        assert_eq!(money(5, "KWD").to_string(), "0.005 KWD");
    }

    #[test]
    fn zero_negative_huge_and_unknown_are_refused_in_json_too() {
        for json in [
            r#"{"amount_minor":0,"currency":"EUR"}"#,
            r#"{"amount_minor":-1,"currency":"EUR"}"#,
            r#"{"amount_minor":100000000001,"currency":"EUR"}"#,
            r#"{"amount_minor":1,"currency":"eur"}"#,
            r#"{"amount_minor":1,"currency":"ZZZ"}"#,
            r#"{"amount_minor":1.5,"currency":"EUR"}"#,
        ] {
            assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
        }
    }
}
