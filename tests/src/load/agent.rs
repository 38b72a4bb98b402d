//! What does a terminal do here? It holds its push stream and its schedule, and shows what follows from them.
//!
//! Client, rotation and back-off are the agent's own; what is left out is its disk, its tag and its screen, so that
//! one process can be a fleet.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::wire::history::DayReport;
use protocol::wire::push::{STATE_EVENT, TerminalState};
use reader_agent::authority::line::Line;
use reader_agent::authority::push::SILENCE_MAX;
use reader_agent::authority::{AuthorityClient, BooksDesk, CallError, Greeting};
use reader_agent::backoff::Backoff;
use reader_agent::clock::Clock;
use reader_agent::identity::disk::IdentityFiles;
use reader_agent::rotation::{Face, Fetch, Rotation};
use reader_agent::sse::Parser;
use reader_agent::trust::TrustFiles;
use tokio::sync::watch;

use super::stopwatch::{Stopwatch, wall};
use crate::Failure;

/// One terminal of the fleet.
pub struct Agent {
    id: TerminalId,
    /// One to each node; the first is the one it comes to by itself.
    clients: Vec<AuthorityClient>,
    /// To which of them it speaks.
    at: watch::Sender<usize>,
    rotation: Mutex<Rotation>,
    /// The authority's clock, less this machine's.
    ahead_ms: AtomicI64,
    trust_sequence: u64,
    /// The same for every stream of this process.
    instance: String,
    watch: Stopwatch,
    heard: watch::Sender<Heard>,
    failures: AtomicU64,
    /// One schedule at a time: of two, the older may come last.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

/// What the stream said last.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// A stream is up.
    pub up: bool,
    /// Since when, and since when this is so; by the run's watch.
    pub up_at: Duration,
    pub at: Duration,
    pub state: Option<TerminalState>,
}

impl Agent {
    /// The terminal whose enrolment lies in this folder, at the first of these nodes; nothing is asked yet.
    pub fn load(
        dir: &std::path::Path,
        nodes: &[&str],
        watch: Stopwatch,
    ) -> Result<Arc<Self>, Failure> {
        let of_dir = || Failure::of(dir.display());
        let client = |node: &&str| {
            let found = IdentityFiles::in_dir(dir).load().map_err(of_dir())?;
            let trust = TrustFiles::in_dir(dir).load().map_err(of_dir())?;
            let clock = Arc::new(Clock::start(None));
            let line = Line::new(node, found.current, trust, clock).map_err(of_dir())?;
            Ok(line.now().client.clone())
        };
        let found = IdentityFiles::in_dir(dir).load().map_err(of_dir())?;
        let trust = TrustFiles::in_dir(dir).load().map_err(of_dir())?;
        let (id, trust_sequence) = (found.current.terminal(), trust.sequence());
        Ok(Arc::new(Self {
            id,
            clients: nodes.iter().map(client).collect::<Result<_, Failure>>()?,
            at: watch::Sender::new(0),
            rotation: Mutex::new(Rotation::new(id)),
            ahead_ms: AtomicI64::default(),
            trust_sequence,
            instance: format!("load-{id}-{}", std::process::id()),
            watch,
            heard: watch::Sender::default(),
            failures: AtomicU64::default(),
            fetching: Arc::default(),
        }))
    }

    pub fn id(&self) -> TerminalId {
        self.id
    }

    pub fn client(&self) -> &AuthorityClient {
        &self.clients[*self.at.borrow()]
    }

    /// The node of its first client is 0.
    pub fn node(&self) -> usize {
        *self.at.borrow()
    }

    /// Its node does not answer: it goes to the next one, with its stream, too. Where there is one node it stays.
    pub fn go_elsewhere(&self) {
        self.go_to((self.node() + 1) % self.clients.len());
    }

    /// To this node, from the next call on.
    pub fn go_to(&self, node: usize) {
        self.at.send_if_modified(|at| {
            let moves = *at != node;
            *at = node;
            moves
        });
    }

    /// How its business day stands.
    pub async fn day(&self) -> Result<DayReport, CallError> {
        self.client().day().await
    }

