//! How does an authority ask a signer that may be restarted at any time?
//!
//! ```text
//!  issue() ─▶ queue ─▶ one task: numbers, writes, matches answers ◀═══socket═══▶ signer
//!                        │ every few seconds, and when the signer's revision rises: look
//!                        ▼
//!                      issuing CAs and health, as they were last seen: chain(), health() never wait
//! ```
//! While the signer is away a question fails at once, and the next one tries the socket again. What a
//! connection had under way when it broke is answered "try later": whether it was signed stands in the
//! signer's log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::wire::{self, AdminAsk, Answer, Answered, Ask, Asked, BadFrame, Looked, PIPELINE_MAX};
use super::{AdminAnswer, SignerError};
use crate::certificate::Certificate;
use crate::chain::{Chain, certificates_from_pem};
use crate::crl::{CrlRequest, SignedCrl};
use crate::error::PkiError;
use crate::files::{self, Replace};
use crate::issuer::{IssueRequest, IssuedCertificate, Issuer, IssuerHealth, IssuingCa};
use crate::lifecycle::KeyState;
use crate::names::TrustDomain;

/// How often the signer is looked at; an answer that is not there at the next look ends the connection.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for an administrator's step: an HSM makes a key, a long log is read.
const ADMIN_DEADLINE: Duration = Duration::from_secs(120);

/// Where the signer is, and how patient its client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    pub socket: PathBuf,
    /// From a question to its answer.
    pub deadline: Duration,
    /// Most questions that wait for their turn.
    pub queue_max: usize,
    pub domain: TrustDomain,
    /// PEM of the issuing certificates as last seen, the active one first: what is shown until the
    /// signer answers. Kept up to date.
    pub known: PathBuf,
    /// The roots that those may hang on.
    pub roots: Vec<Certificate>,
}

/// An [`Issuer`] in another process.
pub struct SignerClient {
    jobs: mpsc::Sender<Job>,
    seen: Arc<Seen>,
    options: ClientOptions,
}

struct Job {
    ask: Ask,
    answer: oneshot::Sender<Result<Answer, PkiError>>,
}

struct Seen {
    now: RwLock<View>,
    known: PathBuf,
}

#[derive(Clone)]
struct View {
    revision: u64,
    cas: Vec<IssuingCa>,
    health: IssuerHealth,
    chain: Chain,
}

impl SignerClient {
    /// Returns once the signer has answered. Without an answer, only if the issuing certificates are
    /// known from before. Needs a tokio runtime.
    pub async fn open(options: ClientOptions) -> Result<Self, PkiError> {
        let looked = look_once(&options).await;
        let view = match looked {
            Ok(view) => view,
            Err(
                error @ PkiError::Signer(SignerError::Absent { .. } | SignerError::NoWay { .. }),
            ) => from_file(&options, &error)?.ok_or(error)?,
            Err(error) => return Err(error),
        };
        let seen = Arc::new(Seen {
            now: RwLock::new(view),
            known: options.known.clone(),
        });
        seen.keep();
        let (jobs, queue) = mpsc::channel(options.queue_max);
        let conversation = Conversation {
            socket: options.socket.clone(),
            domain: options.domain.clone(),
            seen: seen.clone(),
            queue,
        };
        tokio::spawn(conversation.run());
        Ok(Self {
            jobs,
            seen,
            options,
        })
    }

    /// Asks for issuing CAs and health now, and returns when they are seen.
    pub async fn refresh(&self) -> Result<(), PkiError> {
        self.ask(Ask::Look).await.map(drop)
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, PkiError> {
        let (answer, answered) = oneshot::channel();
        let job = Job { ask, answer };
        self.jobs.try_send(job).map_err(|_| SignerError::Busy)?;
        let absent = |detail: &str| absent(&self.options.socket, detail);
        match timeout(self.options.deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(absent("the connection broke").into()),
            Err(_) => Err(absent("no answer within the deadline").into()),
        }
    }
}

#[async_trait]
impl Issuer for SignerClient {
    async fn issue(&self, request: IssueRequest) -> Result<IssuedCertificate, PkiError> {
        let asked_for = request.csr.spki_sha256();
        match self.ask(Ask::issue(&request)).await? {
            Answer::Issued { certificate } => {
                let certificate = Certificate::from_der(&certificate.0)?;
                if certificate.spki_sha256() != asked_for {
                    return Err(unexpected("a certificate of another key").into());
                }
                Ok(certificate.into())
            }
            other => Err(unexpected(&format!("{other:?}")).into()),
        }
    }

