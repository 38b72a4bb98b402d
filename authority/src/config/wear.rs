//! How is a tag spared that nears its end?

use protocol::time::Millis;
use protocol::window::EPOCH_MS;
use serde::Deserialize;

use super::check::Mistakes;

const LAST_DAYS_MAX: u32 = 365;

/// From when only a tenth of a tag's writes is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowConfig {
    /// The rest shall last this long; 0 slows nothing.
    pub last_days: u32,
    /// Longest window of the nfc channel.
    pub longest_ms: Millis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawWear {
    last_days: u32,
    longest_window_s: u32,
}

impl Default for RawWear {
    fn default() -> Self {
        Self {
            last_days: 30,
            longest_window_s: 900,
        }
    }
}

impl RawWear {
    pub(super) fn check(&self, m: &mut Mistakes) {
        let days = u64::from(self.last_days);
        m.range("wear.last_days", days, 0, LAST_DAYS_MAX.into());
        let seconds = u64::from(self.longest_window_s);
        let epoch_s = u64::try_from(EPOCH_MS / 1_000).unwrap_or(0);
        m.range("wear.longest_window_s", seconds, 2, epoch_s);
    }

    pub(super) fn resolve(&self) -> SlowConfig {
        SlowConfig {
            last_days: self.last_days,
            longest_ms: Millis::from(self.longest_window_s) * 1_000,
        }
    }
}
