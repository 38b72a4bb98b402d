//! What is this terminal told, as soon as it changes?
//!
//! One stream per terminal; every frame is the whole state, so whatever is lost, doubled or late is
//! harmless. A stream is woken, reads the state and sends it if it is new: nothing queues up behind
//! a slow reader but the next look.
//!
//! ```text
//! committed here ─────────▶ changed(terminal) ──▶ one stream looks
//! committed elsewhere ────▶ news ───────────────▶ one stream looks
//! a wake that was lost ───▶ look_around, every 10 s: revisions of many in one read ──▶ that one looks
//! something for everybody ▶ all_changed ────────▶ a herd, in turns
//! nothing ────────────────▶ a sign of life every 10 s, from memory; a look once a minute
//! ```

use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use pki::KeyState;
use protocol::ids::TerminalId;
use protocol::live::epochs_needed;
use protocol::time::Timestamp;
use protocol::wire::push::{KEEP_ALIVE_S, TerminalState};
use protocol::wire::upkeep::Upkeep;
use tokio::sync::mpsc;

use super::schedules::{Due, Schedules};
use super::{Failure, issuing, renewal};
use crate::app::App;
use crate::store::{AlarmKind, CloneAlarm, News, REVISIONS_MAX};

mod herd;
mod spread;
mod streams;
mod subscription;

pub use herd::WOKEN_PER_S;
pub use subscription::Subscription;

use herd::Herd;
use spread::{SCHEDULES_PER_S, UPKEEP_PER_S, spread_ms};
use streams::{Displaced, Streams};

/// Frames that wait for a reader.
const FRAMES_MAX: usize = 2;
/// A reader that takes no frame for so long is dropped; it connects again and gets the state.
pub const SLOW_READER: Duration = Duration::from_secs(10);
/// Often enough that the connection carries something every [`KEEP_ALIVE_S`].
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_S * 2 / 3);
/// After so many signs of life in a row a stream looks by itself: once a minute.
const QUIET_MAX: u32 = 6;
/// Between two reads of [`Push::look_around`], so that a fleet's are spread over the time until the next.
const LOOK_PAUSE: Duration = Duration::from_millis(15);

/// Terminals that another node is told of at once.
const TOLD_MAX: usize = 1_000;

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
    streams: Arc<Mutex<Streams>>,
    herd: Herd,
    /// Key identifier of the active issuing CA; none before the first look.
    active_issuer: Mutex<Option<String>>,
    hears_of_roots: Once,
}

/// The certificate that a stream came with.
struct Under {
    serial: String,
    /// Key identifier of its issuing CA; empty if unknown.
    issuer: String,
    /// None if it is not known here.
    not_after: Option<Timestamp>,
}

impl Push {
    pub fn new(app: Arc<App>, schedules: Arc<Schedules>) -> Self {
        let streams = Arc::<Mutex<Streams>>::default();
        Self {
            app,
            schedules,
            herd: Herd::of(streams.clone()),
            streams,
            active_issuer: Mutex::default(),
            hears_of_roots: Once::new(),
        }
    }

    /// Call after the change is committed.
    pub fn changed(&self, terminal: TerminalId) {
        self.streams().wake(terminal);
    }

    /// Call after something changed that concerns every terminal; answers how many are told, one after the
    /// other.
    pub fn all_changed(&self) -> usize {
        self.herd.wake_all()
    }

    /// Whether this terminal listens now, here or at another node.
    pub fn hears(&self, terminal: TerminalId) -> bool {
        self.streams().is_open(terminal)
    }

    /// Opens the terminal's stream; the state comes at once. An older stream of it ends.
    ///
    /// `certificate` is the serial the terminal came with: for alarms, and to have it renewed in time.
    /// `instance` is what its process calls itself.
    pub fn begin(
        self: &Arc<Self>,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<String>,
    ) -> Subscription {
        self.hear_of_roots();
        Subscription::begin(self.clone(), terminal, certificate, instance)
    }

    /// The same for whoever reads frames off a channel.
    pub fn open(
        self: &Arc<Self>,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<String>,
    ) -> mpsc::Receiver<Frame> {
        self.begin(terminal, certificate, instance).into_channel()
    }

    /// The stream was ended because its reader did not read.
    fn was_slow(&self, terminal: TerminalId) {
        self.app.metrics.push_slow_readers.inc();
        let seconds = SLOW_READER.as_secs();
        tracing::warn!(%terminal, seconds, "a stream was cut: its reader takes nothing");
    }

    /// Finds streams that were not woken although the state has moved on, and wakes them; answers how
    /// many. Whoever commits wakes the stream, here or at another node, but may be cut off in between.
    pub async fn look_around(&self) -> Result<usize, Failure> {
        let mut here = self.streams().all_here();
        here.sort_unstable();
        let mut woken = 0;
        for slice in here.chunks(REVISIONS_MAX) {
            let found = self.app.store.revisions(slice.to_vec()).await?;
            woken += self.catch_up(&found);
            if here.len() > REVISIONS_MAX {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
        Ok(woken)
    }

    fn catch_up(&self, found: &[(TerminalId, u64)]) -> usize {
        let streams = self.streams();
        let missed =
            |(terminal, revision): &&(TerminalId, u64)| streams.catch_up(*terminal, *revision);
        found.iter().filter(missed).count()
    }

    /// The roots changed: everybody is told.
    fn hear_of_roots(self: &Arc<Self>) {
        self.hears_of_roots.call_once(|| {
            let (mut trust, hub) = (self.app.trust_changes(), Arc::downgrade(self));
            tokio::spawn(async move {
                while trust.changed().await.is_ok() {
                    let Some(hub) = hub.upgrade() else { return };
                    hub.all_changed();
                }
            });
        });
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

    /// Another node has just come: it hears who listens here, in pieces, so that nothing else waits for a fleet.
    pub async fn tell_who_listens(&self) {
        let here = self.streams().all_here();
        for piece in here.chunks(TOLD_MAX) {
            let piece: Vec<News> = piece.iter().copied().map(News::Listens).collect();
            self.app.store.call(&piece);
            tokio::task::yield_now().await;
        }
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
        self.all_changed()
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
        let found = found.ok().flatten().map(|it| it.certificate);
        let not_after = found.as_ref().map(|it| it.not_after);
        Under {
            serial,
            issuer: found.map_or_else(String::new, |it| it.issuer_key),
            not_after,
        }
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
        let (due, listening) = (self.schedules.due(&known), self.streams().count());
        Ok(Some(TerminalState {
            revision: pushed.revision,
            now,
            turns: pushed.turns,
            charge: pushed.charge,
            schedule_due: due != Due::No,
            schedule_within_ms: match due {
                Due::Spread => spread_ms(listening, SCHEDULES_PER_S),
                Due::No | Due::Now => 0,
            },
            upkeep: Upkeep {
                spread_ms: spread_ms(listening, UPKEEP_PER_S),
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