    async fn sign_crl(&self, request: CrlRequest) -> Result<SignedCrl, PkiError> {
        match self.ask(Ask::crl(request)).await? {
            Answer::Crl { der, number } => Ok(SignedCrl { der: der.0, number }),
            other => Err(unexpected(&format!("{other:?}")).into()),
        }
    }

    fn chain(&self) -> Chain {
        self.seen.view().chain
    }

    fn issuing_cas(&self) -> Vec<IssuingCa> {
        self.seen.view().cas
    }

    fn health(&self) -> IssuerHealth {
        self.seen.view().health
    }

    fn trust_domain(&self) -> &TrustDomain {
        &self.options.domain
    }
}

impl Seen {
    fn view(&self) -> View {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.now.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_down(&self, why: &str) {
        self.change(|view| view.health = IssuerHealth::Down(why.into()));
    }

    fn take(&self, looked: &Looked, revision: u64, domain: &TrustDomain) -> Result<(), PkiError> {
        let (before, fresh) = (self.view(), read(looked, domain)?);
        let chain = match fresh.active() {
            Some(chain) => chain,
            // None is active: the certificates of the last one are still out there.
            None => before.chain,
        };
        let changed = before.cas != fresh.cas;
        self.change(|view| {
            *view = View {
                revision,
                cas: fresh.cas,
                health: fresh.health,
                chain,
            };
        });
        if changed {
            self.keep();
        }
        Ok(())
    }

    /// For a start without the signer. Without it such a start is refused, and nothing else is lost.
    fn keep(&self) {
        let believed = |ca: &&IssuingCa| ca.state.is_believed() && ca.state != KeyState::Prepared;
        let view = self.view();
        let pem: String = view
            .cas
            .iter()
            .filter(believed)
            .map(|ca| ca.chain.issuing().pem())
            .collect();
        let same = || files::read_public(&self.known).is_ok_and(|old| old == pem.as_bytes());
        if pem.is_empty() || same() {
            return;
        }
        if let Err(error) = files::write_public(&self.known, pem.as_bytes(), Replace::Yes) {
            tracing::warn!(%error, "the issuing certificates are not kept for the next start");
        }
    }
}

struct Fresh {
    cas: Vec<IssuingCa>,
    health: IssuerHealth,
}

impl Fresh {
    fn active(&self) -> Option<Chain> {
        let active = self.cas.iter().find(|ca| ca.state == KeyState::Active);
        active.map(|ca| ca.chain.clone())
    }
}

fn read(looked: &Looked, own: &TrustDomain) -> Result<Fresh, PkiError> {
    if looked.wire != wire::VERSION {
        return Err(unexpected(&format!("it speaks version {}", looked.wire)).into());
    }
    if looked.trust_domain != own.as_str() {
        return Err(SignerError::OtherDomain {
            signer: looked.trust_domain.clone(),
            own: own.to_string(),
        }
        .into());
    }
    let cas = looked.cas.iter().map(wire::Ca::read);
    Ok(Fresh {
        cas: cas.collect::<Result<_, _>>()?,
        health: looked.health.clone().into(),
    })
}

/// One question on a connection of its own.
async fn look_once(options: &ClientOptions) -> Result<View, PkiError> {
    let answered = once::<Ask, Answer>(&options.socket, Ask::Look, options.deadline).await?;
    let revision = answered.revision;
    match answered.answer? {
        Answer::Looked(looked) => {
            let fresh = read(&looked, &options.domain)?;
            let chain = match fresh.active() {
                Some(chain) => chain,
                None => first_known(options)?.ok_or(SignerError::NoneActive)?,
            };
            Ok(View {
                revision,
                cas: fresh.cas,
                health: fresh.health,
                chain,
            })
        }
        other => Err(unexpected(&format!("{other:?}")).into()),
    }
}

fn first_known(options: &ClientOptions) -> Result<Option<Chain>, PkiError> {
    Ok(known(options)?.into_iter().next())
}

fn from_file(options: &ClientOptions, error: &PkiError) -> Result<Option<View>, PkiError> {
    let mut chains = known(options)?.into_iter();
    let Some(chain) = chains.next() else {
        return Ok(None);
    };
    let ca = |chain, state| IssuingCa { chain, state };
    let others = chains.map(|chain| ca(chain, KeyState::Superseded));
    let active = ca(chain.clone(), KeyState::Active);
    Ok(Some(View {
        revision: 0,
        cas: std::iter::once(active).chain(others).collect(),
        health: IssuerHealth::Down(error.to_string()),
        chain,
    }))
}

/// The chains that can be built from what is on disk; none if nothing is.
fn known(options: &ClientOptions) -> Result<Vec<Chain>, PkiError> {
    if !options.known.exists() {
        return Ok(Vec::new());
    }
    let issuing = certificates(&options.known)?;
    let chain = |issuing: Certificate| {
        let mut roots = options.roots.iter().cloned();
        roots.find_map(|root| Chain::new(issuing.clone(), root).ok())
    };
    Ok(issuing.into_iter().filter_map(chain).collect())
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, PkiError> {
    let bytes = files::read_public(path)?;
    Ok(certificates_from_pem(&String::from_utf8_lossy(&bytes))?)
}

/// The one task that talks to the signer.
struct Conversation {
    socket: PathBuf,
    domain: TrustDomain,
    seen: Arc<Seen>,
    queue: mpsc::Receiver<Job>,
}

enum Waiting {
    Asker(oneshot::Sender<Result<Answer, PkiError>>),
    /// A look of our own.
    Nobody,
}

impl Conversation {
    async fn run(mut self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                job = self.queue.recv() => match job {
                    Some(job) => Some(job),
                    None => return,
                },
                _ = ticks.tick() => None,
            };
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => {
                    let error = match self.converse(stream, first).await {
                        Ok(()) => return,
                        Err(error) => error,
                    };
                    tracing::warn!(%error, "the connection to the signer ended");
                    self.seen.is_down(&error.to_string());
                }
                Err(error) => {
                    let error = no_connection(&self.socket, &error);
                    self.seen.is_down(&error.to_string());
                    if let Some(job) = first {
                        // Whoever asked may have gone.
                        let _ = job.answer.send(Err(error.into()));
                    }
                }
            }
        }
    }

