//! What time is it at the authority?
//!
//! Tokens change by the authority's clock, not by this machine's, which anybody can set. The agent
//! keeps the difference between the authority's clock and a clock that only runs forward and counts
//! time asleep. Every frame of the authority says what time it is there; a frame is never early, so
//! of several readings the largest is the best. How late a frame is nobody knows: it may have waited in a
//! buffer while this machine slept for a weekend. So only the answer to a question of ours turns the clock
//! back, and only as far as question and answer leave no other way.
//!
//! Only this file reads clocks; everything else is told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::time::{Millis, Timestamp};

use crate::platform;

/// Two clocks that differ by less are taken to agree.
pub const STEP_MS: Millis = 500;
/// A frame that seems later than this says that a clock was set, or that it waited: who knows asks.
pub const LATE_MS: Millis = 5_000;
/// An answer that took longer tells too little to set a clock by.
pub const ANSWER_MS: Millis = 5_000;

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
    /// Which start of the machine the ticks count from, where that can be told.
    fn boot_id(&self) -> Option<u128>;
}

#[derive(Debug, Clone, Copy)]
struct Offset {
    ms: Millis,
    from: Source,
}

/// Where a difference to the authority's clock is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From the authority in this run.
    Heard,
    /// From the authority in an earlier run, since which the ticks have counted on: as good as heard, but
    /// that the authority's clock may have been set meanwhile.
    Counted,
    /// Remembered, and leaning on the wall clock: a guess.
    Wall,
}

/// What a reading of the authority's clock meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It fits, or the clock was set by it.
    Known,
    /// It contradicts the clock and proves nothing: ask.
    Doubtful,
}

/// What a restart can start from: authority minus wall clock, and the last time that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub authority_minus_wall_ms: Millis,
    pub last_seen: Timestamp,
    /// None where a machine's starts cannot be told apart.
    pub boot: Option<SinceBoot>,
}

/// While the machine has not been started anew, nobody can set the clock that this leans on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SinceBoot {
    pub boot_id: u128,
    pub authority_minus_ticks_ms: Millis,
}

impl Clock {
    /// Starts from what the last run remembered, until the authority speaks. Whoever sets the wall clock
    /// changes nothing as long as the machine was not started anew; after that, a wall clock that lies before
    /// the last moment seen is not believed.
    pub fn start(remembered: Option<Remembered>) -> Self {
        Self::with(Box::new(OwnHands::start()), remembered)
    }

    /// The same on other clocks than this machine's.
    pub fn with(hands: Box<dyn Hands>, remembered: Option<Remembered>) -> Self {
        let offset = remembered.and_then(|r| match r.in_boot(hands.boot_id()) {
            Some(ms) => Some(Offset {
                ms,
                from: Source::Counted,
            }),
            None => Some(Offset {
                ms: r.believe(hands.wall())?.ms() - hands.ticks_ms(),
                from: Source::Wall,
            }),
        });
        Self {
            hands,
            offset: Mutex::new(offset),
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

    /// The authority said what time it is, just now.
    #[cfg(test)]
    pub(crate) fn heard(&self, authority: Timestamp) {
        self.answered(authority, self.hands.ticks_ms());
    }

    /// The authority said what time it is after it was asked, at this count of ticks.
    pub fn answered(&self, authority: Timestamp, asked: Millis) -> Told {
        let now = self.hands.ticks_ms();
        let (least, most) = (authority.ms() - now, authority.ms() - asked);
        let is_prompt = now - asked <= ANSWER_MS;
        self.weigh(|best| match best {
            Some(best) if best < least => Some(least),
            Some(best) if best <= most + STEP_MS => Some(best),
            _ => is_prompt.then_some(least),
        })
    }

    /// A frame that nobody asked for says what time it was there when it was made.
    pub fn overheard(&self, authority: Timestamp) -> Told {
        let least = authority.ms() - self.hands.ticks_ms();
        self.weigh(|best| match best {
            Some(best) if best < least => Some(least),
            Some(best) if best - least <= LATE_MS => Some(best),
            _ => None,
        })
    }

    /// Takes a better difference, if there is one, in the place of what was heard so far, in this run or
    /// before it.
    fn weigh(&self, better: impl FnOnce(Option<Millis>) -> Option<Millis>) -> Told {
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ms) = better(offset.filter(|o| o.from != Source::Wall).map(|o| o.ms)) else {
            return Told::Doubtful;
        };
        *offset = Some(Offset {
            ms,
            from: Source::Heard,
        });
        Told::Known
    }

    /// True once the authority itself has said.
    pub fn is_heard(&self) -> bool {
        self.offset().is_some_and(|o| o.from == Source::Heard)
    }

    /// What to remember for the next start.
    pub fn remember(&self) -> Option<Remembered> {
        let now = self.now()?;
        Some(Remembered {
            authority_minus_wall_ms: now - self.hands.wall(),
            last_seen: now,
            boot: self
                .hands
                .boot_id()
                .zip(self.offset())
                .map(|(boot_id, offset)| SinceBoot {
                    boot_id,
                    authority_minus_ticks_ms: offset.ms,
                }),
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
    /// Authority minus ticks, if the ticks still count from the same start of the machine.
    fn in_boot(self, boot_id: Option<u128>) -> Option<Millis> {
        let boot = self.boot.filter(|boot| Some(boot.boot_id) == boot_id)?;
        Some(boot.authority_minus_ticks_ms)
    }

    fn believe(self, wall: Timestamp) -> Option<Timestamp> {
        let now = wall + self.authority_minus_wall_ms;
        (now >= self.last_seen).then_some(now)
    }
}

/// This machine's clocks.
struct OwnHands {
    ticks: Ticks,
    boot_id: Option<u128>,
}

impl OwnHands {
    fn start() -> Self {
        let ticks = Ticks::start();
        let boot_id = match ticks {
            Ticks::Boot => platform::boot_id(),
            Ticks::Steady(_) => None,
        };
        Self { ticks, boot_id }
    }
}

impl Hands for OwnHands {
    fn ticks_ms(&self) -> Millis {
        self.ticks.now_ms()
    }

    fn wall(&self) -> Timestamp {
        wall()
    }

    fn boot_id(&self) -> Option<u128> {
        self.boot_id
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

/// Rings after a time in which this machine may have slept: then it is late by nothing.
///
/// The runtime's timers stand still while a machine sleeps, and would go on where they stopped.
pub struct Alarm(Option<platform::BootAlarm>);

impl Alarm {
    #[expect(clippy::new_without_default, reason = "it opens a timer")]
    pub fn new() -> Self {
        Self(platform::BootAlarm::new().ok())
    }

    /// Returns when so much time is over, time asleep included; where there is no such timer, time awake.
    pub async fn after(&mut self, pause: Duration) {
        let rung = match &mut self.0 {
            Some(alarm) => alarm.after(pause).await.is_ok(),
            None => false,
        };
        if !rung {
            tokio::time::sleep(pause).await;
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
mod tests;
