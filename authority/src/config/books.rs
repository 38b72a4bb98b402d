//! On which terms are merchants' books kept, unless an operator decided otherwise for one?

use protocol::money::AMOUNT_MINOR_MAX;
use protocol::time::Millis;
use serde::Deserialize;

use super::check::Mistakes;
use crate::services::days::Zone;

/// Longest wait after a day's end, in minutes.
const CLOSE_AFTER_MAX_MIN: u64 = 720;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BooksConfig {
    /// Of business days.
    pub zone: Zone,
    /// From a day's end to its close.
    pub close_after_ms: Millis,
    /// The most that one merchant may refund on one business day, minor units.
    pub refund_day_max_minor: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBooks {
    zone: String,
    close_after_min: u64,
    refund_day_max_minor: u64,
}

impl Default for RawBooks {
    fn default() -> Self {
        Self {
            zone: Zone::utc().name().into(),
            close_after_min: 5,
            refund_day_max_minor: 100_000,
        }
    }
}

impl RawBooks {
    pub(super) fn check(&self, m: &mut Mistakes) {
        if let Err(error) = Zone::parse(&self.zone) {
            m.add("books.zone", error, "e.g. UTC or Europe/Paris");
        }
        m.range(
            "books.close_after_min",
            self.close_after_min,
            0,
            CLOSE_AFTER_MAX_MIN,
        );
        m.range(
            "books.refund_day_max_minor",
            self.refund_day_max_minor,
            0,
            AMOUNT_MINOR_MAX.unsigned_abs(),
        );
    }

    /// After [`Self::check`].
    pub(super) fn resolve(self) -> BooksConfig {
        BooksConfig {
            zone: Zone::parse(&self.zone).unwrap_or_else(|_| Zone::utc()),
            close_after_ms: i64::try_from(self.close_after_min * 60_000).unwrap_or(0),
            refund_day_max_minor: i64::try_from(self.refund_day_max_minor).unwrap_or(0),
        }
    }
}
