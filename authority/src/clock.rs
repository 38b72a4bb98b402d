//! What time is it?
//!
//! The only file of the authority that asks; everything that decides takes the answer.
#![expect(clippy::disallowed_methods, reason = "the one place that asks")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::time::Timestamp;

/// Tells the time; tests bring their own.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Measures how long something took, for metrics; never decides anything.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A moment on a clock that only goes forward, however the machine's is set; for what is too old.
#[derive(Debug, Clone, Copy)]
pub struct Moment(Instant);

impl Moment {
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// One that was so long ago, for tests that wait for nothing.
    #[cfg(test)]
    pub(crate) fn ago(age: Duration) -> Self {
        let then = Instant::now().checked_sub(age);
        Self(then.expect("the machine runs for longer"))
    }

    /// How long ago it was.
    pub fn age(self) -> Duration {
        self.0.elapsed()
    }
}

/// Unix seconds, as certificates count them; times before 1970 are 1970.
pub fn unix_seconds(now: Timestamp) -> u64 {
    u64::try_from(now.secs()).unwrap_or(0)
}
