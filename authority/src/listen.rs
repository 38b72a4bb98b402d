//! How does a connection become a request, and who is at the other end?
//!
//! ```text
//! accept ─▶ place ───▶ hello ─▶ turn ───▶ handshake ─▶ whose certificate? ─▶ HTTP/1.1 or 2 ─▶ routes of this listener
//!           [places]   [hello]  [turns]   [tls]         private only          [connection]     by type: Routes<L>
//! ```
//! Three listeners: [`public`] for phones, [`private`] for terminals and operators, [`loopback`] for
//! health and metrics. Each takes routes of its own type only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pki::TrustDomain;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::app::App;
use crate::clock::Moment;
use crate::config::Config;
use crate::http::Table;
use crate::http::operators::OPERATOR_PATH;
use crate::http::sms::TEXTS_PATH;
use crate::http::{Loopback, Private, Public, Routes};
use crate::metrics::Metrics;
use crate::services::sources::Source;
use credentials::Credentials;
use crowd::Crowd;
use places::{NoPlace, Places};
use turns::Turns;

mod client_verifier;
mod connection;
pub mod credentials;
mod crowd;
mod hello;
pub mod keeper;
pub mod pair;
mod places;
mod ranked;
mod rest;
pub mod room;
mod stream;
pub mod tls;
mod turns;
mod watched;
mod wire;

pub use hello::HELLO_MAX;
pub use turns::{HANDSHAKES_MAX, TURN_MAX, TURN_WAIT};
pub use wire::{PEER_ASKED_AFTER, PEER_ASKED_EVERY, PEER_QUESTIONS_MAX, PEER_TAKES_NOTHING};

/// Connections one listener serves at once; the agents' as many as the configuration says.
pub const CONNECTIONS_MAX: usize = 4_096;
/// From accept to the end of the TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the handshake to the first whole head of a request; then [`HEADER_TIMEOUT`] counts.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// For the head of an HTTP/1 request from its first byte on; it is looked at half as often.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For an idle connection to send its next request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Largest head of a request, in bytes.
pub const HEADER_MAX: usize = 16 * 1024;
/// Requests one HTTP/2 connection may have open.
pub const STREAMS_MAX: u32 = 64;
/// How long open requests may go on once the drain has started.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// Connections that the kernel keeps until they are accepted; the system may allow fewer
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;
/// How often it is told that a listener is full.
const FULL_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Pause after an accept that failed, e.g. because no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A bound socket that nothing answers on yet.
pub struct Listening {
    socket: TcpListener,
    address: SocketAddr,
}

/// The address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({source})")]
pub struct BindError {
    pub address: SocketAddr,
    source: std::io::Error,
}

impl Listening {
    /// Binds; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let socket = bind(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// As [`TcpListener::bind`] does, with a longer queue.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One listener with everything it needs but the App's time to live.
pub struct Listener<T> {
    listening: Listening,
    transport: T,
    routes: Table,
    name: &'static str,
    passes: Passes,
    /// Connections at once.
    connections_max: usize,
    /// Connections of one client address; none: as many as there are.
    per_address: Option<PerAddress>,
    /// Those of them that show no certificate; none: nobody is asked for one.
    strangers: Option<PerAddress>,
}

/// What the configuration says of one client address.
type PerAddress = fn(&Config) -> u32;

/// Which paths are answered while the database is behind the world: nobody can mount a route past it.
type Passes = fn(&str) -> bool;

/// TLS without client certificates.
pub struct PublicTls(pub Arc<Credentials>);
/// TLS that verifies a client certificate when one comes.
pub struct PrivateTls {
    pub shows: Arc<Credentials>,
    pub domain: TrustDomain,
}
/// No TLS: bytes never leave the machine.
pub struct Plain;

/// What phones reach. Takes public routes, and the type lets no other in.
pub fn public(listening: Listening, routes: Routes<Public>) -> Listener<()> {
    let listener = listener("public", listening, routes, |_| false);
    Listener {
        per_address: Some(|config| config.spending.traffic.connections_per_address),
        ..listener
    }
}

/// What terminals and operators reach.
pub fn private(listening: Listening, routes: Routes<Private>) -> Listener<()> {
    // Operators raise the fence through their verbs, and each of those says whether it may pass.
    let listener = listener("agents", listening, routes, |path| {
        path.starts_with(OPERATOR_PATH)
    });
    Listener {
        strangers: Some(|config| config.agents.strangers_per_address),
        ..listener
    }
}

/// What the machine itself reaches.
pub fn loopback(listening: Listening, routes: Routes<Loopback>) -> Listener<Plain> {
    // Health and metrics tell of the fence; a text would be answered.
    listener("loopback", listening, routes, |path| path != TEXTS_PATH).over(Plain)
}

fn listener<L>(
    name: &'static str,
    listening: Listening,
    routes: Routes<L>,
    passes: Passes,
) -> Listener<()> {
    Listener {
        listening,
        transport: (),
        routes: routes.complete(),
        name,
        passes,
        connections_max: CONNECTIONS_MAX,
        per_address: None,
        strangers: None,
    }
}

impl<T> Listener<T> {
    /// The same listener with so many connections at once.
    pub fn taking(self, connections_max: usize) -> Self {
        Self {
            connections_max,
            ..self
        }
    }

