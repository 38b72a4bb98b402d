//! How much did the shopper write?

use std::fmt;
use std::str::FromStr;

use protocol::money::{BadMoney, Currency, Money};

/// Digits before the point that are worth reading: more than any charge has.
const WHOLE_MAX: usize = 9;

/// An amount as it was typed; what it is in minor units is decided by the charge's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypedAmount {
    whole: u64,
    /// The digits behind the point: how many, and their number.
    decimals: (u32, u64),
    pub currency: Option<Currency>,
}

impl TypedAmount {
    /// `whole` and `decimals` are digits; none if there are too many of them, or if it is nothing.
    pub(super) fn of(whole: &str, decimals: &str) -> Option<Self> {
        if whole.is_empty() || whole.len() > WHOLE_MAX || decimals.len() > 2 {
            return None;
        }
        let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse() };
        let typed = Self {
            whole: number(whole).ok()?,
            decimals: (decimals.len() as u32, number(decimals).ok()?),
            currency: None,
        };
        (typed.whole > 0 || typed.decimals.1 > 0).then_some(typed)
    }

    pub(super) fn in_currency(self, currency: Currency) -> Self {
        Self {
            currency: Some(currency),
            ..self
        }
    }

    /// The amount in this currency: 4,2 are 4.20 EUR, and nothing in JPY, which has no decimals.
    pub fn money(self, currency: Currency) -> Result<Money, BadAmount> {
        if self.currency.is_some_and(|typed| typed != currency) {
            return Err(BadAmount::Currency);
        }
        let (digits, decimals) = self.decimals;
        let missing = currency.exponent().checked_sub(digits);
        let scale = 10u64.pow(missing.ok_or(BadAmount::Decimals)?);
        let minor = self.whole * 10u64.pow(currency.exponent()) + decimals * scale;
        let minor = i64::try_from(minor).map_err(|_| BadAmount::Size)?;
        Money::new(minor, currency).map_err(|_: BadMoney| BadAmount::Size)
    }
}

/// `4,20` or `4,20 EUR`, as it is kept.
impl fmt::Display for TypedAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.whole)?;
        let (digits, decimals) = self.decimals;
        if digits > 0 {
            write!(f, ",{decimals:0width$}", width = digits as usize)?;
        }
        match self.currency {
            Some(currency) => write!(f, " {currency}"),
            None => Ok(()),
        }
    }
}

impl FromStr for TypedAmount {
    type Err = BadAmount;

    /// Reads what [`Display`](fmt::Display) wrote.
    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let (number, currency) = match text.split_once(' ') {
            Some((number, code)) => {
                let currency = code.parse().map_err(|_| BadAmount::Currency)?;
                (number, Some(currency))
            }
            None => (text, None),
        };
        let (whole, decimals) = number.split_once(',').unwrap_or((number, ""));
        let read = Self::of(whole, decimals).ok_or(BadAmount::Size)?;
        Ok(Self { currency, ..read })
    }
}

/// Why an amount is none in the charge's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    #[error("another currency")]
    Currency,
    #[error("more decimals than the currency has")]
    Decimals,
    #[error("too large")]
    Size,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn minor(whole: &str, decimals: &str, currency: &str) -> Result<i64, BadAmount> {
        let typed = TypedAmount::of(whole, decimals).unwrap();
        let money = typed.money(currency.parse().unwrap());
        money.map(Money::amount_minor)
    }

    #[test]
    fn decimals_count_as_the_currency_has_them() {
        assert_eq!(minor("4", "2", "EUR"), Ok(420));
        assert_eq!(minor("4", "02", "EUR"), Ok(402));
        assert_eq!(minor("4", "", "JPY"), Ok(4));
        assert_eq!(minor("4", "2", "JPY"), Err(BadAmount::Decimals));
        assert_eq!(minor("1", "25", "KWD"), Ok(1_250));
        assert_eq!(minor("999999999", "99", "EUR"), Ok(99_999_999_999));
        assert_eq!(minor("999999999", "99", "KWD"), Err(BadAmount::Size));
    }

    #[test]
    fn nothing_and_too_much_are_no_amount() {
        for (whole, decimals) in [
            ("0", ""),
            ("0", "00"),
            ("", "5"),
            ("1234567890", ""),
            ("1", "123"),
        ] {
            assert_eq!(TypedAmount::of(whole, decimals), None, "{whole},{decimals}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["4", "4,20", "4,2 EUR", "0,05", "12 JPY"] {
            let typed: TypedAmount = text.parse().unwrap();
            assert_eq!(typed.to_string(), text);
        }
        let euros: TypedAmount = "4 EUR".parse().unwrap();
        assert_eq!(
            euros.money("USD".parse().unwrap()),
            Err(BadAmount::Currency)
        );
    }
}
