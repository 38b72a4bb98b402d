//! How do screen, till and operator reach the agent on this machine?

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use warp::filters::BoxedFilter;
use warp::http::StatusCode;
use warp::reply::Response;
use warp::{Filter, Reply};

use crate::error::AgentError;
use crate::health::Health;
use crate::http::{hardened, json_reply, own_host, refusals};
use crate::kiosk::{self, Kiosk};
use crate::metrics::Metrics;
use crate::till::{self, Till};

/// Most connections at a time; a screen needs two, a till two.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send its headers.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open answers may go on when the agent stops.
pub const DRAIN: Duration = Duration::from_secs(2);

/// Everything that is served on loopback.
pub struct Served {
    pub kiosk: Kiosk,
    pub till: Till,
    pub health: Health,
    pub metrics: Arc<Metrics>,
}

/// Opens the listener; the address says which port a free one became.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), AgentError> {
    let opened = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, bound))
    };
    opened.await.map_err(|error| {
        AgentError::operator(
            format!("{address}: {error}"),
            "another program, perhaps a second agent, holds this port: stop it, or set kiosk_listen",
        )
    })
}

/// Serves until told to stop, then lets open answers end within [`DRAIN`].
pub async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    served: Served,
    mut stop: watch::Receiver<bool>,
) {
    let service = warp::service(routes(address, served));
    let service = TowerToHyperService::new(service);
    // Told the version, hyper counts the headers' time from the first moment, not the first byte.
    let mut server = auto::Builder::new(TokioExecutor::new()).http1_only();
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => break,
            accepted = listener.accept() => accepted,
        };
        let (Ok((stream, _)), Ok(place)) = (accepted, room.clone().try_acquire_owned()) else {
            continue;
        };
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            // A client that goes away is no event.
            let _ = connection.await;
            drop(place);
        });
    }
    // Event streams have no end of their own.
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

fn routes(address: SocketAddr, served: Served) -> BoxedFilter<(Response,)> {
    let metrics = served.metrics;
    let health = served.health;
    let text = warp::path!("metrics").map(move || metrics.text().into_response());
    let live = warp::path!("live").map(|| "live\n".into_response());
    let ready = warp::path!("ready").map(move || ready(&health));
    let probes = warp::get().and(text.or(live).unify().or(ready).unify());
    let all = probes
        .or(till::routes(served.till))
        .unify()
        .or(kiosk::routes(served.kiosk))
        .unify();
    own_host(address)
        .and(all)
        .recover(refusals)
        .unify()
        .map(hardened)
        .boxed()
}

fn ready(health: &Health) -> Response {
    let report = health.report();
    let mut reply = json_reply(&report);
    if !report.ready {
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    reply
}
