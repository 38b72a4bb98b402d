//! What is this process made of?
//!
//! The only file, besides their own, that names the concrete store, HSM and issuer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hsm::Hsm;
use pki::Issuer;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::services::bans::Bans;
use crate::services::changes::Changes;
use crate::services::consent::CarryingOut;
use crate::services::fence::Fence;
use crate::services::keyring::Keyring;
use crate::services::neighbours::Neighbours;
use crate::services::node::Wishes;
use crate::services::operators::VERBS_MAX;
use crate::services::pins::PIN_CHECKS_MAX;
use crate::services::readiness::Watchlist;
use crate::services::rotation::Operations;
use crate::services::trust::Trust;
use crate::store::Store;

mod hsm_tokens;
mod open;

pub use hsm_tokens::{HsmTokens, open_hsm};
pub use open::{OpenError, load_certificate, load_certificates, open, open_signer};

/// Everything the services share.
pub struct App {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    /// Seeds and signatures.
    pub hsm: Arc<dyn Hsm>,
    pub store: Arc<dyn Store>,
    pub issuer: Arc<dyn Issuer>,
    pub metrics: Arc<Metrics>,
    /// Swapped whole when a key is rotated.
    keyring: RwLock<Arc<Keyring>>,
    /// The life of this database, an input of every epoch key.
    pub generation: u32,
    pub bans: Bans,
    /// Whether anything is served at all.
    pub fence: Fence,
    /// Keys and seeds that were replaced.
    pub changes: Changes,
    /// Whether other nodes are heard.
    pub neighbours: Neighbours,
    /// What operators asked for and is carried out in steps.
    pub operations: Operations,
    /// What others consented to and is carried out just now.
    pub carrying_out: CarryingOut,
    /// A place for each operators' verb that is under way.
    pub verbs: Arc<Semaphore>,
    /// A place for each PIN that is being checked: it takes memory and a processor.
    pub pin_checks: Arc<Semaphore>,
    /// Listeners whose certificates operators want renewed now.
    pub wishes: Wishes,
    /// What the listeners show, as of now.
    pub watchlist: Watchlist,
    trust: watch::Sender<Arc<Trust>>,
    drain: watch::Sender<bool>,
    /// It goes down soon: whoever asks should send nobody here any more.
    leaving: AtomicBool,
}

/// What an [`App`] is assembled from; tests bring their own.
pub struct Parts {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub hsm: Arc<dyn Hsm>,
    pub store: Arc<dyn Store>,
    pub issuer: Arc<dyn Issuer>,
    pub metrics: Arc<Metrics>,
    pub trust: Trust,
}

impl App {
    /// Reads keys and generation from the store, and is whole.
    pub async fn assemble(parts: Parts) -> Result<Arc<Self>, AssembleError> {
        let keyring = Keyring::new(&parts.store.keys().await?)?;
        keyring.tell(&*parts.hsm);
        let generation = parts.store.generation().await?;
        Ok(Arc::new(Self {
            config: parts.config,
            clock: parts.clock,
            hsm: parts.hsm,
            store: parts.store,
            issuer: parts.issuer,
            metrics: parts.metrics,
            keyring: RwLock::new(Arc::new(keyring)),
            generation,
            bans: Bans::default(),
            fence: Fence::default(),
            changes: Changes::default(),
            neighbours: Neighbours::default(),
            operations: Operations::default(),
            carrying_out: CarryingOut::default(),
            verbs: Arc::new(Semaphore::new(VERBS_MAX)),
            pin_checks: Arc::new(Semaphore::new(PIN_CHECKS_MAX)),
            wishes: Wishes::default(),
            watchlist: Watchlist::default(),
            trust: watch::Sender::new(Arc::new(parts.trust)),
            drain: watch::Sender::new(false),
            leaving: AtomicBool::new(false),
        }))
    }

    /// The keys as of now. A request takes them once, so that it sees one set from start to end.
    pub fn keyring(&self) -> Arc<Keyring> {
        let keyring = self.keyring.read().unwrap_or_else(PoisonError::into_inner);
        keyring.clone()
    }

    /// Reads the keys table again, after a rotation is committed.
    pub async fn reload_keyring(&self) -> Result<(), AssembleError> {
        let fresh = Arc::new(Keyring::new(&self.store.keys().await?)?);
        fresh.tell(&*self.hsm);
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The roots as of now.
    pub fn trust(&self) -> Arc<Trust> {
        self.trust.borrow().clone()
    }

    /// Puts the next list of roots in force; call it once its file is written.
    pub fn set_trust(&self, next: Trust) {
        self.trust.send_replace(Arc::new(next));
    }

    /// Tells of every change of the roots from now on.
    pub fn trust_changes(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// The authority's own SPIFFE ID, the `iss` of everything it signs.
    pub fn issuer_uri(&self) -> String {
        pki::SpiffeId::Authority(self.config.node.clone()).uri(&self.config.trust.domain)
    }

    /// Readiness says from now on that the node goes down; everything is served as before.
    pub fn give_notice(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// From now on no new work; what is open ends within the drain deadline.
    pub fn start_drain(&self) {
        self.give_notice();
        self.drain.send_replace(true);
    }

    pub fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Returns once the drain has started: streams and background work end then.
    pub async fn draining(&self) {
        let mut drain = self.drain.subscribe();
        // The sender is part of `self`, so it cannot be gone while this waits.
        let _ = drain.wait_for(|draining| *draining).await;
    }
}

/// Why there is no App.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Keys(#[from] crate::services::keyring::KeyMissing),
}
