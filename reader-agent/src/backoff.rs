//! How long until the next try?

use std::time::Duration;

/// Before the second try at most.
pub const FIRST_MS: u64 = 500;
/// Before the first try after a connection that was up, at most: an authority that restarts ends those of
/// the whole fleet at one moment.
pub const LOST_MS: u64 = 5_000;
/// As how many failures that counts: the next pause is one like it.
const LOST_COUNTS: u32 = 3;
/// The longest pause between two tries.
pub const LONGEST_MS: u64 = 30_000;
/// The shortest, so that chance does not make a busy loop.
pub const SHORTEST_MS: u64 = 50;

/// Doubles the pause with every failure and draws within it, so that a fleet does not come back all
/// at once.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// Since the last pause.
    worked: bool,
}

impl Backoff {
    /// The pause after one more failure; `random` is any number, uniformly drawn.
    pub fn next(&mut self, random: u32) -> Duration {
        let ceiling = FIRST_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_MS);
        self.failures = self.failures.saturating_add(1);
        self.worked = false;
        drawn(ceiling, random)
    }

    /// The pause after a connection has ended; one that never worked is a failure like any other.
    pub fn next_lost(&mut self, random: u32) -> Duration {
        if !std::mem::take(&mut self.worked) {
            return self.next(random);
        }
        self.failures = LOST_COUNTS;
        drawn(LOST_MS, random)
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.worked = true;
    }

    /// The pause after one more failure, drawn by the operating system's dice.
    pub fn pause(&mut self) -> Duration {
        self.next(crate::ids::random_u32())
    }

    /// The same after the end of a connection.
    pub fn lost(&mut self) -> Duration {
        self.next_lost(crate::ids::random_u32())
    }
}

fn drawn(ceiling: u64, random: u32) -> Duration {
    let drawn = (u64::from(random) * (ceiling - SHORTEST_MS)) / u64::from(u32::MAX);
    Duration::from_millis(SHORTEST_MS + drawn)
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

    #[test]
    fn a_lost_connection_is_tried_again_from_at_once_to_five_seconds_later() {
        let mut backoff = Backoff::default();
        backoff.reset();
        assert_eq!(backoff.next_lost(0).as_millis() as u64, SHORTEST_MS);
        backoff.reset();
        assert_eq!(backoff.next_lost(u32::MAX).as_millis() as u64, LOST_MS);
        let next = backoff.next(u32::MAX).as_millis() as u64;
        assert!((LOST_MS / 2..LOST_MS).contains(&next), "{next}");
    }

    #[test]
    fn whoever_answers_and_says_nothing_is_asked_ever_more_rarely() {
        let mut backoff = Backoff::default();
        backoff.reset();
        let pauses: Vec<u64> = (0..8)
            .map(|_| backoff.next_lost(u32::MAX).as_millis() as u64)
            .collect();
        assert_eq!(pauses[..4], [LOST_MS, 4_000, 8_000, 16_000]);
        assert_eq!(pauses[4..], [LONGEST_MS; 4]);
    }

    const FLEET: usize = 1_000;

    /// What an authority sees of its fleet after it went away for a while.
    #[derive(Debug)]
    struct Return {
        /// Connections in the busiest second after it came back.
        busiest_second: usize,
        /// When the last terminal was back, counted from there.
        all_back_ms: u64,
    }

    /// The streams of a fleet end at one moment, and whoever tries before `away_ms` finds nobody.
    fn fleet_returns(away_ms: u64, seed: u32) -> Return {
        let mut dice = seed;
        let mut roll = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // The high bits are the better ones.
            dice.rotate_left(16)
        };
        let mut fleet: Vec<Backoff> = (0..FLEET).map(|_| Backoff::default()).collect();
        let mut tries = std::collections::BinaryHeap::new();
        for (terminal, backoff) in fleet.iter_mut().enumerate() {
            backoff.reset();
            let at = backoff.next_lost(roll()).as_millis() as u64;
            tries.push((std::cmp::Reverse(at), terminal));
        }
        let mut back = Vec::new();
        while let Some((std::cmp::Reverse(at), terminal)) = tries.pop() {
            if at >= away_ms {
                back.push(at - away_ms);
                continue;
            }
            let next = at + fleet[terminal].next(roll()).as_millis() as u64;
            tries.push((std::cmp::Reverse(next), terminal));
        }
        let within_a_second = |first: &u64| {
            let second = *first..*first + 1_000;
            back.iter().filter(|at| second.contains(at)).count()
        };
        Return {
            busiest_second: back.iter().map(within_a_second).max().unwrap_or(0),
            all_back_ms: back.last().copied().unwrap_or(0),
        }
    }

    #[test]
    fn a_thousand_terminals_do_not_come_back_in_one_second_and_are_all_back_in_half_a_minute() {
        for away_s in [0, 1, 2, 5, 10, 60, 600] {
            for seed in 1..4 {
                let seen = fleet_returns(away_s * 1_000, seed);
                assert!(seen.busiest_second <= FLEET * 2 / 5, "{away_s} s: {seen:?}");
                assert!(seen.all_back_ms <= LONGEST_MS, "{away_s} s: {seen:?}");
            }
        }
    }
}
