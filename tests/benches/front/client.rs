//! Who connects: a fleet in one process, with nothing for each terminal but its TLS session.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use harness::Failure;
use harness::load::stopwatch::wall;
use protocol::ids::TerminalId;
use protocol::window::EpochClock;
use reader_agent::backoff::Backoff;
use reader_agent::identity::disk::IdentityFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{ASKING, HANDSHAKING, SPAN};

/// As long as an agent waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A fleet that is not up by then does not come up.
const STORM_MAX: Duration = Duration::from_secs(300);
/// From the last connection to the look at the server's memory.
const SETTLE: Duration = Duration::from_secs(3);
/// `schedule.horizon_epochs`, as it comes.
const HORIZON_EPOCHS: u32 = 24;
/// Connections from one address, of the ports that the kernel hands out.
const PER_ADDRESS: usize = 10_000;

/// What is asked over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// nginx's `return 200`.
    Root,
    /// What a request for a certificate must be like: nobody is looked up, and the answer is about as short.
    Csrattrs,
    /// The keys, for a terminal that is looked up.
    Keys,
    /// The push stream; its first state is the answer.
    Events,
    /// A schedule of the one hour that an agent, which renews each hour, does not have yet.
    Schedule,
}

/// Terminals with certificates of their own.
pub(crate) struct Clients(Vec<Client>);

#[derive(Clone)]
struct Client {
    terminal: TerminalId,
    config: Arc<ClientConfig>,
}

/// How a fleet came back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storm {
    pub(crate) all_up_s: f64,
    /// Half of them were up by then.
    pub(crate) half_up_s: f64,
    pub(crate) failed: usize,
}

type Line = TlsStream<TcpStream>;

impl Request {
    fn bytes(self, terminal: TerminalId) -> Cow<'static, [u8]> {
        let bytes: &[u8] = match self {
            Self::Schedule => return Cow::Owned(next_epoch(terminal).into_bytes()),
            Self::Root => b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
            Self::Csrattrs => b"GET /.well-known/est/csrattrs HTTP/1.1\r\nhost: localhost\r\n\r\n",
            Self::Keys => b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: localhost\r\n\r\n",
            Self::Events => {
                b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n"
            }
        };
        Cow::Borrowed(bytes)
    }

    /// Whether every answer is as long as the first.
    fn is_of_one_length(self) -> bool {
        self != Self::Schedule
    }
}

