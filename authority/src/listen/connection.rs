//! What happens on one connection?

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderValue;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use pki::{Peer, SpiffeId};
use protocol::ids::TerminalId;
use protocol::problem::Problem;
use protocol::wire::push::EVENTS_PATH;
use protocol::wire::upkeep::CHECKPOINT_HEADER;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_service::Service;
use tracing::Instrument;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::rest::{Lent, lend};
use super::{
    FIRST_REQUEST_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_MAX, HEADER_TIMEOUT, Passes, Plain,
    PrivateTls, PublicTls, STREAMS_MAX, Transport, refused, tls,
};
use crate::app::App;
use crate::clock::Stopwatch;
use crate::http::extract::PeerCertificate;
use crate::http::{RouteName, problem};
use crate::ids;
use crate::logging::request_span;
use crate::services::bans::{BanListener, RevocationListener};
use crate::services::sources::Source;
use crate::services::{fence, neighbours};

const REQUEST_ID: &str = "x-request-id";
/// How long, and how much, a client may go on after its handshake failed.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
const LAST_WORDS_MAX: u64 = 64 * 1024;

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Who is at the other end, as far as the transport can tell.
#[derive(Debug, Clone, Default)]
pub struct Guest(Option<PeerCertificate>);

impl Guest {
    pub(super) fn with(certificate: Option<PeerCertificate>) -> Self {
        Self(certificate)
    }

    fn peer(&self) -> Option<&Peer> {
        self.0.as_ref()?.read.as_ref().as_ref().ok()
    }

    /// Whom the certificate names, in words; nobody without one of our PKI.
    fn name(&self) -> Option<String> {
        let id = &self.peer()?.id;
        Some(format!("{} {}", id.role(), id.name()))
    }

    fn terminal(&self) -> Option<TerminalId> {
        match self.peer()?.id {
            SpiffeId::Terminal(id) => Some(id),
            SpiffeId::Authority(_) | SpiffeId::Operator(_) => None,
        }
    }

    fn serial(&self) -> Option<String> {
        Some(self.peer()?.serial.clone())
    }
}

/// What every connection of one listener shares.
pub(super) struct Door<T> {
    pub(super) transport: T,
    pub(super) routes: BoxedFilter<(Response,)>,
    pub(super) name: &'static str,
    pub(super) passes: Passes,
    pub(super) app: Arc<App>,
}

impl<T: Transport> Door<T> {
    pub(super) async fn serve(&self, socket: TcpStream, from: Source) {
        let cut = Cut::before(&self.app);
        let Some((stream, guest)) = self.open(socket).await else {
            return;
        };
        let open = self
            .app
            .metrics
            .connections_open
            .with_label_values(&[self.name]);
        open.inc();
        let (terminal, serial) = (guest.terminal(), guest.serial());
        // A ban or a revocation cuts what is open: dropping the connection ends its streams too.
        tokio::select! {
            () = self.talk(stream, guest, from) => {}
            why = cut.off(terminal, serial) => refused(&self.app.metrics, self.name, why),
        }
        open.dec();
    }

    async fn open(&self, socket: TcpStream) -> Option<(T::Stream, Guest)> {
        // Latency only; a socket that cannot do it works as well.
        let _ = socket.set_nodelay(true);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, self.transport.open(socket)).await {
            Ok(Ok(opened)) => Some(opened),
            Ok(Err(error)) => {
                tracing::info!(listener = self.name, %error, "a handshake failed");
                refused(&self.app.metrics, self.name, "handshake");
                None
            }
            Err(_) => {
                refused(&self.app.metrics, self.name, "handshake-timeout");
                None
            }
        }
    }

    async fn talk(&self, stream: T::Stream, guest: Guest, from: Source) {
        let asked = Arc::new(AtomicBool::new(false));
        let service = TowerToHyperService::new(Entrance {
            routes: warp::service(self.routes.clone()),
            guest,
            from,
            listener: self.name,
            passes: self.passes,
            app: self.app.clone(),
            asked: asked.clone(),
        });
        let http = http_limits();
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = never_asks(&asked) => {
                refused(&self.app.metrics, self.name, "no-request");
                return;
            }
            () = self.app.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(listener = self.name, %error, "a connection ended early");
        }
    }
}

/// What ends a connection from outside. It listens from before the handshake: what is committed before
/// is seen by the first request, what comes after is heard.
struct Cut {
    bans: BanListener,
    revoked: RevocationListener,
}

impl Cut {
    fn before(app: &App) -> Self {
        Self {
            bans: app.bans.listen(),
            revoked: app.bans.listen_revoked(),
        }
    }

    /// Returns the reason once this terminal is banned or this certificate revoked.
    async fn off(self, terminal: Option<TerminalId>, serial: Option<String>) -> &'static str {
        let banned = async {
            match terminal {
                Some(terminal) => self.bans.until_banned(terminal).await,
                None => std::future::pending().await,
            }
        };
        let revoked = async {
            match serial {
                Some(serial) => self.revoked.until_revoked(&serial).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = banned => "banned",
            () = revoked => "revoked",
        }
    }
}

