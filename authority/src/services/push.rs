//! What is this terminal told, as soon as it changes?
//!
//! One stream per terminal; every frame is the whole state, so whatever is lost, doubled or late is
//! harmless. A stream is woken, reads the state and sends it if it is new: nothing queues up behind
//! a slow reader but the next look.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::TerminalId;
use protocol::live::epochs_needed;
use protocol::wire::push::{KEEP_ALIVE_S, TerminalState};
use protocol::wire::upkeep::Upkeep;
use tokio::sync::{mpsc, watch};

use super::Failure;
use super::schedules::Schedules;
use crate::app::App;

/// Frames that wait for a reader.
const FRAMES_MAX: usize = 2;
/// A reader that takes no frame for so long is dropped; it connects again and gets the state.
const SLOW_READER: Duration = Duration::from_secs(10);
/// Often enough that the connection carries something every [`KEEP_ALIVE_S`].
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_S * 2 / 3);

/// One thing on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    State(Box<TerminalState>),
    /// A comment line, so that both sides notice a dead connection.
    KeepAlive,
}

/// All streams that are open.
pub struct Push {
    app: Arc<App>,
    schedules: Arc<Schedules>,
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    next_number: u64,
    of: HashMap<TerminalId, Open>,
}

/// Dropping `wake` ends the stream.
struct Open {
    number: u64,
    certificate: String,
    wake: watch::Sender<()>,
}

impl Push {
    pub fn new(app: Arc<App>, schedules: Arc<Schedules>) -> Self {
        Self {
            app,
            schedules,
            streams: Mutex::default(),
        }
    }

    /// Call after the change is committed.
    pub fn changed(&self, terminal: TerminalId) {
        if let Some(open) = self.streams().of.get(&terminal) {
            open.wake.send_replace(());
        }
    }

    /// Opens the terminal's stream; the state comes at once. An older stream of it ends.
    ///
    /// `certificate` is the serial the terminal came with, for the alarm.
    pub fn open(
        self: &Arc<Self>,
        terminal: TerminalId,
        certificate: &str,
    ) -> mpsc::Receiver<Frame> {
        let (frames, reader) = mpsc::channel(FRAMES_MAX);
        // Before the first look: a ban after it is heard, one before it is seen.
        let bans = self.app.bans.listen();
        let (number, wake) = self.enter(terminal, certificate);
        let hub = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = hub.pump(terminal, wake, frames) => {}
                () = bans.until_banned(terminal) => {}
                () = hub.app.draining() => {}
            }
            hub.leave(terminal, number);
        });
        reader
    }

    /// Looks, sends what is new, waits; until the stream is over.
    async fn pump(
        &self,
        terminal: TerminalId,
        mut wake: watch::Receiver<()>,
        frames: mpsc::Sender<Frame>,
    ) {
        let mut sent = None;
        let mut trust = self.app.trust_changes();
        let mut frame = self.look(terminal, &mut sent, &mut wake).await;
        while let Some(next) = frame {
            if frames.send_timeout(next, SLOW_READER).await.is_err() {
                return;
            }
            tokio::select! {
                next = self.wait(terminal, &mut sent, &mut wake, &frames) => frame = next,
                // The roots changed: everybody is told at once.
                _ = trust.changed() => frame = self.look(terminal, &mut sent, &mut wake).await,
            }
        }
    }

    /// The next frame; none when the stream is over.
    async fn wait(
        &self,
        terminal: TerminalId,
        sent: &mut Option<Sent>,
        wake: &mut watch::Receiver<()>,
        frames: &mpsc::Sender<Frame>,
    ) -> Option<Frame> {
        let mut gone = pin!(frames.closed());
        tokio::select! {
            woken = wake.changed() => woken.ok()?,
            () = tokio::time::sleep(KEEP_ALIVE) => {}
            () = &mut gone => return None,
        }
        self.look(terminal, sent, wake).await
    }

    /// The state if it is new, else a sign of life; none for a terminal that may not know.
    async fn look(
        &self,
        terminal: TerminalId,
        sent: &mut Option<Sent>,
        wake: &mut watch::Receiver<()>,
    ) -> Option<Frame> {
        wake.borrow_and_update();
        let state = match self.state(terminal).await {
            Ok(state) => state?,
            Err(why) => {
                tracing::warn!(%terminal, error = %why, "a stream ends because it cannot look");
                return None;
            }
        };
        let trust = state.upkeep.trust_sequence;
        let now_sent = (state.revision, state.schedule_due, trust);
        if sent.replace(now_sent) == Some(now_sent) {
            return Some(Frame::KeepAlive);
        }
        self.app.metrics.push_frames.inc();
        Some(Frame::State(Box::new(state)))
    }

    async fn state(&self, terminal: TerminalId) -> Result<Option<TerminalState>, Failure> {
        let now = self.app.clock.now();
        let epoch = epochs_needed(terminal, now).first().copied().unwrap_or(0);
        let Some(pushed) = self.app.store.push_state(terminal, epoch).await? else {
            return Ok(None);
        };
        let known = self.app.store.terminal(terminal).await?;
        let Some(known) = known.filter(|_| !pushed.banned) else {
            return Ok(None);
        };
        Ok(Some(TerminalState {
            revision: pushed.revision,
            now,
            turns: pushed.turns,
            charge: pushed.charge,
            schedule_due: self.schedules.is_due(terminal, known.version),
            upkeep: Upkeep {
                trust_sequence: self.app.trust().sequence(),
                ..Upkeep::default()
            },
        }))
    }

    fn enter(&self, terminal: TerminalId, certificate: &str) -> (u64, watch::Receiver<()>) {
        let (wake, woken) = watch::channel(());
        let mut streams = self.streams();
        streams.next_number += 1;
        let number = streams.next_number;
        let open = Open {
            number,
            certificate: certificate.to_owned(),
            wake,
        };
        self.app.metrics.push_streams.inc();
        if let Some(older) = streams.of.insert(terminal, open) {
            self.app.metrics.clone_alarms.inc();
            tracing::warn!(%terminal, older = %older.certificate, newer = %certificate,
                "clone alarm: a second stream of one terminal, the older one ends");
        }
        (number, woken)
    }

    fn leave(&self, terminal: TerminalId, number: u64) {
        self.app.metrics.push_streams.dec();
        let mut streams = self.streams();
        if streams
            .of
            .get(&terminal)
            .is_some_and(|it| it.number == number)
        {
            streams.of.remove(&terminal);
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one state from the next: revision, whether a schedule is due, the list of roots.
type Sent = (u64, bool, u64);
