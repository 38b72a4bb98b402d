//! May another signed link of this window make the HSM work?
//!
//! Whoever stands at a tag has its token, and can put any mac behind it. Links whose mac does not hold are
//! counted for each window of a terminal, in memory: it protects the HSM, not the money, so it may forget. Then
//! the tag's links pause until the next window; QR and typed code go on.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::live::Live;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::token::WindowId;

/// Signed links of one terminal and window whose mac may be wrong, before the tag pauses.
pub const UNPROVEN_MAX: u32 = 32;
/// Windows that are counted at a time; when more are open, all are forgotten.
pub const WINDOWS_MAX: usize = 65_536;

/// Links of each window that nobody has proved.
#[derive(Default)]
pub struct Unproven(Mutex<HashMap<WindowId, Count>>);

struct Count {
    links: u32,
    closes: Timestamp,
}

impl Unproven {
    /// Counts a link before its mac is looked at: many at once would all be judged by the count before the
    /// first of them.
    pub fn begin(&self, live: &Live, now: Timestamp) -> Result<(), Problem> {
        self.count(live.token().window, live.window().closes, now)
    }

    /// It was proved, or nobody could look: it counts no more.
    pub fn take_back(&self, live: &Live) {
        let mut windows = self.windows();
        let window = live.token().window;
        if let Some(count) = windows.get_mut(&window) {
            count.links = count.links.saturating_sub(1);
            if count.links == 0 {
                windows.remove(&window);
            }
        }
    }

    fn count(&self, window: WindowId, closes: Timestamp, now: Timestamp) -> Result<(), Problem> {
        let mut windows = self.windows();
        if windows.len() >= WINDOWS_MAX && !windows.contains_key(&window) {
            windows.retain(|_, count| count.closes > now);
            if windows.len() >= WINDOWS_MAX {
                windows.clear();
            }
        }
        let count = windows.entry(window).or_insert(Count { links: 0, closes });
        if count.links >= UNPROVEN_MAX {
            // A token is good for a moment after its window, too.
            let wait_ms = (closes - now).max(1_000);
            let problem = Problem::new(ProblemType::TagPaused);
            return Err(problem.with_retry_after(super::seconds(wait_ms)));
        }
        count.links += 1;
        Ok(())
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<WindowId, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::ids::TerminalId;
    use protocol::token::Channel;

    const NOW: Timestamp = Timestamp::from_ms(1_795_459_201_000);

    fn window(epoch: u32) -> WindowId {
        WindowId {
            terminal: TerminalId::from_number(1).unwrap(),
            version: 1,
            channel: Channel::Nfc,
            epoch,
            window: 0,
        }
    }

    #[test]
    fn so_many_of_a_window_are_judged_and_the_next_has_its_own_count() {
        let (unproven, closes) = (Unproven::default(), NOW + 90_000);
        let count = |epoch, now| unproven.count(window(epoch), closes, now);
        for _ in 0..UNPROVEN_MAX {
            assert_eq!(count(1, NOW), Ok(()));
        }
        let paused = |now| count(1, now).unwrap_err();
        assert_eq!(paused(NOW).problem_type(), Some(ProblemType::TagPaused));
        assert_eq!(paused(NOW).retry_after_s, Some(90));
        assert_eq!(paused(closes + 1).retry_after_s, Some(1));
        assert_eq!(count(2, NOW), Ok(()));
    }

    #[test]
    fn no_more_windows_are_kept_than_the_limit_and_past_ones_go_first() {
        let unproven = Unproven::default();
        let count = |epoch, closes| unproven.count(window(epoch), closes, NOW).unwrap();
        count(0, NOW + 1);
        for epoch in 1..WINDOWS_MAX as u32 {
            count(epoch, NOW);
        }
        count(u32::MAX, NOW + 1);
        assert_eq!(unproven.windows().len(), 2, "one is open still");
        for epoch in 1..=WINDOWS_MAX as u32 {
            count(epoch, NOW + 1);
        }
        assert!(unproven.windows().len() <= WINDOWS_MAX);
    }
}
