//! How loudly is it said that a rail left the configuration before its payments had ended?

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use protocol::time::{Millis, Timestamp};

/// From one time that it is said of a rail to the next. The first is at the start.
const TELL_EVERY_MS: Millis = 600_000;

/// When it was said last, by rail.
#[derive(Default)]
pub(super) struct Gone(Mutex<BTreeMap<String, Timestamp>>);

impl Gone {
    pub(super) fn tell(&self, rail: &str, open: u64, now: Timestamp) {
        if self.is_due(rail, now) {
            tracing::error!(
                rail,
                open,
                "the configuration has no rail of this name, and payments on it are open: put it back until \
                 they have ended, or nobody hears whether their money moved"
            );
        }
    }

    fn is_due(&self, rail: &str, now: Timestamp) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(rail).is_some_and(|at| now - *at < TELL_EVERY_MS) {
            return false;
        }
        told.insert(rail.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_now_and_then_of_each_rail() {
        let (gone, start) = (Gone::default(), Timestamp::from_ms(0));
        assert!(gone.is_due("bank", start));
        assert!(!gone.is_due("bank", start + (TELL_EVERY_MS - 1)));
        assert!(gone.is_due("giro", start + 1));
        assert!(gone.is_due("bank", start + TELL_EVERY_MS));
    }
}
