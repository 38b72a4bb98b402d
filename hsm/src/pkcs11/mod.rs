//! How does [`Hsm`] run on a PKCS#11 module?

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;

mod answers;
mod bindings;
mod check;
mod ckr;
mod link;
mod low_s;
mod module;
mod ops;
mod proof;
mod session;
pub(crate) mod template;

pub use bindings::BINDINGS_MAX;
pub use check::Requirement;
pub(crate) use module::TokenName;
pub use module::{Module, RECYCLE_AFTER_DESTROYED, TOKEN_LABEL_MAX};
pub use proof::VERIFIED_EVERY;

use crate::{
    Cmac, Health, HealthState, Hsm, HsmError, KeyKind, KeyLabel, KeyReport, Mac, Observer, Pin,
    Priority, SealedSeed, SealingKeys, clock,
    failure::{Class, Failure},
    limits, reply,
    worker::{Call, Desk, Job, Link, serve},
};
use link::TokenLink;
use module::{START_PAUSE_FIRST, START_TRIES_MAX};
use session::{Token, TokenSession};

/// Most workers one HSM token may have.
pub const WORKERS_MAX: usize = 64;
/// Longest queue one HSM token may have.
pub const QUEUE_MAX: usize = 65_536;
/// How long dropping waits for requests that the device has in hand.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How to open an HSM token.
pub struct OpenOptions {
    pub token_label: String,
    /// If several HSM tokens behind the module have this label.
    pub serial: Option<String>,
    pub pin: Pin,
    /// Threads with a session each: one for software tokens, many for network HSMs.
    pub workers: usize,
    pub queue_max: usize,
    /// From the call to its answer.
    pub deadline: Duration,
    pub observer: Option<Arc<dyn Observer>>,
    /// Others serve in its place: it may be lost at the start, too, and come back later.
    pub may_be_away: bool,
}

impl OpenOptions {
    /// What suits a software token.
    pub fn new(token_label: impl Into<String>, pin: Pin) -> Self {
        Self {
            token_label: token_label.into(),
            serial: None,
            pin,
            workers: 1,
            queue_max: 1024,
            deadline: Duration::from_secs(5),
            observer: None,
            may_be_away: false,
        }
    }
}

/// An HSM token behind a PKCS#11 module, logged in, with its owner threads.
///
/// Calls need a tokio runtime with time, for their deadlines only. A deadline that passes while the
/// device works answers `Busy` too, so a key may exist although [`Hsm::generate_key`] said so.
/// Dropping it waits a few seconds at most for the request that the device has in hand.
pub struct Pkcs11Hsm {
    desk: Arc<Desk<TokenSession>>,
    module: Arc<Module>,
    token: Arc<Token>,
    deadline: Duration,
    observer: Option<Arc<dyn Observer>>,
    workers: Vec<JoinHandle<()>>,
    /// Disconnected once the last worker has closed its session.
    workers_done: Mutex<mpsc::Receiver<()>>,
}

impl Pkcs11Hsm {
    /// Finds the HSM token, logs in and starts the workers. Blocks: call it while starting up.
    pub fn open(module: &Arc<Module>, options: OpenOptions) -> Result<Self, HsmError> {
        check_options(&options)?;
        let name = TokenName {
            label: options.token_label,
            serial: options.serial,
        };
        let token = Arc::new(Token::new(name, options.pin, options.observer.clone()));
        let desk = Arc::new(Desk::new(options.queue_max, options.workers));
        let mut first = TokenLink::new(module.clone(), token.clone());
        match connect_patiently(&mut first) {
            Err(failure) if options.may_be_away && failure.class == Class::LostDevice => {
                desk.breaker().handle_absence(clock::now(), failure.error);
            }
            connected => connected.map_err(|failure| failure.error)?,
        }
        let (alive, workers_done) = mpsc::channel();
        let mut hsm = Self {
            desk,
            module: module.clone(),
            token,
            deadline: options.deadline,
            observer: options.observer,
            workers: Vec::with_capacity(options.workers),
            workers_done: Mutex::new(workers_done),
        };
        hsm.start_worker(0, first, alive.clone())?;
        for n in 1..options.workers {
            let link = TokenLink::new(module.clone(), hsm.token.clone());
            hsm.start_worker(n, link, alive.clone())?;
        }
        Ok(hsm)
    }

    pub fn token_label(&self) -> &str {
        &self.token.name().label
    }

