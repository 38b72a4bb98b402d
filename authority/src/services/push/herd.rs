//! What if something changed for everybody?
//!
//! Every stream looks at its state then, and a hundred thousand looks at one moment are payments that wait.
//! So they are woken in turns, [`WOKEN_PER_S`] at most; a small fleet hears at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::TerminalId;

use super::streams::Streams;

/// Streams woken in one go, and the pause until the next.
const SLICE: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);
/// Streams woken in a second at most.
pub const WOKEN_PER_S: usize = SLICE * 20;

/// Who has not been woken yet.
#[derive(Clone)]
pub(super) struct Herd {
    streams: Arc<Mutex<Streams>>,
    waiting: Arc<Mutex<Vec<TerminalId>>>,
}

impl Herd {
    pub(super) fn of(streams: Arc<Mutex<Streams>>) -> Self {
        Self {
            streams,
            waiting: Arc::default(),
        }
    }

    /// Wakes everybody who listens now, the first of them at once; answers how many there are.
    pub(super) fn wake_all(&self) -> usize {
        let all = lock(&self.streams).all_here();
        let count = all.len();
        let others_wait = {
            let mut waiting = lock(&self.waiting);
            let others_wait = !waiting.is_empty();
            *waiting = all;
            others_wait
        };
        // Whoever is at it goes on with the longer list.
        if !others_wait && self.wake_some() {
            let herd = self.clone();
            tokio::spawn(async move { herd.walk().await });
        }
        count
    }

    async fn walk(&self) {
        let mut turns = tokio::time::interval(PAUSE);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once, and the first slice has gone.
        turns.tick().await;
        loop {
            turns.tick().await;
            if !self.wake_some() {
                return;
            }
        }
    }

    /// Wakes one slice; false when nobody waits any more.
    fn wake_some(&self) -> bool {
        let (slice, more) = {
            let mut waiting = lock(&self.waiting);
            let rest = waiting.len().saturating_sub(SLICE);
            let slice = waiting.split_off(rest);
            (slice, !waiting.is_empty())
        };
        let streams = lock(&self.streams);
        slice
            .into_iter()
            .for_each(|terminal| streams.wake(terminal));
        more
    }
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use protocol::time::Timestamp;
    use tokio::sync::watch::Receiver;

    use super::*;

    fn crowd(herd: &Herd, count: u32) -> Vec<Receiver<()>> {
        let now = Timestamp::from_ms(0);
        let mut streams = lock(&herd.streams);
        let mut enter = |n| {
            let terminal = TerminalId::from_number(n).unwrap();
            streams.enter(terminal, "01", None, now).woken
        };
        (0..count).map(&mut enter).collect()
    }

    fn woken(crowd: &mut [Receiver<()>]) -> usize {
        let woken = |it: &mut Receiver<()>| {
            let changed = it.has_changed().unwrap();
            it.borrow_and_update();
            changed
        };
        crowd.iter_mut().map(woken).filter(|woken| *woken).count()
    }

    #[tokio::test]
    async fn a_fleet_is_woken_in_slices_and_each_stream_once() {
        let herd = Herd::of(Arc::default());
        let mut crowd = crowd(&herd, 450);
        assert_eq!(herd.wake_all(), 450);
        assert_eq!(woken(&mut crowd), SLICE, "the first at once");
        let mut slices = Vec::new();
        // As the task does at its ticks, which need not have come yet.
        while herd.wake_some() {
            slices.push(woken(&mut crowd));
        }
        slices.push(woken(&mut crowd));
        assert_eq!(slices, [100, 100, 100, 50]);
    }

    #[tokio::test]
    async fn a_change_in_the_middle_wakes_everybody_again_and_makes_it_no_faster() {
        let herd = Herd::of(Arc::default());
        let mut crowd = crowd(&herd, 250);
        herd.wake_all();
        herd.wake_all();
        assert_eq!(woken(&mut crowd), SLICE, "one slice in one go");
        let mut rest = 0;
        while herd.wake_some() {
            rest += woken(&mut crowd);
        }
        rest += woken(&mut crowd);
        assert_eq!(rest, 250, "also those who heard of the first change");
    }
}
