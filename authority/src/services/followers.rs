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

/// What terminals said since this process runs.
pub struct Followers {
    app: Arc<App>,
    said: Mutex<HashMap<TerminalId, (u64, Timestamp)>>,
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
        if self.is_known(terminal, sequence, now) {
            return;
        }
        match self.app.store.follow_trust(terminal, sequence, now).await {
            Ok(()) => {
                self.said().insert(terminal, (sequence, now));
            }
            Err(error) => tracing::warn!(%terminal, %error, "who follows the roots is not noted"),
        }
    }

    fn is_known(&self, terminal: TerminalId, sequence: u64, now: Timestamp) -> bool {
        let said = self.said().get(&terminal).copied();
        said.is_some_and(|(known, at)| known == sequence && now - at < SEEN_TO_THE_MS)
    }

    fn said(&self) -> MutexGuard<'_, HashMap<TerminalId, (u64, Timestamp)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