    /// The same listener over this transport.
    pub fn over<U>(self, transport: U) -> Listener<U> {
        Listener {
            listening: self.listening,
            transport,
            routes: self.routes,
            name: self.name,
            passes: self.passes,
            connections_max: self.connections_max,
            per_address: self.per_address,
            strangers: self.strangers,
        }
    }
}

/// Turns an accepted socket into a stream and says who is at the other end. Nobody outside makes a
/// guest, so nobody outside makes a transport.
pub trait Transport: Send + Sync + 'static {
    type Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static;
    /// Whether [`Self::open`] computes, so that it is done in turns.
    const SHAKES: bool;

    fn open(
        &self,
        socket: TcpStream,
    ) -> impl Future<Output = std::io::Result<(Self::Stream, connection::Guest)>> + Send;
}

impl<T: Transport> Listener<T> {
    /// Serves until the drain starts, then waits for what is open, at most [`DRAIN_DEADLINE`].
    pub async fn run(self, app: Arc<App>) {
        let strangers = self.strangers.map(|of| of(&app.config));
        let places = Places::new(self.connections_max, strangers);
        let mut full = Full::of(self.name, self.connections_max, &app.metrics);
        let door = Arc::new(connection::Door {
            transport: self.transport,
            routes: self.routes,
            name: self.name,
            passes: self.passes,
            app: app.clone(),
            turns: Turns::default(),
        });
        let crowd = Arc::new(Crowd::default());
        let per_address = self.per_address.map(|of| of(&app.config));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listening.socket.accept() => accepted,
                () = app.draining() => break,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let from = Source::of(peer.ip());
                    let max = per_address.unwrap_or(u32::MAX);
                    let counted = crowd.enter(from, max).ok_or(NoPlace::AddressFull);
                    match counted.and_then(|it| Ok((it, places.enter(from)?))) {
                        Ok((counted, place)) => {
                            let door = door.clone();
                            connections.spawn(async move {
                                door.serve(socket, from, place).await;
                                drop(counted);
                            });
                        }
                        Err(NoPlace::Full) => full.refuse(&app.metrics),
                        Err(NoPlace::AddressFull) => {
                            refused(&app.metrics, self.name, "address-full");
                        }
                    }
                }
                Err(error) => pause(self.name, &error).await,
            }
        }
        drain(self.name, connections).await;
    }
}

/// A listener without a free place; told, but not once for each who is turned away.
struct Full {
    listener: &'static str,
    connections_max: usize,
    told: Option<Moment>,
}

impl Full {
    fn of(listener: &'static str, connections_max: usize, metrics: &Metrics) -> Self {
        let places = i64::try_from(connections_max).unwrap_or(i64::MAX);
        let gauge = metrics.connections_max.with_label_values(&[listener]);
        gauge.set(places);
        Self {
            listener,
            connections_max,
            told: None,
        }
    }

    fn refuse(&mut self, metrics: &Metrics) {
        refused(metrics, self.listener, "full");
        if self.told.is_none_or(|told| told.age() >= FULL_TOLD_EVERY) {
            self.told = Some(Moment::now());
            tracing::warn!(
                listener = self.listener,
                connections_max = self.connections_max,
                "full: whoever connects is turned away; more nodes, or a higher limit, take more"
            );
        }
    }
}

async fn drain(name: &str, mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_DEADLINE, all).await.is_err() {
        tracing::warn!(
            listener = name,
            "cutting connections that did not end in time"
        );
    }
}

async fn pause(name: &str, error: &std::io::Error) {
    tracing::warn!(listener = name, %error, "accept failed");
    tokio::time::sleep(ACCEPT_RETRY).await;
}

fn refused(metrics: &Metrics, listener: &str, reason: &str) {
    metrics
        .connections_refused
        .with_label_values(&[listener, reason])
        .inc();
}
