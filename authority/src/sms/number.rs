//! Which phone is it, and how much of its number may be seen?

use std::fmt;
use std::str::FromStr;

/// Digits of a number after the plus, country code included (ITU-T E.164).
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// Digits at the end that logs may show.
const SHOWN: usize = 2;

/// A phone number as E.164 writes it, `+33612345678`. Logs see its last two digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// All of it, for the gateway, the rail and the identity. Never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it begins like this, `+336`.
    pub fn begins_with(&self, prefix: &Prefix) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl FromStr for PhoneNumber {
    type Err = BadNumber;

    fn from_str(text: &str) -> Result<Self, BadNumber> {
        let digits = text.strip_prefix('+').ok_or(BadNumber)?;
        let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole && DIGITS.contains(&digits.len()) && !digits.starts_with('0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadNumber)
        }
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+..{}", &self.0[self.0.len() - SHOWN..])
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not a phone number as E.164 writes it: a name, a short number, or one without its country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a phone number with + and country code")]
pub struct BadNumber;

/// How the numbers of a country or carrier begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl FromStr for Prefix {
    type Err = BadNumber;

    fn from_str(text: &str) -> Result<Self, BadNumber> {
        let digits = text.strip_prefix('+').ok_or(BadNumber)?;
        let fits = (1..DIGITS.into_inner().1).contains(&digits.len());
        if fits && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0') {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadNumber)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_log_never_shows_the_whole_number() {
        let number: PhoneNumber = "+33612345678".parse().unwrap();
        for shown in [number.to_string(), format!("{number:?}")] {
            assert_eq!(shown, "+..78");
        }
        assert_eq!(number.expose(), "+33612345678");
    }

    #[test]
    fn names_short_numbers_and_national_numbers_are_nobodys() {
        for text in [
            "",
            "+",
            "12345",
            "0612345678",
            "33612345678",
            "+0612345678",
            "MyBank",
            "+33 612345678",
            "+3361234567890123",
            "+٣٣٦١٢٣٤٥٦٧٨",
        ] {
            assert!(text.parse::<PhoneNumber>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_that_of_whole_digits() {
        let number: PhoneNumber = "+33612345678".parse().unwrap();
        assert!(number.begins_with(&"+336".parse().unwrap()));
        assert!(!number.begins_with(&"+337".parse().unwrap()));
        for text in ["", "+", "336", "+0", "+33x"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
