//! How does a terminal learn at once that something changed?
//!
//! A hub of ticks: whoever changes something for a terminal rings, and every stream of it reads the
//! whole state from the store. Nothing is queued, so a slow reader skips states and never stale ones.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::ids::TerminalId;
use protocol::problem::ProblemType;
use protocol::window::EpochClock;
use protocol::wire::push::TerminalState;
use tokio::sync::watch;

use super::Failure;
use crate::app::App;

/// Where changes of terminals are rung.
#[derive(Default)]
pub struct Hub {
    lines: Mutex<HashMap<TerminalId, watch::Sender<Line>>>,
    /// Who fetched a schedule from this process: the others may follow a policy of before.
    scheduled: Mutex<HashSet<TerminalId>>,
}

/// What a stream waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    /// Counts changes.
    ticks: u64,
    /// The stream that holds the line: the newest.
    holder: u64,
}

/// One terminal's stream of states.
pub struct Stream {
    terminal: TerminalId,
    line: watch::Receiver<Line>,
    holder: u64,
    app: Arc<App>,
    sent: Option<u64>,
}

impl Hub {
    /// Something changed for this terminal.
    pub fn changed(&self, terminal: TerminalId) {
        if let Some(line) = self.lines().get(&terminal) {
            line.send_modify(|line| line.ticks += 1);
        }
    }

    /// It has a schedule of this process.
    pub fn has_schedule(&self, terminal: TerminalId) {
        if lock(&self.scheduled).insert(terminal) {
            self.changed(terminal);
        }
    }

    fn needs_schedule(&self, terminal: TerminalId) -> bool {
        !lock(&self.scheduled).contains(&terminal)
    }

    /// Takes the line; true if another stream of this terminal was still open.
    fn take(&self, terminal: TerminalId) -> (watch::Receiver<Line>, u64, bool) {
        let mut lines = self.lines();
        let line = lines.entry(terminal).or_insert_with(|| {
            watch::Sender::new(Line {
                ticks: 0,
                holder: 0,
            })
        });
        let taken_over = line.receiver_count() > 0;
        line.send_modify(|line| line.holder += 1);
        let receiver = line.subscribe();
        let holder = receiver.borrow().holder;
        (receiver, holder, taken_over)
    }

    fn leave(&self, terminal: TerminalId) {
        let mut lines = self.lines();
        // The stream that leaves still counts.
        if lines
            .get(&terminal)
            .is_some_and(|line| line.receiver_count() <= 1)
        {
            lines.remove(&terminal);
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<TerminalId, watch::Sender<Line>>> {
        lock(&self.lines)
    }
}

impl Stream {
    /// Opens a stream. An older one of the same terminal ends: if both were alive, that is either a
    /// connection that broke unnoticed or a copied key, so it is counted and logged.
    pub fn open(app: &Arc<App>, terminal: TerminalId) -> Self {
        let (line, holder, taken_over) = app.push.take(terminal);
        if taken_over {
            tracing::warn!(%terminal, "a second stream of one terminal: the newer one goes on");
            app.metrics.push_takeovers.inc();
        }
        app.metrics.push_streams.inc();
        Self {
            terminal,
            line,
            holder,
            app: app.clone(),
            sent: None,
        }
    }

    /// The next state: at once for the first, then whenever it changed. None when the stream is over.
    pub async fn next(&mut self) -> Option<TerminalState> {
        loop {
            if self.line.borrow_and_update().holder != self.holder {
                return None;
            }
            match self.state().await {
                Ok(state) if self.sent != Some(state.revision) => {
                    self.sent = Some(state.revision);
                    self.app.metrics.push_frames.inc();
                    return Some(state);
                }
                Ok(_) => {}
                Err(failure) => {
                    tracing::warn!(terminal = %self.terminal, error = %failure, "no state to push");
                    return None;
                }
            }
            tokio::select! {
                changed = self.line.changed() => changed.ok()?,
                () = self.app.draining() => return None,
            }
        }
    }

    async fn state(&self) -> Result<TerminalState, Failure> {
        let (app, terminal) = (&self.app, self.terminal);
        let now = app.clock.now();
        let epoch = EpochClock::of(terminal).epoch_at(now).saturating_sub(1);
        let state = app.store.push_state(terminal, epoch).await?;
        let state = state
            .filter(|state| !state.banned)
            .ok_or(ProblemType::TerminalRefused)?;
        Ok(TerminalState {
            revision: state.revision,
            now: app.clock.now(),
            turns: state.turns,
            charge: state.charge,
            schedule_due: app.push.needs_schedule(terminal),
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.app.push.leave(self.terminal);
        self.app.metrics.push_streams.dec();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
