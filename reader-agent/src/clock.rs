//! What time is it at the authority?
//!
//! Tokens change by the authority's clock, not by this machine's, which anybody can set. The agent
//! keeps the difference between the authority's clock and a clock that only runs forward and counts
//! time asleep. Every frame of the authority says what time it is there; a frame is never early, so
//! of several readings the largest is the best.
//!
//! Only this file reads clocks; everything else is told.

use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use protocol::time::{Millis, Timestamp};

use crate::platform;

/// A reading that is this much below the best one is no delay but a clock that was set.
pub const STEP_MS: Millis = 500;

/// The authority's time, as far as it is known.
pub struct Clock {
    hands: Box<dyn Hands>,
    offset: Mutex<Option<Offset>>,
}

/// What a machine's clocks say.
pub trait Hands: Send + Sync {
    /// Milliseconds that only run forward and count time asleep.
    fn ticks_ms(&self) -> Millis;
    /// What anybody can set.
    fn wall(&self) -> Timestamp;
}

#[derive(Debug, Clone, Copy)]
struct Offset {
    ms: Millis,
    /// From the authority in this run, or remembered.
    heard: bool,
}

/// What a restart can start from: authority minus wall clock, and the last time that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub authority_minus_wall_ms: Millis,
    pub last_seen: Timestamp,
}

impl Clock {
    /// Starts from what the last run remembered, until the authority speaks. A wall clock that lies
    /// before the last moment seen is not believed.
    pub fn start(remembered: Option<Remembered>) -> Self {
        Self::with(Box::new(OwnHands(Ticks::start())), remembered)
    }

    /// The same on other clocks than this machine's.
    pub fn with(hands: Box<dyn Hands>, remembered: Option<Remembered>) -> Self {
        let guess = remembered
            .and_then(|r| r.believe(hands.wall()))
            .map(|now| Offset {
                ms: now.ms() - hands.ticks_ms(),
                heard: false,
            });
        Self {
            hands,
            offset: Mutex::new(guess),
        }
    }

    /// The authority's time; none when neither it nor a last run has said.
    pub fn now(&self) -> Option<Timestamp> {
        let ticks = self.hands.ticks_ms();
        self.offset().map(|o| Timestamp::from_ms(ticks + o.ms))
    }

    /// The authority's time, or this machine's for want of a better one: for logs and for the dates
    /// of certificates, never for a token.
    pub fn now_or_wall(&self) -> Timestamp {
        self.now().unwrap_or_else(|| self.hands.wall())
    }

    /// The authority said what time it is.
    pub fn heard(&self, authority: Timestamp) {
        let sample = authority.ms() - self.hands.ticks_ms();
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        let best = offset.filter(|o| o.heard).map(|o| o.ms);
        *offset = Some(Offset {
            ms: better(best, sample),
            heard: true,
        });
    }

    /// True once the authority itself has said.
    pub fn is_heard(&self) -> bool {
        self.offset().is_some_and(|o| o.heard)
    }

    /// What to remember for the next start.
    pub fn remember(&self) -> Option<Remembered> {
        let now = self.now()?;
        Some(Remembered {
            authority_minus_wall_ms: now - self.hands.wall(),
            last_seen: now,
        })
    }

    /// Authority minus this machine's wall clock, for whoever wants to set it right.
    pub fn offset_ms(&self) -> Option<Millis> {
        self.now().map(|now| now - self.hands.wall())
    }

    /// A count of milliseconds that only runs forward, for back-off and budgets.
    pub fn ticks_ms(&self) -> Millis {
        self.hands.ticks_ms()
    }

    fn offset(&self) -> Option<Offset> {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn believe(self, wall: Timestamp) -> Option<Timestamp> {
        let now = wall + self.authority_minus_wall_ms;
        (now >= self.last_seen).then_some(now)
    }
}

/// Frames arrive late, never early: the larger is nearer the truth, unless the clock was set.
fn better(best: Option<Millis>, sample: Millis) -> Millis {
    match best {
        Some(best) if sample <= best && best - sample < STEP_MS => best,
        _ => sample,
    }
}

/// This machine's clocks.
struct OwnHands(Ticks);

impl Hands for OwnHands {
    fn ticks_ms(&self) -> Millis {
        self.0.now_ms()
    }

    fn wall(&self) -> Timestamp {
        wall()
    }
}

/// A clock that only runs forward.
enum Ticks {
    /// Since this machine started, time asleep included.
    Boot,
    /// Where the operating system's own steady clock counts time asleep already.
    Steady(Instant),
}

impl Ticks {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn start() -> Self {
        match platform::since_boot_ms() {
            Some(_) => Self::Boot,
            None => Self::Steady(Instant::now()),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now_ms(&self) -> Millis {
        match self {
            Self::Boot => platform::since_boot_ms()
                .expect("/proc/uptime was read at the start and does not go away"),
            Self::Steady(start) => start.elapsed().as_millis() as Millis,
        }
    }
}

/// This machine's wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> Timestamp {
    of_system(SystemTime::now()).unwrap_or(Timestamp::from_ms(0))
}

/// A moment of the standard library's; none before 1970.
pub fn of_system(at: SystemTime) -> Option<Timestamp> {
    let since_epoch = at.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_ms(since_epoch.as_millis() as Millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delayed_frame_does_not_turn_the_clock_back_but_a_set_clock_does() {
        assert_eq!(better(None, 7), 7);
        assert_eq!(better(Some(1_000), 900), 1_000);
        assert_eq!(better(Some(1_000), 1_001), 1_001);
        assert_eq!(better(Some(1_000), 1_000 - STEP_MS), 500);
    }

    #[test]
    fn a_wall_clock_behind_the_last_moment_seen_is_not_believed() {
        let remembered = Remembered {
            authority_minus_wall_ms: 250,
            last_seen: Timestamp::from_ms(10_000),
        };
        let at = |ms| remembered.believe(Timestamp::from_ms(ms));
        assert_eq!(at(9_000), None);
        assert_eq!(at(9_750), Some(Timestamp::from_ms(10_000)));
    }

    #[test]
    fn a_fresh_agent_does_not_know_the_time_until_the_authority_speaks() {
        let clock = Clock::start(None);
        assert_eq!(clock.now(), None);
        clock.heard(Timestamp::from_ms(1_795_459_200_000));
        assert!(clock.now().is_some_and(|now| now.ms() >= 1_795_459_200_000));
        assert!(clock.is_heard());
    }
}
