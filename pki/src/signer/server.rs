//! Who may knock at which door of the signer, and how much may one connection ask?

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::room::{Held, Room};
use super::steps::By;
use super::wire::{
    self, AdminAsk, Answer, Answered, Ask, Asked, BadFrame, Bytes, Ca, Looked, PIPELINE_MAX,
    Refusal,
};
use super::{AdminAnswer, Signer, SignerConfig, SignerError};
use crate::crl::CrlRequest;
use crate::error::PkiError;

/// Most connections at one door.
pub const CONNECTIONS_MAX: usize = 16;
/// How long questions that were taken on may still be answered after a stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Pause after an accept that failed, e.g. because no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const PRIVATE_FOLDER: u32 = 0o750;
const OWNER_ONLY: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o660;
const ROOT_UID: u32 = 0;
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The accounts a door lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uids(Vec<u32>);

/// Both sockets, before anything is answered on them.
pub struct Doors {
    authority: Door,
    admin: Door,
}

struct Door {
    listener: UnixListener,
    path: PathBuf,
    uids: Uids,
    places: Arc<Semaphore>,
    room: Room,
}

impl Uids {
    pub fn new(uids: impl Into<Vec<u32>>) -> Self {
        Self(uids.into())
    }

    fn admit(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }
}

impl Doors {
    /// Binds both, with modes and accounts as configured. Whoever holds the lock may remove the sockets
    /// that a signer before left.
    pub fn bind(config: &SignerConfig) -> Result<Self, SignerError> {
        let own = rustix::process::getuid().as_raw();
        // Root may become any account anyway, and works for others on a stopped authority.
        let mut askers = vec![own, ROOT_UID];
        for user in &config.access.users {
            askers.push(number_of(user, PASSWD, "access.users")?);
        }
        let admins = vec![own, ROOT_UID];
        let group = config.access.group.as_deref();
        let group = group.map(|name| number_of(name, GROUP, "access.group"));
        Self::open(config, group.transpose()?, Uids(askers), Uids(admins))
    }

    /// The same for accounts that are known by number.
    pub fn open(
        config: &SignerConfig,
        group: Option<u32>,
        askers: Uids,
        admins: Uids,
    ) -> Result<Self, SignerError> {
        make_folder(&config.run_dir, group)?;
        Ok(Self {
            authority: Door::open(config.socket(), group, askers)?,
            admin: Door::open(config.admin_socket(), None, admins)?,
        })
    }

    /// Answers at both until `stop` is set; then finishes what was asked.
    pub async fn serve(self, signer: Arc<Signer>, stop: watch::Receiver<bool>) {
        let authority = self
            .authority
            .serve::<ForAuthority>(signer.clone(), stop.clone());
        let admin = self.admin.serve::<ForAdmin>(signer, stop);
        tokio::join!(authority, admin);
    }
}

impl Door {
    /// Under a name of its own first: nobody finds it before its mode and group are right.
    fn open(path: PathBuf, group: Option<u32>, uids: Uids) -> Result<Self, SignerError> {
        let fresh = path.with_extension("new");
        let listener = bind(&fresh, group)?;
        std::fs::rename(&fresh, &path).map_err(SignerError::io(&path))?;
        Ok(Self {
            listener,
            path,
            uids,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            room: Room::new(),
        })
    }

    async fn serve<K: Kind>(self, signer: Arc<Signer>, mut stop: watch::Receiver<bool>) {
        let mut open = JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = self.accept() => stream,
                Some(_) = open.join_next(), if !open.is_empty() => continue,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match self.admit(&stream) {
                Ok((uid, place)) => {
                    let (signer, stop) = (signer.clone(), stop.clone());
                    let room = self.room.clone();
                    open.spawn(async move {
                        converse::<K>(signer, stream, uid, room, stop).await;
                        drop(place);
                    });
                }
                Err(refusal) => {
                    open.spawn(refuse::<K::Answer>(stream, refusal));
                }
            }
        }
        let rest = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, rest).await.is_err() {
            tracing::warn!("stopping although a question is not answered yet");
        }
        // If it stays, whoever knocks finds that nobody is there.
        let _ = std::fs::remove_file(&self.path);
    }

    async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn admit(
        &self,
        stream: &UnixStream,
    ) -> Result<(u32, tokio::sync::OwnedSemaphorePermit), PkiError> {
        let uid = stream.peer_cred().map_err(PkiError::bug)?.uid();
        if !self.uids.admit(uid) {
            tracing::warn!(uid, socket = %self.path.display(), "an account that is not let in");
            return Err(SignerError::NotLetIn { uid }.into());
        }
        let place = self.places.clone().try_acquire_owned();
        Ok((uid, place.map_err(|_| SignerError::Busy)?))
    }
}