    /// Until the connection breaks (why), or nobody is left who could ask.
    async fn converse(&mut self, stream: UnixStream, first: Option<Job>) -> Result<(), PkiError> {
        let (read, mut write) = stream.into_split();
        let (answers, mut incoming) = mpsc::channel(PIPELINE_MAX);
        let reader = Reader(tokio::spawn(read_all(read, answers)));
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = Open::default();
        if let Some(job) = first {
            open.ask(&mut write, job.ask, Waiting::Asker(job.answer))
                .await?;
        }
        loop {
            tokio::select! {
                job = self.queue.recv(), if open.has_place() => match job {
                    Some(job) => open.ask(&mut write, job.ask, Waiting::Asker(job.answer)).await?,
                    None => { drop(reader); return Ok(()) },
                },
                answered = incoming.recv() => match answered {
                    Some(Ok(answered)) => self.answered(answered, &mut open)?,
                    Some(Err(error)) => return Err(unexpected(&error.to_string()).into()),
                    None => return Err(absent(&self.socket, "it ended the connection").into()),
                },
                _ = ticks.tick() => open.wants_look = true,
            }
            if open.wants_look {
                open.look(&mut write, &self.socket).await?;
            }
        }
    }

    fn answered(&self, answered: Answered<Answer>, open: &mut Open) -> Result<(), PkiError> {
        let Answered {
            id,
            revision,
            answer,
        } = answered;
        if id == 0 {
            // The whole connection is refused.
            return match answer {
                Err(refusal) => Err(refusal.into()),
                Ok(_) => Err(unexpected("an answer to no question").into()),
            };
        }
        if let Ok(Answer::Looked(looked)) = &answer {
            self.seen.take(looked, revision, &self.domain)?;
        }
        match open.waiting.remove(&id) {
            Some(Waiting::Nobody) => open.looking = false,
            Some(Waiting::Asker(asker)) => open.held.push(Held {
                revision,
                answer: answer.map_err(PkiError::from),
                asker,
            }),
            None => return Err(unexpected("an answer to no question").into()),
        }
        let seen = self.seen.view().revision;
        open.hand_out(seen);
        let unseen = revision != seen || !open.held.is_empty();
        open.wants_look = unseen && !open.looking;
        Ok(())
    }
}

