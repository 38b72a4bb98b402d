//! What happens on one connection?

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use pki::{Peer, SpiffeId};
use protocol::ids::TerminalId;
use protocol::problem::Problem;
use protocol::time::Timestamp;
use protocol::wire::push::EVENTS_PATH;
use protocol::wire::upkeep::CHECKPOINT_HEADER;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;
use tracing::Instrument;
use warp::reply::Response;

use super::places::{Leave, Place};
use super::rest::lend;
use super::stream::{self, End, Given, Handover};
use super::turns::{Outcome, Turns};
use super::watched::{Seen, Watched};
use super::{
    HANDSHAKE_TIMEOUT, HEADER_MAX, HEADER_TIMEOUT, Passes, Plain, PrivateTls, PublicTls,
    STREAMS_MAX, Transport, hello, refused, tls, wire,
};
use crate::app::App;
use crate::clock::{Stopwatch, unix_seconds};
use crate::http::extract::PeerCertificate;
use crate::http::{RouteName, Table, events, problem};
use crate::ids;
use crate::logging::request_span;
use crate::services::sources::Source;
use crate::services::{fence, neighbours};

const REQUEST_ID: &str = "x-request-id";
/// How long, and how much, a client may go on after its handshake failed.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
const LAST_WORDS_MAX: u64 = 64 * 1024;

/// A stranger's place went to somebody else.
const GAVE_WAY: &str = "gave-way";

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Who is at the other end, as far as the transport can tell.
#[derive(Debug, Clone, Default)]
pub struct Guest {
    certificate: Option<PeerCertificate>,
    /// It was agreed that this connection speaks HTTP/1.1 and nothing else.
    http1: bool,
}

impl Guest {
    pub(super) fn with(certificate: Option<PeerCertificate>) -> Self {
        Self {
            certificate,
            http1: false,
        }
    }

    /// Over TLS, HTTP/2 is agreed upon in the handshake or not spoken (RFC 9113, 3.2).
    fn speaking(self, protocol: Option<&[u8]>) -> Self {
        Self {
            http1: protocol != Some(b"h2"),
            ..self
        }
    }

    fn peer(&self) -> Option<&Peer> {
        self.certificate.as_ref()?.read.as_ref().as_ref().ok()
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

    /// Whether a certificate of ours was shown that has not ended.
    fn is_known(&self, now: Timestamp) -> bool {
        self.peer()
            .is_some_and(|peer| peer.not_after > unix_seconds(now))
    }
}

/// What every connection of one listener shares.
pub(super) struct Door<T> {
    pub(super) transport: T,
    pub(super) routes: Table,
    pub(super) name: &'static str,
    pub(super) passes: Passes,
    pub(super) app: Arc<App>,
    pub(super) turns: Turns,
}

impl<T: Transport> Door<T> {
    pub(super) async fn serve(
        &self,
        socket: TcpStream,
        from: Source,
        (mut place, mut leave): (Place, Leave),
    ) {
        let opened = tokio::select! {
            opened = Box::pin(self.open(socket, from, &mut place)) => opened,
            () = leave.told() => return self.cut(GAVE_WAY),
        };
        let Some((stream, guest)) = opened else {
            return;
        };
        if guest.is_known(self.app.clock.now()) {
            if !place.is_known() {
                return self.cut(GAVE_WAY);
            }
            leave = Leave::never();
        }
        let open = self
            .app
            .metrics
            .connections_open
            .with_label_values(&[self.name]);
        open.inc();
        // Before the first request: what is committed before is seen by it, what comes after is heard.
        let cut = self
            .app
            .bans
            .watch(guest.terminal(), guest.serial().as_deref());
        // A ban or a revocation cuts what is open: dropping the connection ends its streams too.
        tokio::select! {
            () = self.answer(stream, guest, from) => {}
            why = cut.until_cut() => self.cut(why),
            () = leave.told() => self.cut(GAVE_WAY),
        }
        open.dec();
    }

    /// Each stage is in a place of its own, so that the task of a connection that only listens holds no
    /// more than that takes.
    async fn answer(&self, stream: T::Stream, guest: Guest, from: Source) {
        if let Some((stream, given)) = Box::pin(self.talk(stream, guest, from)).await {
            Box::pin(self.stream(stream, given)).await;
        }
    }

    async fn stream(&self, stream: T::Stream, given: Given) {
        match stream::run(stream, given).await {
            End::Over | End::Gone => {}
            End::Slow => self.cut("slow-reader"),
            End::Talks => self.cut("talks-on-stream"),
        }
    }

    async fn open(
        &self,
        socket: TcpStream,
        from: Source,
        place: &mut Place,
    ) -> Option<(T::Stream, Guest)> {
        wire::prepare(&socket);
        let opened = timeout(HANDSHAKE_TIMEOUT, self.open_in_turn(socket, from, place)).await;
        match opened {
            Ok(Some(Ok(opened))) => return Some(opened),
            Ok(Some(Err(error))) => {
                tracing::info!(listener = self.name, %error, "a handshake failed");
                self.cut("handshake");
            }
            Ok(None) => self.cut("no-turn"),
            Err(_) => self.cut("handshake-timeout"),
        }
        None
    }

