//! What does the running daemon do, from start to end?
//!
//! Lock → build → bind → run → drain with a deadline.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::manager::Manager;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::app::{App, OpenError, open};
use crate::config::Config;
use crate::http::{Loopback, Private, Public, Routes};
use crate::http::{
    agents, books, crls, enrolment, loopback, operators, pages, public, sign_in, sms, trust,
};
use crate::listen::credentials::{Audience, Credentials};
use crate::listen::keeper::Keeper;
use crate::listen::room::{self, Room};
use crate::listen::tls::TlsError;
use crate::listen::{self, BindError, DRAIN_DEADLINE, Listening, PrivateTls, PublicTls};
use crate::lock::{Lock, LockError};
use crate::services::journey::{Journey, StartError};
use crate::services::node::Listener;
use crate::services::operators::VERBS_MAX;

mod heartbeat;

const ADDRESSES_FILE: &str = "addresses.json";

/// Where the running daemon listens; written once it does, removed when it ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Addresses {
    pub public: SocketAddr,
    pub agents: SocketAddr,
    pub loopback: SocketAddr,
    pub pid: u32,
}

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("{} cannot be written ({error})", .path.display())]
    Addresses {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("the service manager at NOTIFY_SOCKET cannot be told anything ({0})")]
    Manager(std::io::Error),
    #[error("signals cannot be received ({0})")]
    Signals(std::io::Error),
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let _lock = Lock::take(&config.run_dir)?;
    let room = room::make(&config);
    if let Some(shortage) = &room.shortage {
        tracing::warn!("{shortage}");
    }
    let app = open(config).await?;
    let journey = Journey::new(&app)?;
    let bound = Bound::bind(&app).await?;
    // Before anybody knows that we serve, so that no signal finds nobody.
    let mut signals = Signals::catch().map_err(ServeError::Signals)?;
    let manager = Arc::new(Manager::of_environment().map_err(ServeError::Manager)?);
    let addresses = AddressFile::write(&app.config.run_dir, &bound.addresses())?;
    let reload = Arc::new(Notify::new());
    let running = bound.run(&journey, &room, reload.clone());
    note(&app, "daemon.started").await;
    if app.fence.fenced().is_some() {
        tracing::warn!("fenced: serving nothing but health and the verbs of the fence");
    }
    tracing::info!(public = %addresses.shown.public, agents = %addresses.shown.agents,
        loopback = %addresses.shown.loopback, "serving");
    manager.ready();
    let _heart = heartbeat::start(app.clone(), manager.clone());
    signals.wait(&reload).await;
    manager.stopping();
    app.give_notice();
    tracing::info!("going down");
    // A second signal ends the wait.
    let notice = tokio::time::sleep(app.config.loopback.notice);
    tokio::select! {
        () = notice => {}
        () = signals.wait(&reload) => {}
    }
    tracing::info!("draining");
    app.start_drain();
    app.store.resign();
    drain(running).await;
    end_of_verbs(&app).await;
    note(&app, "daemon.stopped").await;
    bind_the_end(&journey).await;
    Ok(())
}

/// The routes of the public listener.
pub fn public_routes(journey: &Arc<Journey>) -> Routes<Public> {
    let interfaces = public::routes(journey)
        .or(sign_in::routes(journey))
        .or(crls::routes(&journey.crls));
    pages::around(journey, interfaces)
}

/// The routes of the agents' listener.
fn private_routes(journey: &Arc<Journey>) -> Routes<Private> {
    let app = &journey.app;
    agents::routes(journey)
        .or(books::routes(journey))
        .or(enrolment::routes(app))
        .or(trust::routes(app))
        .or(operators::routes(app))
}

/// The routes of the loopback listener.
fn loopback_routes(journey: &Arc<Journey>) -> Routes<Loopback> {
    loopback::routes(&journey.app)
        .or(crls::routes(&journey.crls))
        .or(sms::routes(journey))
}

/// Three sockets and their TLS, before anything answers on them.
struct Bound {
    public: Listening,
    agents: Listening,
    loopback: Listening,
    public_shows: Arc<Credentials>,
    agents_show: Arc<Credentials>,
}

