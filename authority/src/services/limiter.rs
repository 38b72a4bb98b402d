//! May this person try another typed code here?
//!
//! 5 misses per person in 15 minutes; 10 per terminal and window by anybody, then that code pauses.
//! Both are asked before anything is looked up, so a guess past a limit learns nothing. The overall
//! rate of misses only raises an alarm: a global lock would be an attacker's switch.

use std::hash::{DefaultHasher, Hash, Hasher};

use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};
use protocol::token::{Channel, WindowId};
use protocol::window::EpochClock;
use tokio::sync::{Mutex, MutexGuard};

pub use crate::store::PERSON_SPAN_MS;
use crate::store::{MissCount, PersonKey};

/// Misses of one person within [`PERSON_SPAN_MS`], after which they wait.
pub const PERSON_MISSES_MAX: u32 = 5;
/// Misses at one terminal in one window, after which its code pauses until the next.
pub const WINDOW_MISSES_MAX: u32 = 10;
/// Misses of everybody in one minute, at which somebody is told; nothing is locked.
pub const OVERALL_ALARM: u32 = 120;
const MINUTE_MS: Millis = 60_000;
/// Guesses that are judged at the same time, of persons and of terminals each.
const TURNSTILES: usize = 64;

/// Whose limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    Person,
    Window,
}

/// Decides from the counts before a guess whether it may be made.
pub fn judge(misses: MissCount) -> Result<(), Limited> {
    if misses.person >= PERSON_MISSES_MAX {
        return Err(Limited::Person);
    }
    if misses.window >= WINDOW_MISSES_MAX {
        return Err(Limited::Window);
    }
    Ok(())
}

impl Limited {
    /// `window_closes` is when the code that pauses now is replaced by the next.
    pub fn problem(self, now: Timestamp, window_closes: Timestamp) -> Problem {
        let (problem, wait_ms) = match self {
            Self::Person => (ProblemType::TooManyMisses, PERSON_SPAN_MS),
            Self::Window => (ProblemType::CodePaused, window_closes - now),
        };
        Problem::new(problem).with_retry_after(super::seconds(wait_ms))
    }
}

/// Where a miss is counted that belongs to no window: the terminal is not there, or has no keys.
///
/// No window has version 0, so it counts for the person only.
pub fn no_window(terminal: TerminalId, now: Timestamp) -> WindowId {
    WindowId {
        terminal,
        version: 0,
        channel: Channel::Code,
        epoch: EpochClock::of(terminal).epoch_at(now),
        window: 0,
    }
}

/// The rate of misses at all terminals by everybody.
#[derive(Default)]
pub struct Overall(std::sync::Mutex<(i64, u32)>);

impl Overall {
    /// Counts a miss; true once in a minute, when they have become many.
    pub fn miss(&self, now: Timestamp) -> bool {
        let minute = now.ms().div_euclid(MINUTE_MS);
        let counted = self.0.lock();
        let mut counted = counted.unwrap_or_else(std::sync::PoisonError::into_inner);
        if counted.0 != minute {
            *counted = (minute, 0);
        }
        counted.1 = counted.1.saturating_add(1);
        counted.1 == OVERALL_ALARM
    }
}

/// One guess at a time per person and per terminal: many at once would all be judged by the count
/// before the first of them.
pub struct Turnstiles {
    persons: Vec<Mutex<()>>,
    terminals: Vec<Mutex<()>>,
}

/// The right to make one guess.
pub struct Pass<'a> {
    _person: MutexGuard<'a, ()>,
    _terminal: MutexGuard<'a, ()>,
}

impl Default for Turnstiles {
    fn default() -> Self {
        let row = || (0..TURNSTILES).map(|_| Mutex::default()).collect();
        Self {
            persons: row(),
            terminals: row(),
        }
    }
}

impl Turnstiles {
    /// Persons first, then terminals: always in this order, so nobody waits in a circle.
    pub async fn pass(&self, person: &PersonKey, terminal: TerminalId) -> Pass<'_> {
        Pass {
            _person: self.persons[place(person)].lock().await,
            _terminal: self.terminals[place(&terminal)].lock().await,
        }
    }
}

fn place(of: &impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    (hasher.finish() % TURNSTILES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(person: u32, window: u32) -> Result<(), Limited> {
        judge(MissCount { person, window })
    }

    #[test]
    fn many_misses_in_a_minute_are_told_once() {
        let (overall, start) = (Overall::default(), Timestamp::from_ms(0));
        let alarms = |at, misses| (0..misses).filter(|_| overall.miss(at)).count();
        assert_eq!(alarms(start, OVERALL_ALARM - 1), 0);
        assert_eq!(alarms(start, 1), 1);
        assert_eq!(alarms(start, OVERALL_ALARM), 0);
        assert_eq!(alarms(start + MINUTE_MS, OVERALL_ALARM), 1);
    }

    #[test]
    fn the_sixth_guess_of_a_person_and_the_eleventh_in_a_window_are_not_judged() {
        assert_eq!(misses(4, 9), Ok(()));
        assert_eq!(misses(5, 0), Err(Limited::Person));
        assert_eq!(misses(0, 10), Err(Limited::Window));
        assert_eq!(misses(5, 10), Err(Limited::Person));
    }
}
