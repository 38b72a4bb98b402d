//! How does a time in Unix seconds stand in a certificate, and how is it told to people?

use std::time::Duration;

use der::DateTime;
use x509_cert::time::Time;

use crate::error::PkiError;

/// Years 1970 to 9999: UTCTime until 2049 and GeneralizedTime after it (RFC 5280, 4.1.2.5).
pub(crate) fn to_x509(unix: u64) -> Result<Time, PkiError> {
    date(unix).map(Time::from)
}

/// `2026-11-23T12:00:00Z`.
pub(crate) fn in_words(unix: u64) -> String {
    date(unix).map_or_else(|_| format!("Unix time {unix}"), |date| date.to_string())
}

pub(crate) fn from_words(text: &str) -> Option<u64> {
    let date: DateTime = text.parse().ok()?;
    Some(date.unix_duration().as_secs())
}

fn date(unix: u64) -> Result<DateTime, PkiError> {
    DateTime::from_unix_duration(Duration::from_secs(unix)).map_err(|_| PkiError::ClockWrong)
}
