//! What do driver, worker, watcher and watchdog know in common?
//!
//! One mutex over one state: who may act on the field, and what the events say, is decided in one
//! place and in one order.

mod lease;

pub(super) use lease::Lease;

use super::clock;
use super::service::{FieldControl, TagConfig, TagEvent, TagStatus, Visit};
use crate::tag::{Errand, TagError, TagMemory};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Workers that may hang in a call at once; past it the reader is stuck until one returns.
const STUCK_WORKERS_MAX: usize = 4;

type Reply = oneshot::Sender<Result<Visit, TagError>>;

pub(super) struct Desk {
    pub(super) config: TagConfig,
    events: mpsc::Sender<TagEvent>,
    /// Outlives the worker that keeps it.
    memory: Mutex<TagMemory>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    status: TagStatus,
    stopped: bool,
    /// The job not yet begun: the latest wins.
    waiting: Option<Job>,
    /// Whether someone should switch the field on and see what lies there.
    attend: bool,
    /// Why what lies there cannot be used, once that was told.
    refused: Option<TagError>,
    /// Someone waits for other software to let go of the reader.
    busy: bool,
    /// The worker looks at what lies there.
    attending: bool,
    /// We switched the field off: what the reader says of presence means nothing.
    field_off: bool,
    /// pcscd's event count when a visit last saw the tag; older news are stale.
    settled: Option<u32>,
    generation: u64,
    worker_alive: bool,
    stuck_workers: usize,
    /// The reply of the job under way, so that the watchdog can give it.
    running: Option<Reply>,
    call: Option<Call>,
    /// What the last call that did not return meant.
    hang: Option<TagError>,
}

/// A PC/SC call under way, or the pause after one.
struct Call {
    started: Instant,
    /// What it means if this call does not return.
    hang: TagError,
}

/// What shall be done with the tag.
struct Job {
    errand: Errand,
    reply: Reply,
}

impl Call {
    /// Between two calls handles are dropped, and that waits for other software as well.
    fn letting_go() -> Call {
        Call {
            started: clock::now(),
            hang: TagError::ReaderBusy,
        }
    }
}

/// What a worker does next.
pub(super) enum Task {
    Run(Errand),
    Attend,
    Leave,
}

/// What the watchdog does next.
pub(super) enum Watch {
    /// A worker is wanted.
    Spawn(Lease),
    Leave,
}

