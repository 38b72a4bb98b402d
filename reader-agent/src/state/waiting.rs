//! What becomes of a report that finds the disk full?
//!
//! It waits in memory with the visit that it tells of, in order, until there is room; a terminal goes on
//! showing tokens meanwhile. What has no room there either is counted, so that nobody takes the rest for
//! all there was.

use std::collections::VecDeque;
use std::sync::{MutexGuard, PoisonError};

use protocol::time::Timestamp;
use protocol::wire::reports::TerminalEvent;
use rusqlite::params;

use super::{State, StateError, TagVisited, push_event, wear};

/// Most visits and reports that wait in memory; past it the oldest go.
pub const WAITING_MAX: usize = 1_000;

/// What is not on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Reports in memory; a power cut takes them.
    pub waiting: u64,
    /// Reports of this run that nobody will ever get.
    pub lost: u64,
}

#[derive(Default)]
pub(super) struct Waiting {
    works: VecDeque<Work>,
    lost: u64,
}

/// What is written in one transaction.
pub(super) struct Work {
    visit: Option<Visited>,
    reports: Vec<TerminalEvent>,
}

struct Visited {
    uid: String,
    counter: Option<u32>,
    at: Timestamp,
}

impl Work {
    pub(super) fn report(event: &TerminalEvent) -> Self {
        Self {
            visit: None,
            reports: vec![event.clone()],
        }
    }

    pub(super) fn visit(visit: &TagVisited<'_>, events: &[TerminalEvent]) -> Self {
        Self {
            visit: Some(Visited {
                uid: visit.uid.to_owned(),
                counter: visit.counter,
                at: visit.at,
            }),
            reports: events.to_vec(),
        }
    }
}

impl State {
    pub fn withheld(&self) -> Withheld {
        let waiting = self.waiting();
        let reports = waiting.works.iter().map(|work| work.reports.len() as u64);
        Withheld {
            waiting: reports.sum(),
            lost: waiting.lost,
        }
    }

    /// Writes what has waited, then this; what finds no room waits.
    pub(super) fn write_or_wait(&self, work: Work) -> Result<(), StateError> {
        let mut waiting = self.waiting();
        waiting.works.push_back(work);
        if waiting.works.len() > WAITING_MAX {
            let oldest = waiting.works.pop_front();
            waiting.lost += oldest.map_or(0, |work| work.reports.len() as u64);
        }
        self.write_all(&mut waiting)
    }

    /// Writes what has waited, as far as there is room.
    pub(super) fn settle(&self) -> Result<(), StateError> {
        self.write_all(&mut self.waiting())
    }

    fn write_all(&self, waiting: &mut Waiting) -> Result<(), StateError> {
        let mut result = Ok(());
        while let Some(work) = waiting.works.front() {
            match self.write(work) {
                Err(StateError::DiskFull) => return Err(StateError::DiskFull),
                Ok(0) => {}
                Ok(refused) => {
                    waiting.lost += refused;
                    result = Err(StateError::OutboxFull);
                }
                Err(error) => {
                    waiting.lost += work.reports.len() as u64;
                    result = Err(error);
                }
            }
            waiting.works.pop_front();
        }
        result
    }

    /// How many of its reports the full outbox did not take; the visit counts all the same.
    fn write(&self, work: &Work) -> Result<u64, StateError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        if let Some(visit) = &work.visit {
            transaction.execute(
                "INSERT INTO tag (uid, writes, pages, counter, last_visit_ms) VALUES (?1, 0, 0, ?2, ?3)
                 ON CONFLICT (uid) DO UPDATE SET counter = excluded.counter,
                    last_visit_ms = excluded.last_visit_ms",
                params![visit.uid, visit.counter, visit.at.ms()],
            )?;
            wear::mark(&transaction, &visit.uid, visit.at)?;
        }
        let mut refused = 0;
        for event in &work.reports {
            match push_event(&transaction, event) {
                Err(StateError::OutboxFull) => refused += 1,
                pushed => pushed?,
            }
        }
        transaction.commit()?;
        Ok(refused)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