/// Asks for what lies between this hour's horizon and the next one's.
fn next_epoch(terminal: TerminalId) -> String {
    let present = EpochClock::of(terminal).epoch_at(wall());
    let after = present + HORIZON_EPOCHS - 1;
    format!("GET /v1/schedule?after={after} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

impl Clients {
    /// Of the enrolments in these folders.
    pub(crate) fn load(places: &[PathBuf], root: &Path) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(root).map_err(Failure::of("root"))? {
            let certificate = certificate.map_err(Failure::of("root"))?;
            roots.add(certificate).map_err(Failure::of("root"))?;
        }
        let roots = Arc::new(roots);
        let load = |place: &PathBuf| Client::load(place, &roots);
        Ok(Self(places.iter().map(load).collect::<Result<_, _>>()?))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Connects, shakes hands, asks perhaps, and hangs up, again and again; answers how often.
    pub(crate) async fn shake_hands(
        &self,
        port: u16,
        asks: Option<Request>,
    ) -> Result<u64, Failure> {
        let began = Instant::now();
        let hands = (0..HANDSHAKING).map(|number| async move {
            let mut done = 0;
            while began.elapsed() < SPAN {
                let mut line = self.connect(number, port).await?;
                if let Some(asks) = asks {
                    ask_once(&mut line, &self.asks(number, asks)).await?;
                }
                hang_up(line).await;
                done += 1;
            }
            Ok::<u64, Failure>(done)
        });
        let done = futures_util::future::try_join_all(hands).await?;
        Ok(done.iter().sum())
    }

    /// Asks over connections that are kept; answers how often.
    pub(crate) async fn ask(&self, port: u16, request: Request) -> Result<u64, Failure> {
        let lines = (0..ASKING).map(|number| async move {
            let line = self.connect(number, port).await?;
            Ok::<_, Failure>((self.asks(number, request), line))
        });
        let lines = futures_util::future::try_join_all(lines).await?;
        let began = Instant::now();
        let asking = lines.into_iter().map(|(asks, mut line)| async move {
            let mut answer = vec![0; ask_once(&mut line, &asks).await?];
            let mut done = 1;
            while began.elapsed() < SPAN {
                match request.is_of_one_length() {
                    true => {
                        say(&mut line, &asks).await?;
                        line.read_exact(&mut answer).await?;
                    }
                    false => drop(ask_once(&mut line, &asks).await?),
                }
                done += 1;
            }
            Ok::<u64, Failure>(done)
        });
        let done = futures_util::future::try_join_all(asking).await?;
        Ok(done.iter().sum())
    }

    /// Connects everybody, a few at a time, and has each ask once.
    pub(crate) async fn connect_all(
        &self,
        port: u16,
        first: Request,
    ) -> Result<Vec<Line>, Failure> {
        let lines = stream::iter(0..self.count()).map(|number| async move {
            let mut line = self.connect(number, port).await?;
            ask_once(&mut line, &self.asks(number, first)).await?;
            Ok::<_, Failure>(line)
        });
        lines.buffer_unordered(HANDSHAKING).try_collect().await
    }

    /// Connects everybody at one moment; whoever fails comes back as an agent does.
    pub(crate) async fn all_at_once(&self, port: u16) -> Result<Storm, Failure> {
        let (began, failed) = (Instant::now(), Arc::new(AtomicUsize::default()));
        let mut fleet = JoinSet::new();
        for number in 0..self.count() {
            let (client, failed) = (self.client(number), failed.clone());
            fleet.spawn(async move {
                let mut backoff = Backoff::default();
                loop {
                    match listen(&client, number, port).await {
                        Ok(line) => return (line, began.elapsed()),
                        Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                    };
                    tokio::time::sleep(backoff.pause()).await;
                }
            });
        }
        let mut up = Vec::new();
        let all = async {
            while let Some(listens) = fleet.join_next().await {
                up.extend(listens.ok());
            }
        };
        let came = tokio::time::timeout(STORM_MAX, all).await;
        came.map_err(|_| Failure::new("the fleet did not come back"))?;
        let mut after: Vec<f64> = up.iter().map(|(_, after)| after.as_secs_f64()).collect();
        after.sort_by(f64::total_cmp);
        Ok(Storm {
            all_up_s: after.last().copied().unwrap_or_default(),
            half_up_s: after.get(after.len() / 2).copied().unwrap_or_default(),
            failed: failed.load(Ordering::Relaxed),
        })
    }

    async fn connect(&self, number: usize, port: u16) -> Result<Line, Failure> {
        let client = self.client(number);
        let line = connect(&client.config, number, port).await;
        line.map_err(Failure::of("a connection"))
    }

    fn asks(&self, number: usize, request: Request) -> Asks {
        Asks::of(self.client(number).terminal, request)
    }

    fn client(&self, number: usize) -> Client {
        self.0[number % self.0.len()].clone()
    }
}

/// Until the server has freed what it frees after a handshake.
pub(crate) async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

impl Client {
    fn load(place: &Path, roots: &Arc<RootCertStore>) -> Result<Self, Failure> {
        // The same look at the files that an agent has.
        let found = IdentityFiles::in_dir(place).load();
        let found = found.map_err(Failure::of(place.display()))?;
        let (chain, key) = read(place).map_err(Failure::of(place.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Failure::of("TLS"))?
            .with_root_certificates(roots.clone());
        let config = builder.with_client_auth_cert(chain, key);
        let mut config = config.map_err(Failure::of(place.display()))?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            terminal: found.current.terminal(),
            config: Arc::new(config),
        })
    }
}

/// A request, and what is sent for it.
struct Asks {
    request: Request,
    bytes: Cow<'static, [u8]>,
}

impl Asks {
    fn of(terminal: TerminalId, request: Request) -> Self {
        let bytes = request.bytes(terminal);
        Self { request, bytes }
    }
}

fn read(
    place: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rustls::pki_types::pem::Error> {
    let chain = CertificateDer::pem_file_iter(place.join("agent.pem"))?;
    let key = PrivateKeyDer::from_pem_file(place.join("agent.key"))?;
    Ok((chain.collect::<Result<_, _>>()?, key))
}

async fn connect(config: &Arc<ClientConfig>, number: usize, port: u16) -> std::io::Result<Line> {
    let socket = TcpSocket::new_v4()?;
    // More addresses than one, because each has so many ports only.
    let from = [127, 0, 1, 1 + (number / PER_ADDRESS) as u8];
    socket.set_reuseaddr(true)?;
    socket.bind((from, 0).into())?;
    let socket = socket.connect(([127, 0, 0, 1], port).into()).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    TlsConnector::from(config.clone())
        .connect(name, socket)
        .await
}

async fn listen(client: &Client, number: usize, port: u16) -> std::io::Result<Line> {
    let line = connect(&client.config, number, port);
    let mut line = tokio::time::timeout(CONNECT_TIMEOUT, line).await??;
    ask_once(&mut line, &Asks::of(client.terminal, Request::Events)).await?;
    Ok(line)
}

/// Returns once it is sent. What TLS has taken may stay with it, and where many ask in one task it does: the runtime
/// makes a task pause that has done so much at a stretch, and then nobody but a flush goes on.
async fn say(line: &mut Line, asks: &Asks) -> std::io::Result<()> {
    line.write_all(&asks.bytes).await?;
    line.flush().await
}

/// Asks, and reads the answer, or the first frame of a stream; its length.
async fn ask_once(line: &mut Line, asks: &Asks) -> std::io::Result<usize> {
    say(line, asks).await?;
    let mut answer = Vec::with_capacity(4_096);
    loop {
        if line.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if is_whole(&answer, asks.request)? {
            return Ok(answer.len());
        }
    }
}

fn is_whole(answer: &[u8], request: Request) -> std::io::Result<bool> {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Ok(false);
    };
    if !head.starts_with("HTTP/1.1 200") {
        return Err(std::io::Error::other(head.to_owned()));
    }
    if request == Request::Events {
        return Ok(body.contains("\n\n"));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.parse::<usize>().ok()).flatten()
    });
    let missing = || std::io::Error::other("an answer without a length");
    Ok(body.len() >= length.ok_or_else(missing)?)
}

/// In order, so that the server has done its part of the handshake.
async fn hang_up(mut line: Line) {
    // It may close first.
    let _ = line.shutdown().await;
    let _ = line.read(&mut [0; 64]).await;
}
