//! How long is what was spent, and what terminals saw, remembered?

use protocol::time::Millis;
use protocol::window::EPOCH_MS;
use serde::Deserialize;

use super::check::Mistakes;
use super::raw::DAY_MS;
use crate::store::{LATE_MAX_MS, SPAN_EPOCHS_MAX};

/// A token is good for minutes after its hour. A late report is judged by what was spent while its link was
/// on the tag: so long back, and two days to spare. What it reported itself is kept no shorter.
const SPENT_DAYS_MIN: Millis = (LATE_MAX_MS + SPAN_EPOCHS_MAX as Millis * EPOCH_MS) / DAY_MS + 2;
const SPENT_DAYS_MAX: u64 = 3_650;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Spent tokens and turns; older ones are refused by the fence of epochs, and gone.
    pub spent_ms: Millis,
    /// What terminals reported; older events are acknowledged and not kept.
    pub reports_ms: Millis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    spent_days: u32,
    reports_days: u32,
}

impl Default for RawRetention {
    fn default() -> Self {
        Self {
            spent_days: 90,
            reports_days: 400,
        }
    }
}

impl RawRetention {
    pub(super) fn check(&self, m: &mut Mistakes) {
        m.range(
            "retention.spent_days",
            u64::from(self.spent_days),
            SPENT_DAYS_MIN as u64,
            SPENT_DAYS_MAX,
        );
        m.range(
            "retention.reports_days",
            u64::from(self.reports_days),
            SPENT_DAYS_MIN as u64,
            SPENT_DAYS_MAX,
        );
    }

    pub(super) fn resolve(&self) -> RetentionConfig {
        RetentionConfig {
            spent_ms: Millis::from(self.spent_days) * DAY_MS,
            reports_ms: Millis::from(self.reports_days) * DAY_MS,
        }
    }
}
