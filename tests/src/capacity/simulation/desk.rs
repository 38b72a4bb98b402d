//! Who is next at the HSM?
//!
//! The rules of `hsm/src/queue.rs`, without threads: payments before renewals, but after so many in a row
//! a waiting renewal; a queue with an end, of which renewals may fill three quarters; and whoever
//! waited past the deadline is refused unexecuted.

use std::collections::VecDeque;

/// Quarters of the queue that renewals may fill.
const RENEWAL_QUARTERS_MAX: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    Payment,
    Renewal,
}

#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub queue_max: usize,
    pub deadline_s: f64,
    pub payments_in_a_row: u32,
}

/// One request, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub task: usize,
    pub since_s: f64,
    pub takes_s: f64,
}

#[derive(Debug)]
pub struct Desk {
    rules: Rules,
    payments: VecDeque<Waiting>,
    renewals: VecDeque<Waiting>,
    in_a_row: u32,
    pub free_workers: usize,
    /// Seconds that workers were at work, summed up.
    pub worked_s: f64,
}

/// What a worker finds in the queue.
#[derive(Debug)]
pub enum Next {
    Work(Waiting, Priority),
    /// Past its deadline.
    Late(Waiting),
    Nothing,
}

impl Desk {
    pub fn new(workers: usize, rules: Rules) -> Self {
        Self {
            rules,
            payments: VecDeque::new(),
            renewals: VecDeque::new(),
            in_a_row: 0,
            free_workers: workers,
            worked_s: 0.0,
        }
    }

    /// False if the queue is full.
    pub fn push(&mut self, waiting: Waiting, priority: Priority) -> bool {
        let max = self.rules.queue_max;
        let renewals_max = (max * RENEWAL_QUARTERS_MAX).div_ceil(4);
        if self.payments.len() + self.renewals.len() >= max {
            return false;
        }
        match priority {
            Priority::Payment => self.payments.push_back(waiting),
            Priority::Renewal if self.renewals.len() >= renewals_max => return false,
            Priority::Renewal => self.renewals.push_back(waiting),
        }
        true
    }

    /// What a free worker takes; it is occupied then.
    pub fn next(&mut self, now_s: f64) -> Next {
        if self.free_workers == 0 {
            return Next::Nothing;
        }
        match self.pop() {
            None => Next::Nothing,
            Some((late, _)) if now_s - late.since_s >= self.rules.deadline_s => Next::Late(late),
            Some((work, priority)) => {
                self.free_workers -= 1;
                self.worked_s += work.takes_s;
                Next::Work(work, priority)
            }
        }
    }

    fn pop(&mut self) -> Option<(Waiting, Priority)> {
        let renewals_turn =
            self.payments.is_empty() || self.in_a_row >= self.rules.payments_in_a_row;
        if renewals_turn && let Some(renewal) = self.renewals.pop_front() {
            self.in_a_row = 0;
            return Some((renewal, Priority::Renewal));
        }
        let payment = self.payments.pop_front()?;
        self.in_a_row = match self.renewals.is_empty() {
            true => 0,
            false => self.in_a_row + 1,
        };
        Some((payment, Priority::Payment))
    }
}
