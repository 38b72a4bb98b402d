//! What is this terminal told, as soon as it changes?
//!
//! One stream per terminal; every frame is the whole state, so whatever is lost, doubled or late is
//! harmless. A stream is woken, reads the state and sends it if it is new: nothing queues up behind
//! a slow reader but the next look.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pki::KeyState;
use protocol::ids::TerminalId;
use protocol::live::epochs_needed;
use protocol::time::Timestamp;
use protocol::wire::push::{KEEP_ALIVE_S, TerminalState};
use protocol::wire::upkeep::Upkeep;
use tokio::sync::{mpsc, watch};

use super::schedules::Schedules;
use super::{Failure, issuing, renewal};
use crate::app::App;
use crate::store::{AlarmKind, CloneAlarm, News};

mod streams;

use streams::{Displaced, Streams};

/// Frames that wait for a reader.
const FRAMES_MAX: usize = 2;
/// A reader that takes no frame for so long is dropped; it connects again and gets the state.
const SLOW_READER: Duration = Duration::from_secs(10);
/// Often enough that the connection carries something every [`KEEP_ALIVE_S`].
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_S * 2 / 3);

/// How far back a certificate's predecessors are followed: renewals that a stream slept through.
const LINEAGE_MAX: usize = 8;

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
    /// Key identifier of the active issuing CA; none before the first look.
    active_issuer: Mutex<Option<String>>,
}

/// The certificate that a stream came with.
struct Under {
    serial: String,
    /// Key identifier of its issuing CA; empty if unknown.
    issuer: String,
}

impl Push {
    pub fn new(app: Arc<App>, schedules: Arc<Schedules>) -> Self {
        Self {
            app,
            schedules,
            streams: Mutex::default(),
            active_issuer: Mutex::default(),
        }
    }

    /// Call after the change is committed.
    pub fn changed(&self, terminal: TerminalId) {
        self.streams().wake(terminal);
    }

    /// Call after something changed that concerns every terminal.
    pub fn all_changed(&self) {
        self.streams().wake_all();
    }

    /// Whether this terminal listens now, here or at another node.
    pub fn hears(&self, terminal: TerminalId) -> bool {
        self.streams().is_open(terminal)
    }

    /// Opens the terminal's stream; the state comes at once. An older stream of it ends.
    ///
    /// `certificate` is the serial the terminal came with: for alarms, and to have it renewed in time.
    /// `instance` is what its process calls itself.
    pub fn open(
        self: &Arc<Self>,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<String>,
    ) -> mpsc::Receiver<Frame> {
        let (frames, reader) = mpsc::channel(FRAMES_MAX);
        // Before the first look: a ban after it is heard, one before it is seen.
        let bans = self.app.bans.listen();
        let (number, wake, displaced) = self.streams().enter(
            terminal,
            certificate,
            instance.clone(),
            self.app.clock.now(),
        );
        self.app.store.call(&[News::Opened {
            terminal,
            certificate: certificate.to_owned(),
            instance,
        }]);
        self.app.metrics.push_streams.inc();
        let (hub, certificate) = (self.clone(), certificate.to_owned());
        tokio::spawn(async move {
            let pumping = async {
                let under = hub.arrived(terminal, certificate, displaced).await;
                hub.pump(terminal, &under, wake, frames).await;
            };
            tokio::select! {
                () = pumping => {}
                () = bans.until_banned(terminal) => {}
                () = hub.app.draining() => {}
                () = hub.app.fence.until_fenced() => {}
                () = hub.app.neighbours.until_closed() => {}
            }
            if hub.streams().leave(terminal, number) {
                hub.app.store.call(&[News::Closed(terminal)]);
            }
            hub.app.metrics.push_streams.dec();
        });
        reader
    }

    /// The terminal has a stream at another node now: two machines with one certificate are an alarm
    /// wherever each of them went.
    pub async fn opened_elsewhere(
        &self,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<&str>,
    ) {
        let now = self.app.clock.now();
        let displaced = self
            .streams()
            .enter_elsewhere(terminal, certificate, instance, now);
        self.judge_or_warn(terminal, displaced, certificate).await;
    }

    pub fn listens_elsewhere(&self, terminal: TerminalId) {
        self.streams().listens_elsewhere(terminal);
    }

    pub fn closed_elsewhere(&self, terminal: TerminalId) {
        self.streams().left_elsewhere(terminal);
    }

    /// Another node has just come: it hears who listens here.
    pub fn tell_who_listens(&self) {
        let here = self.streams().all_here();
        let here: Vec<News> = here.into_iter().map(News::Listens).collect();
        self.app.store.call(&here);
    }

    /// Looks which issuing CA is active; when that has changed, every terminal hears whether to renew.
    /// Answers how many heard.
    pub fn look_at_issuing(&self) -> usize {
        let cas = self.app.issuer.issuing_cas();
        let active = cas.iter().find(|ca| ca.state == KeyState::Active);
        // Under one that nobody believes there is nothing to renew to.
        let active = active.filter(|_| issuing::check(&self.app).is_ok());
        let active = active.and_then(|ca| ca.chain.issuing().key_id_hex());
        let mut known = self
            .active_issuer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *known == active {
            return 0;
        }
        *known = active;
        drop(known);
        self.streams().wake_all()
    }

    /// Whether certificates of this issuing CA are to be renewed now.
    fn renew_now(&self, issuer: &str) -> bool {
        let active = self.active_issuer.lock();
        let active = active.unwrap_or_else(PoisonError::into_inner);
        !issuer.is_empty() && active.as_deref().is_some_and(|active| active != issuer)
    }

