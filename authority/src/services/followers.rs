//! Which list of roots does a terminal follow, as far as it says so?
//!
//! Terminals say it when they connect; the store hears of it when it changes, and once an hour.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};

use crate::app::App;

/// How exact the store knows when a terminal was connected last.
const SEEN_TO_THE_MS: Millis = 3_600_000;
/// Most notes of one terminal in that time: each is a write, and a change is an audit row. Roots are
/// rotated in weeks, so whoever says something else all the time is broken, or means harm.
pub const NOTES_MAX: u32 = 8;

/// What terminals said since this process runs.
pub struct Followers {
    app: Arc<App>,
    said: Mutex<HashMap<TerminalId, Said>>,
}

struct Said {
    /// What the store knows, and since when.
    noted: Option<(u64, Timestamp)>,
    /// Since when notes are counted.
    since: Timestamp,
    notes: u32,
}

impl Followers {
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            said: Mutex::default(),
        }
    }

    /// The terminal is connected, and follows this list. No request waits for it to succeed: what is
    /// lost is said again.
    pub async fn saw(&self, terminal: TerminalId, sequence: u64) {
        let now = self.app.clock.now();
        if !self.is_due(terminal, sequence, now) {
            return;
        }
        let noted = self.app.store.follow_trust(terminal, sequence, now).await;
        if let Err(error) = &noted {
            tracing::warn!(%terminal, %error, "who follows the roots is not noted");
        }
        if let Some(said) = self.said().get_mut(&terminal) {
            match noted {
                Ok(()) => said.noted = Some((sequence, now)),
                Err(_) => said.notes = said.notes.saturating_sub(1),
            }
        }
    }

    /// Counted before it is written: requests that come together are not all the first.
    fn is_due(&self, terminal: TerminalId, sequence: u64, now: Timestamp) -> bool {
        let mut all = self.said();
        let said = all.entry(terminal).or_insert(Said {
            noted: None,
            since: now,
            notes: 0,
        });
        let is_fresh =
            |(known, at): (u64, Timestamp)| known == sequence && now - at < SEEN_TO_THE_MS;
        if said.noted.is_some_and(is_fresh) {
            return false;
        }
        if now - said.since >= SEEN_TO_THE_MS {
            (said.since, said.notes) = (now, 0);
        }
        if said.notes == NOTES_MAX {
            tracing::debug!(%terminal, "it says another list of roots all the time");
            return false;
        }
        said.notes += 1;
        if said.notes == NOTES_MAX {
            tracing::warn!(%terminal, "says another list of roots all the time; not noted for a while");
        }
        true
    }

    fn said(&self) -> MutexGuard<'_, HashMap<TerminalId, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