    /// The mechanisms and locks that M2Key needs of an HSM, and which of them are missing here.
    /// Needs no key: it locks one for the occasion, attacks it and throws it away.
    pub async fn check(&self) -> Result<Vec<Requirement>, HsmError> {
        let (module, name) = (self.module.clone(), self.token.name().clone());
        self.call("check", Priority::Payment, move |session| {
            check::requirements(session, &module, &name)
        })
        .await
    }

    fn start_worker(
        &mut self,
        n: usize,
        link: TokenLink,
        alive: mpsc::Sender<()>,
    ) -> Result<(), HsmError> {
        let desk = self.desk.clone();
        let worker = std::thread::Builder::new()
            .name(format!("hsm-{n}"))
            .spawn(move || {
                // In this order, so that the session is closed before the worker counts as done.
                let _alive = alive;
                let mut link = link;
                serve(&mut link, &desk);
            })
            .map_err(|error| busy(format!("no thread for an HSM worker: {error}")))?;
        self.workers.push(worker);
        Ok(())
    }

    async fn call<T, F>(
        &self,
        operation: &'static str,
        priority: Priority,
        work: F,
    ) -> Result<T, HsmError>
    where
        T: Send + 'static,
        F: FnMut(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
    {
        let started = clock::now();
        let result = self.ask(started, priority, work).await;
        if let Some(observer) = &self.observer {
            let outcome = result.as_ref().map_or_else(HsmError::outcome, |_| "ok");
            let seconds = clock::now().duration_since(started).as_secs_f64();
            observer.observe(operation, outcome, seconds);
        }
        result
    }

    async fn ask<T, F>(&self, started: Instant, priority: Priority, work: F) -> Result<T, HsmError>
    where
        T: Send + 'static,
        F: FnMut(&mut TokenSession) -> Result<T, Failure> + Send + 'static,
    {
        self.desk.breaker().admit(started)?;
        let deadline = started + self.deadline;
        let (sender, answer) = reply::pair();
        let task = Box::new(Call::new(work, sender));
        self.desk
            .queue
            .push(Job { deadline, task }, priority)
            .map_err(|refused| busy(format!("queue: {refused:?}")))?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(reply::Gone)) => Err(busy("the HSM token is being closed".into())),
            Err(_) => Err(self.note_timeout()),
        }
    }

    fn note_timeout(&self) -> HsmError {
        let error = busy(format!("no answer within {:?}", self.deadline));
        let mut breaker = self.desk.breaker();
        breaker.handle_timeout(clock::now(), error.clone());
        error
    }
}

impl Drop for Pkcs11Hsm {
    fn drop(&mut self) {
        // Whoever waits for one of these hears that the HSM token is being closed.
        drop(self.desk.queue.close());
        let workers_done = self
            .workers_done
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if workers_done.recv_timeout(DRAIN_MAX) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the HSM has a request in hand for too long; leaving it alone");
            return;
        }
        // A thread that ends beside the end of the process would meet the library's own clean-up.
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("an HSM worker ended by a panic");
            }
        }
    }
}

#[async_trait]
impl Hsm for Pkcs11Hsm {
    async fn seal_new_seed(
        &self,
        keys: &SealingKeys,
        context: Vec<u8>,
        priority: Priority,
    ) -> Result<SealedSeed, HsmError> {
        limits::context(&context)?;
        let (module, keys) = (self.module.clone(), keys.clone());
        self.call("seal_new_seed", priority, move |session| {
            ops::seal_new_seed(session, &module, &keys, &context)
        })
        .await
    }

