//! Is the HSM fit to be asked, and what do readiness and metrics show?
//!
//! ```text
//!            failure            FAILURES_MAX in a row,
//!  Ready ──────────▶ Degraded ─────────────────────────▶ Down ◀──────────┐
//!    ▲                  │        or silent too long        │ pause over    │ trial failed:
//!    └──────────────────┴── success ──── Recovering ◀──────┘               │ longer pause
//!                                            └─────────────────────────────┘
//! ```
//! It asks nobody for the time: every call is told `now`.

use std::time::{Duration, Instant};

use crate::{HealthState, HsmError};

/// Failures in a row after which requests are refused at once.
pub(crate) const FAILURES_MAX: u32 = 3;
/// The first pause before a trial, doubled by every failed trial.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest pause before a trial.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Requests that time out, with no answer among them for so long, mean that the device hangs.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Breaker {
    state: State,
    failures: u32,
    pause: Duration,
    silent_since: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Ready,
            failures: 0,
            pause: PAUSE_FIRST,
            silent_since: None,
        }
    }

    /// May a request be queued? While down, one trial per pause may.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), HsmError> {
        let (State::Down { until, error } | State::Recovering { until, error }) = &self.state
        else {
            return Ok(());
        };
        if now < *until {
            return Err(error.clone());
        }
        self.state = State::Recovering {
            until: now + self.pause,
            error: error.clone(),
        };
        Ok(())
    }

    /// The device answered, be it with a refusal.
    pub(crate) fn handle_answer(&mut self) {
        *self = Self::new();
    }

    /// The device, its session or its login failed.
    pub(crate) fn handle_failure(&mut self, now: Instant, error: HsmError) {
        self.failures = self.failures.saturating_add(1);
        match &self.state {
            State::Down { .. } => {}
            State::Recovering { .. } => self.go_down(now, error),
            State::Ready | State::Degraded { .. } if self.must_go_down(&error) => {
                self.go_down(now, error);
            }
            State::Ready | State::Degraded { .. } => self.state = State::Degraded { error },
        }
    }

    /// It was not there from the start.
    pub(crate) fn handle_absence(&mut self, now: Instant, error: HsmError) {
        self.go_down(now, error);
    }

    /// A request got no answer in time. Overload looks like this too, so only lasting silence
    /// brings the breaker down.
    pub(crate) fn handle_timeout(&mut self, now: Instant, error: HsmError) {
        let since = *self.silent_since.get_or_insert(now);
        match self.state {
            State::Down { .. } | State::Recovering { .. } => {}
            _ if now.duration_since(since) >= SILENCE_MAX => self.go_down(now, error),
            _ => self.state = State::Degraded { error },
        }
    }

    pub(crate) fn state(&self) -> HealthState {
        match self.state {
            State::Ready => HealthState::Ready,
            State::Degraded { .. } => HealthState::Degraded,
            State::Down { .. } => HealthState::Down,
            State::Recovering { .. } => HealthState::Recovering,
        }
    }

    pub(crate) fn reason(&self) -> Option<String> {
        match &self.state {
            State::Ready => None,
            State::Degraded { error }
            | State::Down { error, .. }
            | State::Recovering { error, .. } => Some(error.to_string()),
        }
    }

    fn must_go_down(&self, error: &HsmError) -> bool {
        self.failures >= FAILURES_MAX || matches!(error, HsmError::PinRefused { .. })
    }

    fn go_down(&mut self, now: Instant, error: HsmError) {
        self.state = State::Down {
            until: now + self.pause,
            error,
        };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

enum State {
    Ready,
    Degraded {
        error: HsmError,
    },
    Down {
        until: Instant,
        error: HsmError,
    },
    /// One trial is under way; another may follow if it has not come back by `until`.
    Recovering {
        until: Instant,
        error: HsmError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> HsmError {
        HsmError::DeviceLost {
            detail: "test".into(),
        }
    }

    fn down(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES_MAX {
            breaker.handle_failure(now, lost());
        }
        breaker
    }

    #[test]
    fn one_failure_degrades_and_one_answer_heals() {
        let mut breaker = Breaker::new();
        breaker.handle_failure(crate::clock::now(), lost());
        assert_eq!(breaker.state(), HealthState::Degraded);
        assert!(breaker.reason().is_some());
        breaker.handle_answer();
        assert_eq!(breaker.state(), HealthState::Ready);
        assert_eq!(breaker.reason(), None);
    }

    #[test]
    fn failures_in_a_row_refuse_requests_with_the_error_that_caused_it() {
        let now = crate::clock::now();
        let mut breaker = down(now);
        assert_eq!(breaker.state(), HealthState::Down);
        assert_eq!(breaker.admit(now), Err(lost()));
    }

    #[test]
    fn failures_between_answers_do_not_add_up() {
        let now = crate::clock::now();
        let mut breaker = Breaker::new();
        for _ in 0..10 {
            breaker.handle_failure(now, lost());
            breaker.handle_answer();
        }
        assert_eq!(breaker.state(), HealthState::Ready);
    }

    #[test]
    fn after_the_pause_exactly_one_trial_is_admitted() {
        let now = crate::clock::now();
        let mut breaker = down(now);
        let later = now + PAUSE_FIRST;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.state(), HealthState::Recovering);
        assert_eq!(breaker.admit(later), Err(lost()));
    }

    #[test]
    fn a_trial_that_never_comes_back_does_not_block_the_next() {
        let now = crate::clock::now();
        let mut breaker = down(now);
        assert_eq!(breaker.admit(now + PAUSE_MAX), Ok(()));
        assert_eq!(breaker.admit(now + PAUSE_MAX * 2), Ok(()));
    }

    #[test]
    fn failed_trials_pause_longer_up_to_a_limit() {
        let mut now = crate::clock::now();
        let mut breaker = down(now);
        for _ in 0..20 {
            now += PAUSE_MAX;
            assert_eq!(breaker.admit(now), Ok(()));
            breaker.handle_failure(now, lost());
            assert_eq!(breaker.state(), HealthState::Down);
        }
        assert_eq!(breaker.admit(now + PAUSE_FIRST), Err(lost()));
        assert_eq!(breaker.admit(now + PAUSE_MAX), Ok(()));
    }

    #[test]
    fn a_refused_pin_brings_it_down_at_once() {
        let mut breaker = Breaker::new();
        let refused = HsmError::PinRefused {
            detail: "test".into(),
        };
        breaker.handle_failure(crate::clock::now(), refused);
        assert_eq!(breaker.state(), HealthState::Down);
    }

    #[test]
    fn overload_degrades_but_only_lasting_silence_brings_it_down() {
        let now = crate::clock::now();
        let mut breaker = Breaker::new();
        for _ in 0..1000 {
            breaker.handle_timeout(now, lost());
        }
        assert_eq!(breaker.state(), HealthState::Degraded);
        breaker.handle_timeout(now + SILENCE_MAX, lost());
        assert_eq!(breaker.state(), HealthState::Down);
    }
}