/// What one connection has under way.
#[derive(Default)]
struct Open {
    last_id: u64,
    waiting: HashMap<u64, Waiting>,
    held: Vec<Held>,
    looking: bool,
    wants_look: bool,
}

/// An answer, until the issuing CAs that it may come from were seen: whoever is handed a certificate
/// finds the chain above it.
struct Held {
    revision: u64,
    answer: Result<Answer, PkiError>,
    asker: oneshot::Sender<Result<Answer, PkiError>>,
}

impl Open {
    /// One place is kept for looks.
    fn has_place(&self) -> bool {
        self.waiting.len() + self.held.len() < PIPELINE_MAX - 1
    }

    /// What is not newer than what was seen.
    fn hand_out(&mut self, seen: u64) {
        let ready = self.held.extract_if(.., |held| held.revision <= seen);
        for Held { answer, asker, .. } in ready {
            // Whoever asked may have gone.
            let _ = asker.send(answer);
        }
    }

    async fn ask(
        &mut self,
        write: &mut OwnedWriteHalf,
        ask: Ask,
        waiting: Waiting,
    ) -> Result<(), PkiError> {
        self.last_id += 1;
        let id = self.last_id;
        let frame = wire::frame(&Asked { id, ask }).map_err(PkiError::bug)?;
        self.waiting.insert(id, waiting);
        let written = wire::write(write, &frame).await;
        written.map_err(|error| unexpected(&error.to_string()).into())
    }

    async fn look(&mut self, write: &mut OwnedWriteHalf, socket: &Path) -> Result<(), PkiError> {
        self.wants_look = false;
        if self.looking {
            return Err(absent(socket, "it does not answer").into());
        }
        self.looking = true;
        self.ask(write, Ask::Look, Waiting::Nobody).await
    }
}

/// Ends with the connection it reads.
struct Reader(tokio::task::JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read_all(
    mut read: OwnedReadHalf,
    answers: mpsc::Sender<Result<Answered<Answer>, BadFrame>>,
) {
    loop {
        let outcome = match wire::read(&mut read).await {
            Ok(Some(answered)) => Ok(answered),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let ended = outcome.is_err();
        if answers.send(outcome).await.is_err() || ended {
            return;
        }
    }
}

/// One question of an administrator to the signer behind this socket.
pub async fn ask_admin(socket: &Path, ask: AdminAsk) -> Result<AdminAnswer, PkiError> {
    let answered = once(socket, ask, ADMIN_DEADLINE).await?;
    Ok(answered.answer?)
}

async fn once<A: serde::Serialize, T: serde::de::DeserializeOwned>(
    socket: &Path,
    ask: A,
    deadline: Duration,
) -> Result<Answered<T>, PkiError> {
    let gone = |error: std::io::Error| no_connection(socket, &error);
    let talk = async {
        let mut stream = UnixStream::connect(socket).await.map_err(gone)?;
        let frame = wire::frame(&Asked { id: 1, ask }).map_err(PkiError::bug)?;
        // A connection that is refused may end before it is written to; its answer says why.
        let written = wire::write(&mut stream, &frame).await;
        match wire::read(&mut stream).await {
            Ok(Some(answered)) => Ok(answered),
            Ok(None) => Err(absent(socket, "it ended the connection").into()),
            Err(error) => Err(match written {
                Ok(()) => unexpected(&error.to_string()).into(),
                Err(error) => absent(socket, &error.to_string()).into(),
            }),
        }
    };
    let late = |_| absent(socket, "no answer within the deadline");
    timeout(deadline, talk).await.map_err(late)?
}

/// Who is not let through does not know whether anybody answers there.
fn no_connection(socket: &Path, error: &std::io::Error) -> SignerError {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => SignerError::NoWay {
            socket: socket.into(),
        },
        _ => absent(socket, &error.to_string()),
    }
}

fn absent(socket: &Path, detail: &str) -> SignerError {
    SignerError::Absent {
        socket: socket.into(),
        detail: detail.into(),
    }
}

fn unexpected(detail: &str) -> SignerError {
    SignerError::NotUnderstood {
        detail: detail.into(),
    }
}