    async fn hmac_batch(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Mac>, HsmError> {
        limits::context(&seed.context)?;
        limits::batch(&messages)?;
        let (module, keys, seed) = (self.module.clone(), keys.clone(), seed.clone());
        self.call("hmac_batch", priority, move |session| {
            ops::hmac_batch(session, &module, &keys, &seed, &messages)
        })
        .await
    }

    async fn prove_binding(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        priority: Priority,
    ) -> Result<(), HsmError> {
        limits::context(&seed.context)?;
        let (module, keys, seed) = (self.module.clone(), keys.clone(), seed.clone());
        self.call("prove_binding", priority, move |session| {
            ops::prove_binding(session, &module, &keys, &seed)
        })
        .await
    }

    async fn sign(
        &self,
        key: &KeyLabel,
        digest: [u8; 32],
        priority: Priority,
    ) -> Result<[u8; 64], HsmError> {
        let (module, key) = (self.module.clone(), key.clone());
        self.call("sign", priority, move |session| {
            ops::sign(session, &module, &key, &digest)
        })
        .await
    }

    async fn cmac_batch(
        &self,
        key: &KeyLabel,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Cmac>, HsmError> {
        limits::batch(&messages)?;
        let (module, key) = (self.module.clone(), key.clone());
        self.call("cmac_batch", priority, move |session| {
            ops::cmac_batch(session, &module, &key, &messages)
        })
        .await
    }

    async fn public_key(&self, key: &KeyLabel) -> Result<[u8; 65], HsmError> {
        let key = key.clone();
        self.call("public_key", Priority::Payment, move |session| {
            ops::public_key(session, &key)
        })
        .await
    }

    async fn random(&self, len: usize) -> Result<Vec<u8>, HsmError> {
        limits::random(len)?;
        self.call("random", Priority::Payment, move |session| {
            ops::random(session, len)
        })
        .await
    }

    async fn generate_key(&self, kind: KeyKind, label: &KeyLabel) -> Result<(), HsmError> {
        limits::label(label)?;
        let (module, token, label) = (self.module.clone(), self.token.clone(), label.clone());
        self.call("generate_key", Priority::Payment, move |session| {
            ops::generate_key(session, &module, kind, &label)?;
            // Others destroyed the one that was known.
            if token.answers().forget(&label) {
                token.note_destroyed();
            }
            Ok(())
        })
        .await
    }

    async fn destroy_key(&self, label: &KeyLabel) -> Result<(), HsmError> {
        limits::label(label)?;
        let (module, token, label) = (self.module.clone(), self.token.clone(), label.clone());
        self.call("destroy_key", Priority::Renewal, move |session| {
            let destroyed = ops::destroy_key(session, &module, &label);
            token.note_destroyed();
            let gone = |failure: &Failure| matches!(failure.error, HsmError::KeyUnknown { .. });
            if destroyed.as_ref().err().is_none_or(gone) {
                token.answers().forget(&label);
            }
            destroyed
        })
        .await
    }

    async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError> {
        let module = self.module.clone();
        self.call("inventory", Priority::Payment, move |session| {
            check::inventory(session, &module)
        })
        .await
    }

    fn health(&self) -> Health {
        let breaker = self.desk.breaker();
        let queue = (self.desk.queue.len(), self.desk.queue.max());
        let health = Health::of_one(breaker.state(), queue, breaker.reason());
        drop(breaker);
        with_foreign(health, &self.token.answers().foreign())
    }

    fn believe(&self, key: &KeyLabel, point: &[u8; 65]) {
        if self.token.answers().tell_point(key, point) {
            self.token.note_destroyed();
        }
    }

    fn disown(&self, key: &KeyLabel) {
        if self.token.answers().disown(key) {
            self.token.note_destroyed();
        }
    }
}

/// A SoftHSM that starts while another process logs in may overlook an HSM token, or its PIN, and
/// does so until it is started again.
fn connect_patiently(link: &mut TokenLink) -> Result<(), Failure> {
    let mut pause = START_PAUSE_FIRST;
    for _ in 1..START_TRIES_MAX {
        match link.connect() {
            Err(failure) if failure.class == Class::LostDevice => clock::pause(pause),
            other => return other,
        }
        link.restart()?;
        pause *= 2;
    }
    link.connect()
}

/// It answers, and with another key than before: fit for nothing until somebody has looked at it.
fn with_foreign(mut health: Health, foreign: &BTreeSet<KeyLabel>) -> Health {
    if health.state.is_fit() && !foreign.is_empty() {
        let labels: Vec<_> = foreign.iter().map(|label| label.0.as_str()).collect();
        health.state = HealthState::Down;
        health.reason = Some(format!(
            "other keys than before have the labels {}",
            labels.join(", ")
        ));
    }
    health
}

fn check_options(options: &OpenOptions) -> Result<(), HsmError> {
    let wrong = if !(1..=WORKERS_MAX).contains(&options.workers) {
        format!("an HSM token has 1 to {WORKERS_MAX} workers")
    } else if !(1..=QUEUE_MAX).contains(&options.queue_max) {
        format!("a queue holds 1 to {QUEUE_MAX} requests")
    } else if options.deadline.is_zero() {
        "a deadline of zero leaves no time to answer".into()
    } else {
        return Ok(());
    };
    Err(HsmError::CallerFault { detail: wrong })
}

fn busy(detail: String) -> HsmError {
    HsmError::Busy { detail }
}
