//! What becomes of a node's work, event by event?
//!
//! ```text
//!  arrivals ─▶ task ─▶ desk of the HSM ─▶ writer of the store ─▶ ... ─▶ done
//!                ▲            │ full, or late          │ full
//!                └── again, after a pause ◀────────────┘
//! ```
//! Time is virtual and chance is seeded: the same seed is the same day. Nothing here knows the formulas of
//! [`super::queueing`].

use std::cmp::Ordering;
use std::collections::BinaryHeap;

pub mod desk;
pub mod dice;
pub mod node;
pub mod task;
pub mod waits;
pub mod writer;

/// What happens at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Another one of this kind comes.
    Arrival(task::Kind),
    /// A task that was refused, or has not begun yet, asks now.
    Ask(usize),
    /// A worker of the HSM has carried out the step of this task.
    Worked(usize),
    Committed,
}

/// What comes when; of one moment, what was told first.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    heap: BinaryHeap<Entry>,
    told: u64,
}

impl Calendar {
    pub(crate) fn at(&mut self, at_s: f64, event: Event) {
        self.told += 1;
        self.heap.push(Entry {
            at_s,
            told: self.told,
            event,
        });
    }

    pub(crate) fn next(&mut self) -> Option<(f64, Event)> {
        self.heap.pop().map(|it| (it.at_s, it.event))
    }
}

#[derive(Debug)]
struct Entry {
    at_s: f64,
    told: u64,
    event: Event,
}

impl Ord for Entry {
    /// The heap gives the greatest first, and that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        let earlier = other.at_s.total_cmp(&self.at_s);
        earlier.then(other.told.cmp(&self.told))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
