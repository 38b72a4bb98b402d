//! How many wrong codes are too many?
//!
//! The odds these limits leave are in `docs/THREAT_MODEL.md`.

use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};

use crate::store::MissCount;

/// Wrong codes one shopper may type within [`MISS_SPAN_MS`].
pub const MISSES_PER_PERSON_MAX: u32 = 5;
/// How long a wrong code counts against its shopper.
pub const MISS_SPAN_MS: Millis = 15 * 60 * 1000;
/// Wrong codes a terminal takes in one window, from anybody, before its code pauses.
pub const MISSES_PER_WINDOW_MAX: u32 = 10;

/// From when on a shopper's misses count at `now`.
pub fn since(now: Timestamp) -> Timestamp {
    now - MISS_SPAN_MS
}

/// May another code be looked at? `closes` is when the terminal's current code window does.
pub fn admit(misses: MissCount, closes: Timestamp, now: Timestamp) -> Result<(), Problem> {
    if misses.person >= MISSES_PER_PERSON_MAX {
        let wait = seconds_up(MISS_SPAN_MS);
        return Err(Problem::new(ProblemType::TooManyMisses).with_retry_after(wait));
    }
    if misses.window >= MISSES_PER_WINDOW_MAX {
        let wait = seconds_up(closes - now);
        return Err(Problem::new(ProblemType::CodePaused).with_retry_after(wait));
    }
    Ok(())
}

/// Whole seconds, rounded up, at least one.
pub fn seconds_up(length: Millis) -> u32 {
    u32::try_from(length.max(1).saturating_add(999) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(person: u32, window: u32) -> Option<ProblemType> {
        let now = Timestamp::from_ms(1_000_000);
        let refused = admit(MissCount { person, window }, now + 1_500, now).err()?;
        refused.problem_type()
    }

    #[test]
    fn the_fifth_miss_of_a_shopper_is_the_last_and_the_tenth_of_a_window() {
        assert_eq!(verdict(4, 9), None);
        assert_eq!(verdict(5, 0), Some(ProblemType::TooManyMisses));
        assert_eq!(verdict(0, 10), Some(ProblemType::CodePaused));
    }

    #[test]
    fn a_paused_code_says_when_the_next_one_shows() {
        let now = Timestamp::from_ms(0);
        let paused = admit(
            MissCount {
                person: 0,
                window: 10,
            },
            now + 1_500,
            now,
        );
        assert_eq!(
            paused.err().and_then(|problem| problem.retry_after_s),
            Some(2)
        );
    }
}