    /// A stream with this certificate has begun.
    async fn arrived(
        &self,
        terminal: TerminalId,
        serial: String,
        displaced: Option<Displaced>,
    ) -> Under {
        self.judge_or_warn(terminal, displaced, &serial).await;
        let found = self.app.store.certificate(&serial).await;
        let found = found.ok().flatten();
        let issuer = found.map_or_else(String::new, |it| it.certificate.issuer_key);
        Under { serial, issuer }
    }

    async fn judge_or_warn(
        &self,
        terminal: TerminalId,
        displaced: Option<Displaced>,
        certificate: &str,
    ) {
        if let Some(displaced) = displaced
            && let Err(why) = self.judge(terminal, &displaced, certificate).await
        {
            tracing::warn!(%terminal, error = %why, "a second stream could not be judged");
        }
    }

    /// A second stream is an alarm, unless the terminal has renewed its certificate or came back after
    /// its connection broke.
    async fn judge(
        &self,
        terminal: TerminalId,
        older: &Displaced,
        certificate: &str,
    ) -> Result<(), Failure> {
        let harmless = match older.certificate == certificate {
            true => !older.is_a_fight(),
            false => self.descends(certificate, &older.certificate).await?,
        };
        if harmless {
            return Ok(());
        }
        let alarm = CloneAlarm {
            terminal,
            kind: AlarmKind::SecondStream,
            certificate: certificate.into(),
            other: older.certificate.clone(),
        };
        renewal::raise(&self.app, alarm, self.app.clock.now()).await
    }

    /// Whether `certificate` was renewed from `older`.
    async fn descends(&self, certificate: &str, older: &str) -> Result<bool, Failure> {
        let mut serial = certificate.to_owned();
        for _ in 0..LINEAGE_MAX {
            let found = self.app.store.certificate(&serial).await?;
            match found.and_then(|it| it.renews) {
                Some(parent) if parent == older => return Ok(true),
                Some(parent) => serial = parent,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Looks, sends what is new, waits; until the stream is over.
    async fn pump(
        &self,
        terminal: TerminalId,
        under: &Under,
        mut wake: watch::Receiver<()>,
        frames: mpsc::Sender<Frame>,
    ) {
        let mut sent = None;
        let mut trust = self.app.trust_changes();
        let mut frame = self.look(terminal, under, &mut sent, &mut wake).await;
        while let Some(next) = frame {
            if frames.send_timeout(next, SLOW_READER).await.is_err() {
                return;
            }
            frame = tokio::select! {
                next = self.wait(terminal, under, &mut sent, &mut wake, &frames) => next,
                // The roots changed: everybody is told at once.
                _ = trust.changed() => self.look(terminal, under, &mut sent, &mut wake).await,
            };
        }
    }

    /// The next frame; none when the stream is over.
    async fn wait(
        &self,
        terminal: TerminalId,
        under: &Under,
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
        self.look(terminal, under, sent, wake).await
    }

    /// The state if it is new, else a sign of life; none for a terminal that may not know, or under a
    /// certificate that has ended or was revoked: whatever became of the announcement, it is over then.
    async fn look(
        &self,
        terminal: TerminalId,
        under: &Under,
        sent: &mut Option<Sent>,
        wake: &mut watch::Receiver<()>,
    ) -> Option<Frame> {
        wake.borrow_and_update();
        let (_, round) = self.app.fence.checkpoint();
        let state = match self.state(terminal, under).await {
            Ok(state) => state?,
            Err(why) => {
                tracing::warn!(%terminal, error = %why, "a stream ends because it cannot look");
                return None;
            }
        };
        let now_sent = Sent {
            revision: state.revision,
            schedule_due: state.schedule_due,
            upkeep: Upkeep {
                // A new one comes every second; `round` says when it is worth a frame of its own.
                checkpoint: None,
                ..state.upkeep.clone()
            },
            round,
        };
        if sent.as_ref() == Some(&now_sent) {
            return Some(Frame::KeepAlive);
        }
        *sent = Some(now_sent);
        self.app.metrics.push_frames.inc();
        Some(Frame::State(Box::new(state)))
    }

    async fn state(
        &self,
        terminal: TerminalId,
        under: &Under,
    ) -> Result<Option<TerminalState>, Failure> {
        let now = self.app.clock.now();
        let epoch = epochs_needed(terminal, now).first().copied().unwrap_or(0);
        let Some(pushed) = self.app.store.push_state(terminal, epoch).await? else {
            return Ok(None);
        };
        let known = self.app.store.terminal(terminal).await?;
        let refused = pushed.banned || self.is_over(&under.serial, now).await?;
        let Some(known) = known.filter(|_| !refused) else {
            return Ok(None);
        };
        Ok(Some(TerminalState {
            revision: pushed.revision,
            now,
            turns: pushed.turns,
            charge: pushed.charge,
            schedule_due: self.schedules.is_due(&known),
            upkeep: Upkeep {
                trust_sequence: self.app.trust().sequence(),
                checkpoint: self.app.fence.checkpoint().0,
                renew_now: self.renew_now(&under.issuer),
                keys_tag: self.app.keyring().tag().to_owned(),
            },
        }))
    }

    /// A stream does not outlive its certificate: revoked, or past its end.
    async fn is_over(&self, serial: &str, now: Timestamp) -> Result<bool, Failure> {
        let found = self.app.store.certificate(serial).await?;
        let here =
            found.is_some_and(|found| found.revoked.is_some() || found.certificate.not_after < now);
        Ok(here || self.app.fence.is_revoked_outside(serial))
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one state from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    revision: u64,
    schedule_due: bool,
    upkeep: Upkeep,
    round: u64,
}