    /// None if its turn did not come.
    async fn open_in_turn(
        &self,
        socket: TcpStream,
        from: Source,
        place: &mut Place,
    ) -> Option<std::io::Result<(T::Stream, Guest)>> {
        if !T::SHAKES {
            return Some(self.transport.open(socket).await);
        }
        // Whoever has not said its whole hello waits outside, and takes nobody's turn.
        if let Err(error) = hello::whole(&socket).await {
            return Some(Err(error));
        }
        let (network, _) = from.widest();
        let place = Mutex::new(place);
        let held = || place.lock().unwrap_or_else(PoisonError::into_inner);
        // It begins with the turn: whoever only waits for one may still be asked to give way.
        let mut handshake = pin!(async {
            held().keep();
            self.transport.open(socket).await
        });
        let outcome = self.turns.take(network, handshake.as_mut()).await;
        held().lend();
        match outcome {
            Outcome::Done(opened) => Some(opened),
            Outcome::Slow => Some(handshake.await),
            Outcome::TurnedAway => None,
        }
    }

    /// Answers requests until the connection ends, or nothing but a stream is left to write.
    async fn talk(
        &self,
        stream: T::Stream,
        guest: Guest,
        from: Source,
    ) -> Option<(T::Stream, Given)> {
        let seen = Seen::new();
        let handover = guest.http1.then(Arc::<Handover>::default);
        let service = TowerToHyperService::new(Entrance {
            routes: self.routes.clone(),
            guest,
            from,
            listener: self.name,
            passes: self.passes,
            app: self.app.clone(),
            seen: seen.clone(),
            handover: handover.clone(),
        });
        let io = TokioIo::new(Watched::new(stream, seen.clone()));
        let ended = match handover {
            Some(handover) => self.talk_http1(io, service, &seen, &handover).await,
            None => {
                let ended = self.talk_either(io, service, &seen).await;
                ended.map(|()| None)
            }
        };
        ended.unwrap_or_else(|error| {
            tracing::debug!(listener = self.name, %error, "a connection ended early");
            None
        })
    }

    async fn talk_http1(
        &self,
        io: TokioIo<Watched<T::Stream>>,
        service: impl Answers,
        seen: &Seen,
        handover: &Handover,
    ) -> Result<Option<(T::Stream, Given)>, Ended> {
        let mut connection = http1().serve_connection(io, service);
        let given = tokio::select! {
            ended = &mut connection => {
                ended?;
                return Ok(None);
            }
            given = handover.taken() => given,
            why = seen.too_slow() => {
                self.cut(why);
                return Ok(None);
            }
            () = self.app.draining() => {
                Pin::new(&mut connection).graceful_shutdown();
                // A stream that was asked for before is given after; nobody else would take it.
                tokio::select! {
                    ended = &mut connection => {
                        ended?;
                        return Ok(None);
                    }
                    given = handover.taken() => given,
                }
            }
        };
        let parts = connection.into_parts();
        match parts.read_buf.is_empty() {
            true => Ok(Some((parts.io.into_inner().into_inner(), given))),
            // As if it had said so a moment later.
            false => {
                self.cut("talks-on-stream");
                Ok(None)
            }
        }
    }

