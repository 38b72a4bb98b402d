//! When, without asking a clock?

use alloc::string::{String, ToString};
use core::fmt;
use core::ops::{Add, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the Unix epoch, UTC. In JSON it is RFC 3339 text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// A length of time in milliseconds, as the arithmetic here needs it.
pub type Millis = i64;

/// Years 0000 to 9999 less two days, as far as both RFC 3339 and its library here reach.
const RFC_3339_MS: core::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_207_200_000;
/// Longest text worth reading as a time: nanoseconds and a numeric offset.
const RFC_3339_MAX: usize = 35;

impl Timestamp {
    pub const fn from_ms(unix_ms: i64) -> Self {
        Self(unix_ms)
    }

    /// From a JWS NumericDate (RFC 7519, section 2): whole seconds.
    pub const fn from_secs(unix_s: i64) -> Self {
        Self(unix_s.saturating_mul(1000))
    }

    pub const fn ms(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down, for NumericDate.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;

    fn add(self, millis: Millis) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Self;

    fn sub(self, millis: Millis) -> Self {
        Self(self.0.saturating_sub(millis))
    }
}

impl Sub for Timestamp {
    type Output = Millis;

    fn sub(self, earlier: Self) -> Millis {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !RFC_3339_MS.contains(&self.0) {
            return Err(serde::ser::Error::custom(
                "a time that RFC 3339 cannot write",
            ));
        }
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !looks_like_rfc_3339(&text) {
            return Err(serde::de::Error::custom("not a time of RFC 3339"));
        }
        let stamp: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(stamp.as_millisecond()))
    }
}

/// The library reads more than RFC 3339: basic ISO 8601, signed years, zone names in brackets.
fn looks_like_rfc_3339(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_digit() || matches!(c, b'-' | b'+' | b':' | b'.' | b'T' | b'Z');
    let at = |place, byte| text.as_bytes().get(place) == Some(&byte);
    text.len() <= RFC_3339_MAX
        && text.bytes().all(plain)
        && at(4, b'-')
        && at(10, b'T')
        && at(16, b':')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_times_are_rfc_3339_with_milliseconds() {
        let time = Timestamp::from_ms(1_795_459_200_120);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-11-23T18:40:00.120Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
    }
}
