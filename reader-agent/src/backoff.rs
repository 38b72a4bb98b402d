//! How long until the next try?

use std::time::Duration;

/// Before the second try at most.
pub const FIRST_MS: u64 = 500;
/// The longest pause between two tries.
pub const LONGEST_MS: u64 = 30_000;
/// The shortest, so that chance does not make a busy loop.
pub const SHORTEST_MS: u64 = 50;

/// Doubles the pause with every failure and draws within it, so that a fleet does not come back all
/// at once.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure; `random` is any number, uniformly drawn.
    pub fn next(&mut self, random: u32) -> Duration {
        let ceiling = FIRST_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        let drawn =
            SHORTEST_MS + (u64::from(random) * (ceiling - SHORTEST_MS)) / u64::from(u32::MAX);
        Duration::from_millis(drawn)
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure, drawn by the operating system's dice.
    pub fn pause(&mut self) -> Duration {
        self.next(crate::ids::random_u32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_never_beyond_and_start_anew_after_success() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<u64> = (0..9)
            .map(|_| backoff.next(u32::MAX).as_millis() as u64)
            .collect();
        assert_eq!(ceilings[..4], [500, 1_000, 2_000, 4_000]);
        assert_eq!(ceilings[8], LONGEST_MS);
        assert_eq!(backoff.next(0).as_millis() as u64, SHORTEST_MS);
        backoff.reset();
        assert_eq!(backoff.next(u32::MAX).as_millis() as u64, FIRST_MS);
    }
}