    async fn talk_either(
        &self,
        io: TokioIo<Watched<T::Stream>>,
        service: impl Answers,
        seen: &Seen,
    ) -> Result<(), Ended> {
        let http = either();
        let mut connection = pin!(http.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = seen.never_asks() => {
                self.cut("no-request");
                return Ok(());
            }
            () = self.app.draining() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    fn cut(&self, why: &str) {
        refused(&self.app.metrics, self.name, why);
    }
}

/// How a connection ended that did not end in order.
type Ended = Box<dyn std::error::Error + Send + Sync>;

/// What answers the requests of one connection.
trait Answers:
    hyper::service::Service<
        http::Request<Incoming>,
        Response = Response,
        Error = Infallible,
        Future: Send + 'static,
    > + Send
{
}

impl<S> Answers for S where
    S: hyper::service::Service<
            http::Request<Incoming>,
            Response = Response,
            Error = Infallible,
            Future: Send + 'static,
        > + Send
{
}

fn http1() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_MAX);
    http
}

fn either() -> Builder<TokioExecutor> {
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
struct Entrance {
    routes: Table,
    guest: Guest,
    from: Source,
    listener: &'static str,
    passes: Passes,
    app: Arc<App>,
    seen: Arc<Seen>,
    /// Where an answer goes that is to have the connection for itself; none if others share it.
    handover: Option<Arc<Handover>>,
}

impl Service<http::Request<Incoming>> for Entrance {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        let under_way = UnderWay::begin(&self.seen);
        let (head, body) = request.into_parts();
        let (body, owner) = lend(body);
        let mut request = http::Request::from_parts(head, body);
        request.extensions_mut().insert(self.from);
        if let Some(certificate) = &self.guest.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let id = request_id();
        let span = request_span(self.listener, id.as_str(), request.method().as_str());
        if let Some(terminal) = self.guest.terminal() {
            span.record("terminal", tracing::field::display(terminal));
        }
        let watch = Stopwatch::start();
        let shown = self.shown(&request);
        let passes = (self.passes)(request.uri().path());
        let mut routes = warp::service(self.routes.at(request.uri().path()));
        let (listener, app) = (self.listener, self.app.clone());
        // HTTP/1.0 knows no chunks, and nobody's body is left on the way.
        let whole = request.version() == http::Version::HTTP_11 && request.body().is_end_stream();
        let handover = self.handover.clone().filter(|_| whole);
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
            if let Ok(value) = HeaderValue::from_bytes(&id.0) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            let Some(subscription) = events::taken_from(&mut response) else {
                return Ok(response);
            };
            match handover {
                // Whatever was answered before has left, so nothing is lost with hyper's buffers.
                Some(handover) if !under_way.0.is_stalled() => {
                    let (head, _) = response.into_parts();
                    let at = app.clock.now();
                    handover
                        .give(Given {
                            head,
                            subscription,
                            at,
                        })
                        .await
                }
                _ => Ok(events::with_body(response, subscription)),
            }
        };
        Box::pin(answer.instrument(span))
    }
}

/// A request from its head to its answer.
struct UnderWay(Arc<Seen>);

impl UnderWay {
    fn begin(seen: &Arc<Seen>) -> Self {
        seen.request_begins();
        Self(seen.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

/// Why nothing is served at the moment.
fn refusal(app: &App) -> Option<Problem> {
    app.fence.problem().or_else(|| neighbours::problem(app))
}

impl Entrance {
    /// The checkpoint that a terminal shows when it begins to listen. Before the routes, because a
    /// restored database may know neither the terminal nor its certificate.
    fn shown<B>(&self, request: &http::Request<B>) -> Option<(String, String)> {
        let header = request.headers().get(CHECKPOINT_HEADER)?;
        if request.uri().path() != EVENTS_PATH {
            return None;
        }
        Some((self.guest.name()?, header.to_str().ok()?.to_owned()))
    }
}

async fn look_at(app: &App, by: &str, checkpoint: &str) {
    if let Err(error) = fence::look_at(app, by, checkpoint).await {
        tracing::warn!(%error, by, "a checkpoint could not be compared");
    }
}

/// 16 hex digits: enough to find one request in a day of logs. They tell requests apart and keep no secret, so that
/// they are drawn once, and then counted on by a step that meets each number once (an odd one, of the golden ratio).
fn request_id() -> RequestId {
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(u64::from_be_bytes(ids::random())));
    RequestId::of(NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
}

/// Written without an allocation, because every request has one.
struct RequestId([u8; 16]);

impl RequestId {
    fn of(number: u64) -> Self {
        let digit = |place: usize| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 15];
        Self(std::array::from_fn(digit))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
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
    const SHAKES: bool = false;

    async fn open(&self, socket: TcpStream) -> std::io::Result<(TcpStream, Guest)> {
        Ok((socket, Guest::default()))
    }
}

impl Transport for PublicTls {
    type Stream = TlsStream;
    const SHAKES: bool = true;

    async fn open(&self, socket: TcpStream) -> std::io::Result<(Self::Stream, Guest)> {
        let stream = shake(&self.0.config(), socket).await?;
        let guest = Guest::default().speaking(stream.get_ref().1.alpn_protocol());
        Ok((stream, guest))
    }
}

impl Transport for PrivateTls {
    type Stream = TlsStream;
    const SHAKES: bool = true;

    async fn open(&self, socket: TcpStream) -> std::io::Result<(Self::Stream, Guest)> {
        let stream = shake(&self.shows.config(), socket).await?;
        let tls = stream.get_ref().1;
        let guest = tls::guest_of(tls, &self.domain).speaking(tls.alpn_protocol());
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
            let _ = timeout(LAST_WORDS_TIMEOUT, last_words(&mut socket)).await;
            Err(error)
        }
    }
}

async fn last_words(socket: &mut TcpStream) -> std::io::Result<()> {
    socket.shutdown().await?;
    tokio::io::copy(&mut socket.take(LAST_WORDS_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_by_sixteen_digits() {
        assert_eq!(RequestId::of(0).as_str(), "0000000000000000");
        assert_eq!(
            RequestId::of(0x0123_4567_89ab_cdef).as_str(),
            "0123456789abcdef"
        );
        assert_ne!(request_id().0, request_id().0);
    }
}
