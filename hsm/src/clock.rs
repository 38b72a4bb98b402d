//! Where does this crate learn what time it is?

use std::time::Instant;

/// The only reading of the clock in this crate; everything that decides takes the result.
pub(crate) fn now() -> Instant {
    Instant::now()
}
