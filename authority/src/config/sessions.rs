//! How long does a browser stay signed in?

use protocol::time::Millis;
use serde::Deserialize;

use super::check::Mistakes;

/// Longest time without use, in minutes; also the default.
const IDLE_MINUTES_MAX: u32 = 30;
/// Longest time in all, in hours; also the default.
const LONGEST_HOURS_MAX: u32 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionsConfig {
    /// Without use so long, a session is over.
    pub idle_ms: Millis,
    /// However much it is used, it is over then.
    pub longest_ms: Millis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSessions {
    pub idle_minutes: u32,
    pub longest_hours: u32,
}

impl Default for RawSessions {
    fn default() -> Self {
        Self {
            idle_minutes: IDLE_MINUTES_MAX,
            longest_hours: LONGEST_HOURS_MAX,
        }
    }
}

impl RawSessions {
    pub(super) fn check(&self, m: &mut Mistakes) {
        for (key, value, max) in [
            ("sessions.idle_minutes", self.idle_minutes, IDLE_MINUTES_MAX),
            (
                "sessions.longest_hours",
                self.longest_hours,
                LONGEST_HOURS_MAX,
            ),
        ] {
            m.range(key, u64::from(value), 1, u64::from(max));
        }
    }

    pub(super) fn resolve(&self) -> SessionsConfig {
        SessionsConfig {
            idle_ms: Millis::from(self.idle_minutes) * 60_000,
            longest_ms: Millis::from(self.longest_hours) * 3_600_000,
        }
    }
}
