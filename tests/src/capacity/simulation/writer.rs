//! Which writes share a commit?
//!
//! The rules of the store's writer: it takes what is queued, up to so many, into one transaction, and
//! nobody is answered before its commit. What comes meanwhile waits for the next.

use std::collections::VecDeque;

#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub batch_max: usize,
    pub queue_max: usize,
    pub commit_s: f64,
    pub write_s: f64,
}

#[derive(Debug)]
pub struct Writer {
    rules: Rules,
    queue: VecDeque<usize>,
    under_way: Vec<usize>,
    pub worked_s: f64,
    pub commits: u64,
}

impl Writer {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            queue: VecDeque::new(),
            under_way: Vec::new(),
            worked_s: 0.0,
            commits: 0,
        }
    }

    /// False if the queue is full.
    pub fn push(&mut self, task: usize) -> bool {
        let room = self.queue.len() < self.rules.queue_max;
        if room {
            self.queue.push_back(task);
        }
        room
    }

    /// Begins a transaction if none is under way and something waits; how long it takes.
    pub fn begin(&mut self) -> Option<f64> {
        if !self.under_way.is_empty() || self.queue.is_empty() {
            return None;
        }
        let batch = self.queue.len().min(self.rules.batch_max);
        self.under_way.extend(self.queue.drain(..batch));
        let takes_s = self.rules.commit_s + batch as f64 * self.rules.write_s;
        self.worked_s += takes_s;
        self.commits += 1;
        Some(takes_s)
    }

    /// The transaction is durable: who is answered.
    pub fn committed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.under_way)
    }
}