/// Returns when no request came in time. hyper waits for ever for the first bytes, which tell HTTP/1
/// from 2, and for an HTTP/2 preface: whoever sends nothing would keep a place of the listener.
async fn never_asks(asked: &AtomicBool) {
    tokio::time::sleep(FIRST_REQUEST_TIMEOUT).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn http_limits() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(HEADER_TIMEOUT)
        .keep_alive_timeout(HANDSHAKE_TIMEOUT);
    http
}

/// The first and last stop of every request: identity, request id, span, metrics.
#[derive(Clone)]
struct Entrance<S> {
    routes: S,
    guest: Guest,
    from: Source,
    listener: &'static str,
    passes: Passes,
    app: Arc<App>,
    /// Whether this connection has brought a request.
    asked: Arc<AtomicBool>,
}

impl<S> Service<http::Request<Incoming>> for Entrance<S>
where
    S: Service<http::Request<Lent>, Response = Response, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        self.routes.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        self.asked.store(true, Ordering::Relaxed);
        let (head, body) = request.into_parts();
        let (body, owner) = lend(body);
        let mut request = http::Request::from_parts(head, body);
        request.extensions_mut().insert(self.from);
        if let Some(certificate) = &self.guest.0 {
            request.extensions_mut().insert(certificate.clone());
        }
        let id = request_id();
        let span = request_span(self.listener, &id, request.method().as_str());
        if let Some(terminal) = self.guest.terminal() {
            span.record("terminal", tracing::field::display(terminal));
        }
        let watch = Stopwatch::start();
        let shown = self.shown(&request);
        let passes = (self.passes)(request.uri().path());
        let mut routes = self.routes.clone();
        let (listener, app) = (self.listener, self.app.clone());
        let answer = async move {
            if let Some((by, checkpoint)) = shown {
                look_at(&app, &by, &checkpoint).await;
            }
            let mut response = match refusal(&app).filter(|_| !passes) {
                Some(refusal) => {
                    // Its body goes back to the owner, who reads the rest.
                    drop(request);
                    problem::response(&refusal)
                }
                // warp reads the request while `call` runs, and here that is inside the span.
                None => routes.call(request).await?,
            };
            observe(&app, listener, &response, watch);
            owner.read_the_rest().await;
            if let Ok(value) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}

/// Why nothing is served at the moment.
fn refusal(app: &App) -> Option<Problem> {
    app.fence.problem().or_else(|| neighbours::problem(app))
}

impl<S> Entrance<S> {
    /// The checkpoint that a terminal shows when it begins to listen. Before the routes, because a
    /// restored database may know neither the terminal nor its certificate.
    fn shown<B>(&self, request: &http::Request<B>) -> Option<(String, String)> {
        let by = self.guest.name()?;
        let header = request.headers().get(CHECKPOINT_HEADER)?;
        let is_events = request.uri().path() == EVENTS_PATH;
        is_events.then_some((by, header.to_str().ok()?.to_owned()))
    }
}

async fn look_at(app: &App, by: &str, checkpoint: &str) {
    if let Err(error) = fence::look_at(app, by, checkpoint).await {
        tracing::warn!(%error, by, "a checkpoint could not be compared");
    }
}

/// 16 hex digits: enough to find one request in a day of logs.
fn request_id() -> String {
    format!("{:016x}", u64::from_be_bytes(ids::random()))
}

fn observe(app: &App, listener: &str, response: &Response, watch: Stopwatch) {
    let route = response
        .extensions()
        .get::<RouteName>()
        .map_or("refused", |name| name.0);
    let status = response.status();
    let (requests, seconds) = (&app.metrics.http_requests, &app.metrics.http_seconds);
    requests
        .with_label_values(&[listener, route, status.as_str()])
        .inc();
    seconds
        .with_label_values(&[listener, route])
        .observe(watch.seconds());
    tracing::info!(route, status = status.as_u16(), "answered");
}

impl Transport for Plain {
    type Stream = TcpStream;

    async fn open(&self, socket: TcpStream) -> std::io::Result<(TcpStream, Guest)> {
        Ok((socket, Guest::default()))
    }
}

impl Transport for PublicTls {
    type Stream = TlsStream;

    async fn open(&self, socket: TcpStream) -> std::io::Result<(Self::Stream, Guest)> {
        Ok((shake(&self.0.config(), socket).await?, Guest::default()))
    }
}

impl Transport for PrivateTls {
    type Stream = TlsStream;

    async fn open(&self, socket: TcpStream) -> std::io::Result<(Self::Stream, Guest)> {
        let stream = shake(&self.shows.config(), socket).await?;
        let guest = tls::guest_of(stream.get_ref().1, &self.domain);
        Ok((stream, guest))
    }
}

/// The handshake. When it fails, the alert says why; closing at once would take it back from a client
/// that is still sending (a reset discards what was not read), so its last words are heard first.
async fn shake(config: &Arc<ServerConfig>, socket: TcpStream) -> std::io::Result<TlsStream> {
    let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
    match acceptor.accept(socket).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, mut socket)) => {
            // Whatever happens to the rest, the handshake has failed with `error`.
            let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, last_words(&mut socket)).await;
            Err(error)
        }
    }
}

async fn last_words(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.shutdown().await?;
    tokio::io::copy(&mut socket.take(LAST_WORDS_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}