impl Desk {
    pub(super) fn new(config: TagConfig, events: mpsc::Sender<TagEvent>) -> Desk {
        let memory = TagMemory::resume(config.last_counter.clone(), config.left.clone());
        Desk {
            config,
            events,
            memory: Mutex::new(memory),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    // ── driver ────────────────────────────────────────────────────────────────────────────────

    pub(super) fn submit(&self, errand: Errand, reply: Reply) {
        let mut state = self.locked();
        if state.stopped {
            return answer(reply, Err(TagError::Stopped));
        }
        if !state.worker_alive && state.stuck_workers >= STUCK_WORKERS_MAX {
            let hang = state.hang.clone().unwrap_or(TagError::Stuck);
            return answer(reply, Err(hang));
        }
        if let Some(older) = state.waiting.replace(Job { errand, reply }) {
            answer(older.reply, Err(TagError::Superseded));
        }
        self.changed.notify_all();
    }

    pub(super) fn status(&self) -> TagStatus {
        self.locked().status.clone()
    }

    pub(super) fn stop(&self) {
        let mut state = self.locked();
        state.stopped = true;
        state.waiting = None;
        self.changed.notify_all();
    }

    // ── watchdog ──────────────────────────────────────────────────────────────────────────────

    /// Waits until a worker is wanted: at first, and whenever one does not come back from a call.
    pub(super) fn watch(self: &Arc<Desk>) -> Watch {
        let mut state = self.locked();
        loop {
            if state.stopped {
                return Watch::Leave;
            }
            if overdue(&state, self.config.call_limit) {
                abandon(&mut state);
            }
            if !state.worker_alive && state.stuck_workers < STUCK_WORKERS_MAX {
                state.worker_alive = true;
                return Watch::Spawn(self.lease(state.generation));
            }
            state = match remaining(&state, self.config.call_limit) {
                Some(limit) => self.wait_timeout(state, limit),
                None => self.wait(state),
            };
        }
    }

    // ── watcher ───────────────────────────────────────────────────────────────────────────────

    /// Sleeps between two attempts, unless told to stop; true means stop.
    pub(super) fn pause(&self, limit: Duration) -> bool {
        let state = self.locked();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |s| !s.stopped)
            .unwrap_or_else(PoisonError::into_inner);
        state.stopped
    }

    pub(super) fn stopped(&self) -> bool {
        self.locked().stopped
    }

    /// Whether the service can be used, and if not, why.
    pub(super) fn pcscd(&self, trouble: Option<TagError>) {
        let mut state = self.locked();
        if state.status.service_trouble == trouble {
            return;
        }
        let was_absent = state.status.service_trouble.is_some();
        let is_absent = trouble.is_some();
        state.status.service_trouble = trouble;
        if is_absent {
            self.lose_reader(&mut state);
        }
        match (was_absent, is_absent) {
            (false, true) => self.tell(TagEvent::PcscdAbsent),
            (true, false) => self.tell(TagEvent::PcscdBack),
            _ => {}
        }
    }

    /// The reader to use, as the list of readers is now.
    pub(super) fn reader(&self, name: Option<&str>) {
        let mut state = self.locked();
        if state.status.reader.as_deref() == name {
            return;
        }
        self.lose_reader(&mut state);
        if let Some(name) = name {
            state.status.reader = Some(name.to_owned());
            state.is_back(|missing| matches!(missing, TagError::NoReader { .. }));
            self.tell(TagEvent::ReaderArrived {
                name: name.to_owned(),
            });
            self.call_attention(&mut state);
        }
    }

    pub(super) fn something_lies_there(&self) {
        let mut state = self.locked();
        if !state.field_off {
            self.call_attention(&mut state);
        }
    }

    /// As above, unless it is known what lies there.
    pub(super) fn something_may_lie_there(&self) {
        let mut state = self.locked();
        // What was mute may answer the next time.
        let refused = state.refused.as_ref();
        let known = state.status.tag_uid.is_some() || refused.is_some_and(|r| *r != TagError::Mute);
        if !known && !state.field_off {
            self.call_attention(&mut state);
        }
    }

    pub(super) fn nothing_lies_there(&self, event_count: u32) {
        let mut state = self.locked();
        let stale = state.settled.is_some_and(|s| is_before(event_count, s));
        if !state.field_off && !stale {
            self.miss_tag(&mut state);
        }
    }

    /// No other software holds the reader now.
    pub(super) fn reader_is_free(&self) {
        let mut state = self.locked();
        if std::mem::take(&mut state.busy) {
            self.tell(TagEvent::ReaderReady);
        }
    }

    fn lose_reader(&self, state: &mut State) {
        self.lose_tag(state);
        state.field_off = false;
        state.settled = None;
        state.status.field_control = FieldControl::Unknown;
        if state.status.reader.take().is_some() {
            let wanted = self.config.reader_name.clone();
            state.status.last_error = Some(TagError::NoReader { wanted });
            self.tell(TagEvent::ReaderGone);
        }
    }

    /// Nothing lies on a reader that would see it: said at once, not at the next visit.
    fn miss_tag(&self, state: &mut State) {
        self.lose_tag(state);
        if state.status.reader.is_some() {
            state.status.last_error = Some(TagError::NoTag);
        }
    }

    fn lose_tag(&self, state: &mut State) {
        let refused = state.refused.take();
        self.remembered().handle_gone();
        if state.status.tag_uid.take().is_some() || refused.is_some() {
            self.tell(TagEvent::TagRemoved);
        }
    }

    fn call_attention(&self, state: &mut State) {
        state.attend = true;
        self.changed.notify_all();
    }

    // ── both ──────────────────────────────────────────────────────────────────────────────────

    fn lease(self: &Arc<Desk>, generation: u64) -> Lease {
        Lease {
            desk: Arc::clone(self),
            generation,
        }
    }

    fn tell(&self, event: TagEvent) {
        if self.events.try_send(event.clone()).is_err() {
            tracing::warn!(?event, "nobody takes the tag's events");
        }
    }

    /// Nobody who holds this lock waits for the desk's.
    fn remembered(&self) -> MutexGuard<'_, TagMemory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_timeout<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    /// What was missing is there again: nothing is said of it any more.
    fn is_back(&mut self, was_missed: impl FnOnce(&TagError) -> bool) {
        if self.status.last_error.as_ref().is_some_and(was_missed) {
            self.status.last_error = None;
        }
    }
}

/// A shopper's link must not wait for a call that will not return.
fn abandon(state: &mut State) {
    let hang = why(state);
    state.generation += 1;
    state.stuck_workers += 1;
    state.worker_alive = false;
    // What called for attention still does.
    state.attend |= std::mem::take(&mut state.attending);
    state.status.last_error = Some(hang.clone());
    state.hang = Some(hang.clone());
    if let Some(reply) = state.running.take() {
        answer(reply, Err(hang.clone()));
    }
    if state.stuck_workers >= STUCK_WORKERS_MAX
        && let Some(job) = state.waiting.take()
    {
        answer(job.reply, Err(hang));
    }
}

/// While one worker of ours hangs, all others hang because of it.
fn why(state: &mut State) -> TagError {
    let call = state.call.take().map(|call| call.hang);
    let first = state.hang.take().filter(|_| state.stuck_workers > 0);
    first.or(call).unwrap_or(TagError::Stuck)
}

fn overdue(state: &State, limit: Duration) -> bool {
    remaining(state, limit) == Some(Duration::ZERO)
}

fn remaining(state: &State, limit: Duration) -> Option<Duration> {
    let call = state.call.as_ref()?;
    Some(limit.saturating_sub(clock::since(call.started)))
}

/// pcscd counts events in 16 bits and starts over.
fn is_before(count: u32, other: u32) -> bool {
    ((count as u16).wrapping_sub(other as u16) as i16) < 0
}

/// The driver may have stopped waiting; then nobody misses the answer.
fn answer(reply: Reply, result: Result<Visit, TagError>) {
    let _ = reply.send(result);
}

#[cfg(test)]
mod tests;
