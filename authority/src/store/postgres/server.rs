//! Which server is it, and was that one compared?

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::sqlite::error::unusable;
use crate::store::{Result, Server};

/// Of the server that writes, as it is now; `pg_control_checkpoint` knows the timeline only after the next checkpoint.
pub(super) const WHICH: &str = "SELECT
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int AS timeline,
    CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS BIGINT) AS began_us,
    CAST(pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS BIGINT) AS log_end";

/// What all connections of a store agree on.
#[derive(Default)]
pub(super) struct Known(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// The one that was compared; the first one is compared by whoever opens the store.
    known: Option<Server>,
    question: Option<Server>,
    /// How far its log was seen to be on the disk. One that ends before that is an earlier state of it, as when a
    /// machine is put back with all that it had in memory.
    furthest: i64,
}

impl Known {
    /// How far the log was seen to be on the disk until now.
    pub(super) fn furthest(&self) -> i64 {
        self.lock().furthest
    }

    /// A new connection found this one, and whether its log goes as far as was seen before it was asked.
    pub(super) fn meet(&self, server: Server, as_far: bool) -> Result<()> {
        let mut seen = self.lock();
        match seen.known {
            None => seen.known = Some(server),
            Some(known) if known == server && as_far => {}
            Some(_) => seen.question = Some(server),
        }
        seen.answer()
    }

    /// The log of the server that was compared is on its disk up to there.
    pub(super) fn reached(&self, log_end: i64) {
        let mut seen = self.lock();
        if seen.question.is_none() {
            seen.furthest = seen.furthest.max(log_end);
        }
    }

    /// Whether a connection to this server may be used: an error while there is a question, and false if
    /// the answer was another one.
    pub(super) fn holds(&self, server: Option<Server>) -> Result<bool> {
        let seen = self.lock();
        seen.answer()?;
        Ok(seen.known == server)
    }

    pub(super) fn question(&self) -> Option<Server> {
        self.lock().question
    }

    pub(super) fn accept(&self, server: Server) {
        let mut seen = self.lock();
        seen.known = Some(server);
        seen.question = seen.question.filter(|other| *other != server);
        seen.furthest = 0;
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
        let (timeline, was) = (question.timeline, known.timeline);
        let what = match (timeline == was, question == known) {
            (false, _) => format!(
                "is on timeline {timeline}, and was on {was}: it took over from another server, or"
            ),
            (true, false) => format!("was started anew on timeline {timeline}, or"),
            (true, true) => {
                format!("is further back on timeline {timeline} than it was: its machine")
            }
        };
        Err(unusable(format!(
            "PostgreSQL {what} was restored. It is compared with the journal before anything is served"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn server(timeline: u32) -> Server {
        Server {
            timeline,
            began_us: 7,
        }
    }

    #[test]
    fn a_new_timeline_stops_everybody_until_it_is_accepted() {
        let known = Known::default();
        let (three, four) = (server(3), server(4));
        known.meet(three, 100 >= known.furthest()).unwrap();
        assert_eq!(known.holds(Some(three)), Ok(true));
        assert!(known.meet(four, 100 >= known.furthest()).is_err());
        let around = known.meet(three, 100 >= known.furthest());
        assert!(around.is_err(), "the old server is no way around");
        assert!(known.holds(Some(three)).is_err());
        assert_eq!(known.question(), Some(four));
        known.accept(four);
        assert_eq!(known.question(), None);
        assert_eq!(known.holds(Some(three)), Ok(false), "its connections go");
        assert_eq!(known.holds(Some(four)), Ok(true));
    }

    #[test]
    fn a_later_timeline_is_asked_about_again() {
        let known = Known::default();
        known.meet(server(1), 0 >= known.furthest()).unwrap();
        assert!(known.meet(server(2), 0 >= known.furthest()).is_err());
        assert!(known.meet(server(3), 0 >= known.furthest()).is_err());
        known.accept(server(2));
        assert_eq!(known.question(), Some(server(3)));
        assert!(known.holds(Some(server(2))).is_err());
    }

    /// An earlier copy of its disk has the same timeline.
    #[test]
    fn a_server_that_was_started_anew_is_asked_about() {
        let known = Known::default();
        let anew = Server {
            began_us: 8,
            ..server(1)
        };
        known.meet(server(1), 100 >= known.furthest()).unwrap();
        let refused = known
            .meet(anew, 200 >= known.furthest())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("started anew on timeline 1"), "{refused}");
        known.accept(anew);
        assert_eq!(known.holds(Some(anew)), Ok(true));
        known.meet(anew, 50 >= known.furthest()).unwrap();
    }

    #[test]
    fn a_server_whose_log_ends_before_it_did_is_asked_about() {
        let known = Known::default();
        known.meet(server(1), 100 >= known.furthest()).unwrap();
        known.reached(150);
        known.reached(140);
        known.meet(server(1), 150 >= known.furthest()).unwrap();
        let refused = known
            .meet(server(1), 149 >= known.furthest())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("further back on timeline 1"), "{refused}");
        known.reached(1_000);
        known.accept(server(1));
        known.meet(server(1), 149 >= known.furthest()).unwrap();
    }
}
