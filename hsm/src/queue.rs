//! Which waiting request does a worker take next?
//!
//! Payments before renewals; but after [`PAYMENTS_IN_A_ROW_MAX`] payments a waiting renewal has its
//! turn, so that terminals are not starved by a busy day. A herd of renewals cannot shut payments out:
//! it may fill only a share of the queue, and keep all workers but one busy.

use std::collections::VecDeque;

use crate::{
    Priority,
    sync::{Condvar, Mutex, lock},
};

/// Payments served in a row while a renewal waits.
pub(crate) const PAYMENTS_IN_A_ROW_MAX: u32 = 8;
/// Quarters of the queue that renewals may fill.
const RENEWAL_QUARTERS_MAX: usize = 3;

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// There may be something to take now: an item came, or a renewal was done.
    changed: Condvar,
    max: usize,
    renewals_in_hand_max: usize,
}

/// A worker has an item in hand, until this is dropped.
pub(crate) struct InHand<'a, T> {
    queue: &'a Queue<T>,
    priority: Priority,
}

/// Why an item was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

impl<T> Queue<T> {
    /// For this many workers.
    pub(crate) fn new(max: usize, workers: usize) -> Self {
        let state = State {
            payments: VecDeque::new(),
            renewals: VecDeque::new(),
            payments_in_a_row: 0,
            renewals_in_hand: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            max,
            renewals_in_hand_max: workers.saturating_sub(1).max(1),
        }
    }

    /// Never waits: a full queue is an answer.
    pub(crate) fn push(&self, item: T, priority: Priority) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.len() >= self.max {
            return Err(Refused::Full);
        }
        match priority {
            Priority::Payment => state.payments.push_back(item),
            Priority::Renewal if state.renewals.len() >= self.renewals_max() => {
                return Err(Refused::Full);
            }
            Priority::Renewal => state.renewals.push_back(item),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for an item that may be worked on; `None` once the queue is closed.
    pub(crate) fn pop(&self) -> Option<(T, InHand<'_, T>)> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some((item, priority)) = state.next(self.renewals_in_hand_max) {
                let queue = self;
                return Some((item, InHand { queue, priority }));
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Sends the workers home and returns what nobody will work on.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut state = lock(&self.state);
        state.closed = true;
        let left = state.drain();
        drop(state);
        self.changed.notify_all();
        left
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.state).len()
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    fn renewals_max(&self) -> usize {
        (self.max * RENEWAL_QUARTERS_MAX).div_ceil(4)
    }
}

impl<T> Drop for InHand<'_, T> {
    fn drop(&mut self) {
        if self.priority == Priority::Renewal {
            lock(&self.queue.state).renewals_in_hand -= 1;
            self.queue.changed.notify_one();
        }
    }
}

struct State<T> {
    payments: VecDeque<T>,
    renewals: VecDeque<T>,
    payments_in_a_row: u32,
    renewals_in_hand: usize,
    closed: bool,
}

impl<T> State<T> {
    fn len(&self) -> usize {
        self.payments.len() + self.renewals.len()
    }

    fn next(&mut self, renewals_in_hand_max: usize) -> Option<(T, Priority)> {
        let renewals_turn =
            self.payments.is_empty() || self.payments_in_a_row >= PAYMENTS_IN_A_ROW_MAX;
        if renewals_turn
            && self.renewals_in_hand < renewals_in_hand_max
            && let Some(renewal) = self.renewals.pop_front()
        {
            self.payments_in_a_row = 0;
            self.renewals_in_hand += 1;
            return Some((renewal, Priority::Renewal));
        }
        let payment = self.payments.pop_front()?;
        self.payments_in_a_row = match self.renewals.is_empty() {
            true => 0,
            false => self.payments_in_a_row + 1,
        };
        Some((payment, Priority::Payment))
    }

    fn drain(&mut self) -> Vec<T> {
        self.payments
            .drain(..)
            .chain(self.renewals.drain(..))
            .collect()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn taken<T>(queue: &Queue<T>) -> Option<T> {
        queue.pop().map(|(item, _)| item)
    }

    #[test]
    fn payments_go_first() {
        let queue = Queue::new(4, 1);
        queue.push("renewal", Priority::Renewal).unwrap();
        queue.push("payment", Priority::Payment).unwrap();
        assert_eq!(taken(&queue), Some("payment"));
        assert_eq!(taken(&queue), Some("renewal"));
    }

    #[test]
    fn a_renewal_waits_for_at_most_the_named_number_of_payments() {
        let queue = Queue::new(100, 1);
        queue.push(None, Priority::Renewal).unwrap();
        for n in 0..50 {
            queue.push(Some(n), Priority::Payment).unwrap();
        }
        let place = (0..51).position(|_| taken(&queue) == Some(None)).unwrap();
        assert_eq!(place, PAYMENTS_IN_A_ROW_MAX as usize);
    }

    #[test]
    fn a_full_queue_refuses() {
        let queue = Queue::new(1, 1);
        queue.push(1, Priority::Payment).unwrap();
        assert_eq!(queue.push(2, Priority::Payment), Err(Refused::Full));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_herd_of_renewals_leaves_room_for_payments() {
        let queue = Queue::new(4, 1);
        let taken = (0..4).filter(|n| queue.push(*n, Priority::Renewal).is_ok());
        assert_eq!(taken.count(), 3);
        assert_eq!(queue.push(9, Priority::Payment), Ok(()));
    }

    #[test]
    fn a_closed_queue_gives_its_rest_back_and_nothing_out() {
        let queue = Queue::new(4, 1);
        queue.push(1, Priority::Renewal).unwrap();
        queue.push(2, Priority::Payment).unwrap();
        assert_eq!(queue.close(), vec![2, 1]);
        assert_eq!(taken(&queue), None);
        assert_eq!(queue.push(3, Priority::Payment), Err(Refused::Closed));
    }

    #[test]
    fn renewals_in_hand_leave_a_worker_to_payments() {
        let queue = Queue::new(8, 3);
        for n in 0..3 {
            queue.push(n, Priority::Renewal).unwrap();
        }
        queue.push(9, Priority::Payment).unwrap();
        let (payment, renewals) = (queue.pop().unwrap(), [queue.pop(), queue.pop()]);
        let (first, second) = (payment.0, renewals.map(|it| it.unwrap()));
        assert_eq!((first, second[0].0, second[1].0), (9, 0, 1));
        let next = || lock(&queue.state).next(queue.renewals_in_hand_max);
        assert_eq!(next(), None, "the third renewal waits");
        queue.push(10, Priority::Payment).unwrap();
        assert_eq!(next(), Some((10, Priority::Payment)));
        drop(second);
        assert_eq!(taken(&queue), Some(2));
    }

    #[test]
    fn a_lone_worker_serves_renewals_too() {
        let queue = Queue::new(4, 1);
        queue.push(1, Priority::Renewal).unwrap();
        assert_eq!(taken(&queue), Some(1));
    }
}
