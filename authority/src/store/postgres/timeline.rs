//! On which timeline is the server, and was that one compared?

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::Result;
use crate::store::sqlite::error::unusable;

/// Of the server that writes, as it is now; `pg_control_checkpoint` knows it only after the next checkpoint.
pub(super) const TIMELINE: &str = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int AS timeline";

/// What all connections of a store agree on.
#[derive(Default)]
pub(super) struct Timeline(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// The one that was compared; the first one is compared by whoever opens the store.
    known: Option<u32>,
    question: Option<u32>,
}

impl Timeline {
    /// A new connection found this one.
    pub(super) fn meet(&self, timeline: u32) -> Result<()> {
        let mut seen = self.lock();
        match seen.known {
            None => seen.known = Some(timeline),
            Some(known) if known == timeline => {}
            Some(_) => seen.question = Some(timeline),
        }
        seen.answer()
    }

    /// Whether a connection on this timeline may be used: an error while there is a question, and false if
    /// the answer was another one.
    pub(super) fn holds(&self, timeline: u32) -> Result<bool> {
        let seen = self.lock();
        seen.answer()?;
        Ok(seen.known == Some(timeline))
    }

    pub(super) fn question(&self) -> Option<u32> {
        self.lock().question
    }

    pub(super) fn accept(&self, timeline: u32) {
        let mut seen = self.lock();
        seen.known = Some(timeline);
        seen.question = seen.question.filter(|other| *other != timeline);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn answer(&self) -> Result<()> {
        let (Some(question), Some(known)) = (self.question, self.known) else {
            return Ok(());
        };
        Err(unusable(format!(
            "PostgreSQL is on timeline {question}, and was on {known}: it took over from another server, or \
             was restored. It is compared with the journal before anything is served"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_new_timeline_stops_everybody_until_it_is_accepted() {
        let timeline = Timeline::default();
        timeline.meet(3).unwrap();
        assert_eq!(timeline.holds(3), Ok(true));
        assert!(timeline.meet(4).is_err());
        assert!(timeline.meet(3).is_err(), "the old server is no way around");
        assert!(timeline.holds(3).is_err());
        assert_eq!(timeline.question(), Some(4));
        timeline.accept(4);
        assert_eq!(timeline.question(), None);
        assert_eq!(timeline.holds(3), Ok(false), "its connections go");
        assert_eq!(timeline.holds(4), Ok(true));
    }

    #[test]
    fn a_later_timeline_is_asked_about_again() {
        let timeline = Timeline::default();
        timeline.meet(1).unwrap();
        assert!(timeline.meet(2).is_err());
        assert!(timeline.meet(3).is_err());
        timeline.accept(2);
        assert_eq!(timeline.question(), Some(3));
        assert!(timeline.holds(2).is_err());
    }
}