    /// Hears everything after this moment.
    pub fn hear(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Keeps a stream open until it is aborted; `failed` hears of each that did not come up or broke.
    pub async fn listen(self: Arc<Self>, failed: impl Fn(&CallError) + Send) {
        let mut backoff = Backoff::default();
        loop {
            let (mut moves, node) = (self.at.subscribe(), self.node());
            moves.mark_unchanged();
            let ended = tokio::select! {
                ended = self.stream(&mut backoff) => Some(ended),
                // The sender is part of `self`.
                _ = moves.changed() => None,
            };
            self.lose_line();
            let Some(ended) = ended else {
                continue;
            };
            self.failures.fetch_add(1, Ordering::Relaxed);
            failed(&ended);
            if self.node() == node {
                self.go_elsewhere();
            }
            tokio::time::sleep(backoff.lost()).await;
        }
    }

    /// Its line is gone: whatever it said last may be old.
    pub fn lose_line(&self) {
        self.heard.send_modify(|heard| heard.up = false);
        self.rotation().handle_silence();
    }

    /// Fetches keys and the whole horizon, and shows what follows.
    pub async fn fetch(&self) -> Result<(), CallError> {
        let _alone = self.fetching.lock().await;
        self.fetch_alone().await
    }

    /// Waits until no schedule is on its way.
    pub async fn settled(&self) {
        drop(self.fetching.lock().await);
    }

    async fn fetch_alone(&self) -> Result<(), CallError> {
        let keys = self.client().keys().await?;
        let response = self.client().schedule(Fetch::Whole).await?;
        let followed = self
            .rotation()
            .handle_schedule(&response, Fetch::Whole, &keys, None);
        followed.map(drop).map_err(CallError::answer)
    }

    /// What this channel shows now: link or code.
    pub fn shows(&self, channel: Channel) -> Option<Face> {
        let faces = self.rotation().poll(self.now());
        match channel {
            Channel::Nfc => faces.nfc,
            Channel::Qr => faces.qr,
            Channel::Code => faces.code,
        }
        .ok()
    }

    /// Waits, at most so long, until the stream says something for which this is so.
    pub async fn until<T>(
        &self,
        limit: Duration,
        mut so: impl FnMut(&Heard) -> Option<T>,
    ) -> Option<T> {
        let mut heard = self.hear();
        let mut found = None;
        let look = heard.wait_for(|heard| {
            found = so(heard);
            found.is_some()
        });
        let waited = tokio::time::timeout(limit, look)
            .await
            .is_ok_and(|it| it.is_ok());
        waited.then_some(found).flatten()
    }

    /// The next moment at which the terminal may show something else by itself.
    pub fn changes_in(&self) -> Option<Duration> {
        let now = self.now();
        let next = self.rotation().poll_timeout(now)?;
        Some(Duration::from_millis(
            u64::try_from(next - now).unwrap_or(0),
        ))
    }

    async fn stream(self: &Arc<Self>, backoff: &mut Backoff) -> CallError {
        let greeting = Greeting {
            trust_sequence: self.trust_sequence,
            instance: self.instance.clone(),
            ..Greeting::default()
        };
        let mut response = match self.client().events(&greeting).await {
            Ok(response) => response,
            Err(error) => return error,
        };
        let mut parser = Parser::default();
        loop {
            let part = tokio::time::timeout(SILENCE_MAX, response.chunk()).await;
            let bytes = match part {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => return CallError::answer("the stream has ended"),
                Ok(Err(error)) => return CallError::of(&error),
                Err(_) => return CallError::answer("the stream is silent"),
            };
            let at = self.watch.now();
            let Ok(frames) = parser.feed(&bytes) else {
                return CallError::answer("a frame without end");
            };
            for frame in frames.iter().filter(|frame| frame.event == STATE_EVENT) {
                match serde_json::from_str(&frame.data) {
                    Ok(state) => self.take(state, at),
                    Err(error) => return CallError::answer(error),
                }
                backoff.reset();
            }
        }
    }

    fn take(self: &Arc<Self>, state: TerminalState, at: Duration) {
        if state.schedule_due {
            self.fetch_beside();
        }
        let ahead = state.now - wall();
        self.ahead_ms.store(ahead, Ordering::Relaxed);
        self.rotation().handle_turns(&state.turns);
        self.heard.send_modify(|heard| {
            if !heard.up {
                heard.up_at = at;
            }
            *heard = Heard {
                up: true,
                up_at: heard.up_at,
                at,
                state: Some(state),
            };
        });
    }

    /// As the authority asks for it.
    fn fetch_beside(self: &Arc<Self>) {
        if let Ok(alone) = self.fetching.clone().try_lock_owned() {
            let agent = self.clone();
            tokio::spawn(async move {
                // What fails is asked for again: the next frame says if it is still due.
                let _ = agent.fetch_alone().await;
                drop(alone);
            });
        }
    }

    fn now(&self) -> Timestamp {
        wall() + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn rotation(&self) -> MutexGuard<'_, Rotation> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call came to nothing for, as it is counted.
pub fn named(error: &CallError) -> String {
    match error {
        CallError::Refused(problem) => slug(problem),
        CallError::Unreachable { .. } => "unreachable".into(),
        CallError::ForeignServer { .. } | CallError::Elsewhere { .. } => "foreign server".into(),
        CallError::OwnCertificate { .. } => "certificate refused".into(),
        CallError::Fingerprint { .. } => "another root".into(),
        CallError::Answer { .. } => "answer not understood".into(),
    }
}

/// The last part of a problem's type.
pub fn slug(problem: &protocol::problem::Problem) -> String {
    let slug = problem.type_.rsplit(':').next();
    slug.unwrap_or_default().to_owned()
}
