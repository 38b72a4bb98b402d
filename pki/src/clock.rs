//! What time is it?
//!
//! The only file of this command that asks; everything that decides takes the answer.
#![expect(clippy::disallowed_methods, reason = "the one place that asks")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
