//! What becomes of a report that finds the disk full?
//!
//! It waits in memory with the visit that it tells of, in order, until there is room or the authority has
//! it; a terminal goes on showing tokens meanwhile. So does the wear of a tag. What has no room there either
//! is counted, so that nobody takes the rest for all there was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{MutexGuard, PoisonError};

use protocol::ids::EventId;
use protocol::time::Timestamp;
use protocol::wire::reports::TerminalEvent;
use rusqlite::params;

use super::{State, StateError, TagVisited, push_event, wear};
use crate::tag::Programming;

/// Most visits and reports that wait in memory; past it the oldest go.
pub const WAITING_MAX: usize = 1_000;

/// What is not on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Reports in memory; a power cut takes them.
    pub waiting: u64,
    /// Reports of this run that nobody will ever get.
    pub lost: u64,
    /// Programming cycles of tags that are counted in memory only.
    pub cycles: u64,
}

#[derive(Default)]
pub(super) struct Waiting {
    works: VecDeque<Work>,
    lost: u64,
    /// What tags were programmed with, by UID.
    wear: BTreeMap<String, Programming>,
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
    /// As they were at the visit; none: nobody could say.
    cycles: Option<u32>,
}

impl Work {
    pub(super) fn report(event: &TerminalEvent) -> Self {
        Self {
            visit: None,
            reports: vec![event.clone()],
        }
    }

    pub(super) fn visit(
        visit: &TagVisited<'_>,
        cycles: Option<u32>,
        events: &[TerminalEvent],
    ) -> Self {
        Self {
            visit: Some(Visited {
                uid: visit.uid.to_owned(),
                counter: visit.counter,
                at: visit.at,
                cycles,
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
            cycles: waiting.wear.values().map(|it| u64::from(it.cycles)).sum(),
        }
    }

    /// The oldest reports: those on the disk, then those that still find no room there.
    pub fn oldest(&self, count: usize) -> Result<Vec<TerminalEvent>, StateError> {
        let mut waiting = self.waiting();
        let _ = self.write_all(&mut waiting);
        let mut oldest = self.oldest_on_disk(count)?;
        let in_memory = waiting.works.iter().flat_map(|work| &work.reports);
        oldest.extend(in_memory.take(count - oldest.len()).cloned());
        Ok(oldest)
    }

    /// The authority has these. On a full disk even this may find no room: then the same reports are told
    /// again, and their ids say that they are the same.
    pub fn forget(&self, stored: &[EventId]) -> Result<(), StateError> {
        let mut waiting = self.waiting();
        for work in &mut waiting.works {
            work.reports.retain(|event| !stored.contains(&event.id));
        }
        let has_work = |work: &Work| work.visit.is_some() || !work.reports.is_empty();
        waiting.works.retain(has_work);
        self.forget_on_disk(stored)
    }

    /// Counts what is about to be programmed on the disk, and where that fails in memory: then it is an
    /// error all the same.
    pub(super) fn count_or_wait(&self, uid: &str, what: &Programming) -> Result<(), StateError> {
        let mut waiting = self.waiting();
        let earlier = waiting.wear.remove(uid);
        let whole = earlier.map_or(*what, |earlier| what.and(earlier));
        let counted = self.count(uid, &whole);
        if counted.is_err() {
            waiting.wear.insert(uid.to_owned(), whole);
        }
        counted
    }

    /// Cycles of a tag that are counted in memory only.
    pub(super) fn cycles_waiting(&self, uid: &str) -> u32 {
        self.waiting().wear.get(uid).map_or(0, |wear| wear.cycles)
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

    fn write_all(&self, waiting: &mut Waiting) -> Result<(), StateError> {
        let mut result = Ok(());
        while let Some((uid, wear)) = waiting.wear.pop_first() {
            if let Err(error) = self.count(&uid, &wear) {
                waiting.wear.insert(uid, wear);
                result = Err(error);
                break;
            }
        }
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
            if let Some(cycles) = visit.cycles {
                wear::mark(&transaction, &visit.uid, (visit.at.ms(), cycles.into()))?;
            }
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
