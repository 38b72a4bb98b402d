//! How long has a call taken?

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn since(start: Instant) -> Duration {
    start.elapsed()
}