/// The folder of the sockets; whoever may use one of them must be let through it.
fn make_folder(folder: &Path, group: Option<u32>) -> Result<(), SignerError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(PRIVATE_FOLDER);
    builder.create(folder).map_err(SignerError::io(folder))?;
    match group {
        Some(group) => give_to(folder, group, PRIVATE_FOLDER),
        None => Ok(()),
    }
}

fn give_to(path: &Path, group: u32, mode: u32) -> Result<(), SignerError> {
    let given = std::os::unix::fs::chown(path, None, Some(group));
    given.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => SignerError::ForeignGroup {
            group,
            path: path.into(),
        },
        _ => SignerError::io(path)(error),
    })?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), SignerError> {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(SignerError::io(path))
}

fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, SignerError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(SignerError::io(path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(SignerError::io(path))?;
    match group {
        Some(group) => give_to(path, group, OWNER_AND_GROUP)?,
        None => set_mode(path, OWNER_ONLY)?,
    }
    Ok(listener)
}

/// The number of an account or group: itself, or the third field of its line in `file`.
fn number_of(name: &str, file: &str, key: &str) -> Result<u32, SignerError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let path = Path::new(file);
    let text = std::fs::read_to_string(path).map_err(SignerError::io(path))?;
    let number = |line: &str| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(name);
        named.then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    let unknown = || SignerError::Configuration(format!("{key}: {name:?} is not in {file}"));
    text.lines().find_map(number).ok_or_else(unknown)
}

/// What is asked and answered at a door.
trait Kind: 'static {
    type Ask: DeserializeOwned + Send + 'static;
    type Answer: Serialize + Send + 'static;

    /// Whether question and answer may be of megabytes.
    fn is_large(_ask: &Self::Ask) -> bool {
        false
    }

    fn answer(
        signer: &Signer,
        uid: u32,
        ask: Self::Ask,
    ) -> impl Future<Output = Result<Self::Answer, PkiError>> + Send;
}

struct ForAuthority;

impl Kind for ForAuthority {
    type Ask = Ask;
    type Answer = Answer;

    fn is_large(ask: &Ask) -> bool {
        matches!(ask, Ask::Crl { .. })
    }

    async fn answer(signer: &Signer, _uid: u32, ask: Ask) -> Result<Answer, PkiError> {
        match ask {
            Ask::Look => Ok(Answer::Looked(look(signer))),
            Ask::Issue { csr, to, now } => {
                let request = wire::issue_request(&csr, to, now)?;
                let issued = signer.issue(request).await?;
                Ok(Answer::Issued {
                    certificate: Bytes(issued.der),
                })
            }
            Ask::Crl {
                issuer,
                number,
                this_update,
                next_update,
                revoked,
            } => {
                let request = CrlRequest {
                    issuer: issuer
                        .0
                        .try_into()
                        .map_err(|_| crate::crl::BadCrl::ForeignIssuer)?,
                    number,
                    this_update,
                    next_update,
                    revoked: wire::revoked(revoked)?,
                };
                let signed = signer.sign_crl(request).await?;
                Ok(Answer::Crl {
                    der: Bytes(signed.der),
                    number: signed.number,
                })
            }
        }
    }
}

fn look(signer: &Signer) -> Looked {
    Looked {
        wire: wire::VERSION,
        trust_domain: signer.trust_domain().as_str().into(),
        health: signer.health().into(),
        cas: signer.issuing_cas().iter().map(Ca::from).collect(),
    }
}

struct ForAdmin;

impl Kind for ForAdmin {
    type Ask = AdminAsk;
    type Answer = AdminAnswer;

