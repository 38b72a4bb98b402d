//! Where does this crate learn what time it is?

use std::time::{Duration, Instant};

/// The only reading of the clock in this crate; everything that decides takes the result.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits while starting up, where a thread of its own has nothing else to do.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}