impl Bound {
    async fn bind(app: &App) -> Result<Self, ServeError> {
        let config = &app.config;
        Ok(Self {
            public_shows: Credentials::open(
                app,
                Listener::Public.name(),
                &config.public.tls,
                Audience::Anybody,
            )?,
            agents_show: Credentials::open(
                app,
                Listener::Agents.name(),
                &config.agents.tls,
                Audience::OurOwn,
            )?,
            public: Listening::bind(config.public.listen).await?,
            agents: Listening::bind(config.agents.listen).await?,
            loopback: Listening::bind(config.loopback.listen).await?,
        })
    }

    fn addresses(&self) -> Addresses {
        Addresses {
            public: self.public.address(),
            agents: self.agents.address(),
            loopback: self.loopback.address(),
            pid: std::process::id(),
        }
    }

    fn run(
        self,
        journey: &Arc<Journey>,
        room: &Room,
        reload: Arc<Notify>,
    ) -> tokio::task::JoinSet<()> {
        let app = &journey.app;
        let private_tls = PrivateTls {
            shows: self.agents_show.clone(),
            domain: app.config.trust.domain.clone(),
        };
        let public_tls = PublicTls(self.public_shows.clone());
        let public = listen::public(self.public, public_routes(journey)).over(public_tls);
        let private = listen::private(self.agents, private_routes(journey));
        let private = private.taking(room.agents).over(private_tls);
        let keeper = Keeper::new(app.clone(), [self.agents_show, self.public_shows], reload);
        let loopback = listen::loopback(self.loopback, loopback_routes(journey));
        let mut running = tokio::task::JoinSet::new();
        running.spawn(public.run(app.clone()));
        running.spawn(private.run(app.clone()));
        running.spawn(loopback.run(app.clone()));
        running.spawn(journey.clone().run());
        running.spawn(keeper.run());
        running
    }
}

/// Each listener has its own deadline; this one is for background work that ignores the drain.
async fn drain(mut running: tokio::task::JoinSet<()>) {
    let all = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(2 * DRAIN_DEADLINE, all).await.is_err() {
        tracing::warn!("stopping although something is still at work");
    }
}

/// Verbs whose askers hung up are under way without a connection.
async fn end_of_verbs(app: &App) {
    let all = app.verbs.acquire_many(VERBS_MAX as u32);
    if tokio::time::timeout(DRAIN_DEADLINE, all).await.is_err() {
        tracing::warn!("stopping although an operator's verb is still being carried out");
    }
}

/// A last checkpoint, so that a copy from before the last second is found to be one.
async fn bind_the_end(journey: &Journey) {
    if journey.app.fence.fenced().is_some() {
        return;
    }
    if let Err(error) = journey.checkpoint(journey.app.clock.now()).await {
        tracing::warn!(%error, "the last facts are not bound by a checkpoint");
    }
}

/// What ends the daemon, and what makes it read its certificates again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Until the daemon is to end; SIGHUP only has the files of the listeners read again.
    async fn wait(&mut self, reload: &Notify) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload.notify_one(),
            }
        }
    }
}

async fn note(app: &App, kind: &str) {
    let body = serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }).to_string();
    if let Err(error) = app.store.note(kind, body, app.clock.now()).await {
        tracing::error!(%error, kind, "the audit chain does not take a note");
    }
}

impl Addresses {
    /// What a running daemon wrote; not found if none runs.
    pub fn read(run_dir: &Path) -> std::io::Result<Self> {
        let text = std::fs::read(run_dir.join(ADDRESSES_FILE))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// Removes the file again when the daemon ends.
struct AddressFile {
    path: PathBuf,
    shown: Addresses,
}

impl AddressFile {
    fn write(run_dir: &Path, addresses: &Addresses) -> Result<Self, ServeError> {
        let path = run_dir.join(ADDRESSES_FILE);
        let fresh = run_dir.join(format!("{ADDRESSES_FILE}.new"));
        let text = serde_json::to_vec_pretty(addresses).expect("addresses are plain text");
        // Renamed into place, so that nobody reads half of it.
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(|error| ServeError::Addresses {
                path: path.clone(),
                error,
            })?;
        Ok(Self {
            path,
            shown: addresses.clone(),
        })
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // If it stays, readers find that nobody answers there.
        let _ = std::fs::remove_file(&self.path);
    }
}