    async fn answer(signer: &Signer, uid: u32, ask: AdminAsk) -> Result<AdminAnswer, PkiError> {
        let by = By { account: Some(uid) };
        signer.carry_out(ask, by).await
    }
}

/// Reads questions while fewer than [`PIPELINE_MAX`] wait and there is room; each is answered as soon as
/// it can be, and its place and its room are free when the answer is out.
async fn converse<K: Kind>(
    signer: Arc<Signer>,
    stream: UnixStream,
    uid: u32,
    room: Room,
    mut stop: watch::Receiver<bool>,
) {
    let (mut read, mut write) = stream.into_split();
    let (answers, mut outgoing) = mpsc::channel::<Outgoing>(PIPELINE_MAX);
    let writer = tokio::spawn(async move {
        while let Some((frame, _held)) = outgoing.recv().await {
            if let Err(error) = wire::write(&mut write, &frame).await {
                tracing::warn!(%error, "an answer does not get through");
                break;
            }
        }
    });
    let waiting = Arc::new(Semaphore::new(PIPELINE_MAX));
    loop {
        let Ok(place) = waiting.clone().acquire_owned().await else {
            break;
        };
        let asked = tokio::select! {
            asked = next::<K>(&mut read, &room) => asked,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (Asked { id, ask }, mut held) = match asked {
            Ok(Some(asked)) => asked,
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, uid, "a connection is ended");
                let frame = answered::<K::Answer>(&signer, 0, Err(not_understood(&error)));
                let _ = answers.send((frame, None)).await;
                break;
            }
        };
        let (signer, answers, room) = (signer.clone(), answers.clone(), room.clone());
        tokio::spawn(async move {
            if K::is_large(&ask) {
                room.for_list(&mut held).await;
            }
            let answer = K::answer(&signer, uid, ask).await;
            if let Err(error) = &answer {
                tracing::warn!(%error, "refused");
            }
            let frame = answered(&signer, id, answer);
            // Whoever asked may have gone.
            let _ = answers.send((frame, Some((held, place)))).await;
        });
    }
    drop(answers);
    // Ends when the last answer is out, or nobody reads them.
    let _ = writer.await;
}

/// An answer, and what is free once it is out.
type Outgoing = (Vec<u8>, Option<(Held, OwnedSemaphorePermit)>);

async fn next<K: Kind>(
    from: &mut OwnedReadHalf,
    room: &Room,
) -> Result<Option<(Asked<K::Ask>, Held)>, BadFrame> {
    let Some(length) = wire::read_length(from).await? else {
        return Ok(None);
    };
    let held = room.for_frame(length).await;
    Ok(Some((wire::read_body(from, length).await?, held)))
}

fn answered<T: Serialize>(signer: &Signer, id: u64, answer: Result<T, PkiError>) -> Vec<u8> {
    let revision = signer.shown().revision;
    let answer = answer.map_err(|error| Refusal::from(&error));
    let whole = Answered {
        id,
        revision,
        answer,
    };
    wire::frame(&whole).unwrap_or_else(|error| {
        let answer = Err::<(), _>(Refusal::from(&PkiError::bug(error)));
        let refused = Answered {
            id,
            revision,
            answer,
        };
        wire::frame(&refused).expect("a refusal is a few sentences")
    })
}

async fn refuse<T: Serialize>(mut stream: UnixStream, error: PkiError) {
    let refused = Answered {
        id: 0,
        revision: 0,
        answer: Err::<T, _>(Refusal::from(&error)),
    };
    if let Ok(frame) = wire::frame(&refused) {
        // Whoever is refused need not listen.
        let _ = wire::write(&mut stream, &frame).await;
    }
}

fn not_understood(error: &BadFrame) -> PkiError {
    SignerError::NotUnderstood {
        detail: error.to_string(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn accounts_are_known_by_number_and_by_name() {
        assert_eq!(number_of("4711", PASSWD, "access.users"), Ok(4711));
        assert_eq!(number_of("root", PASSWD, "access.users"), Ok(0));
        let unknown = number_of("no-such-account", PASSWD, "access.users").unwrap_err();
        assert!(unknown.to_string().contains("no-such-account"), "{unknown}");
    }
}
