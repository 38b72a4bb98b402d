//! What would a restored database not remember, and where does it stand written?
//!
//! ```text
//! store: COMMIT ──facts of the transaction──▶ one thread: append, sync ──▶ the callers are answered
//! ```
//! Database first, journal second, answer last. So the journal never says anything that its database
//! does not hold: whatever stands here and is missing there was lost, and a crash in between only
//! leaves the journal behind, which the next start puts right (docs/decisions/0008).

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::time::Timestamp;
use tokio::sync::oneshot;

mod fact;
mod file;
mod known;
#[cfg(test)]
mod tests;

pub use fact::{
    Fact, GENESIS, Line, LockedShopper, MadeKey, NumberedPolicy, RemovedPasskey, RetiredTag,
    Revoked, TaintedKey,
};
pub(crate) use fact::{hex, unhex};
pub use file::{Contents, Found, read};
pub(crate) use known::REVOKED_KEPT_MS;
pub(crate) use known::SHOWN_MAX;
pub use known::{
    Ban, Known, Made, OperatorGone, PasskeyGone, Revocation, ShopperLock, Shown, TagGone, Voided,
};

use file::Pen;

/// Most transactions whose facts wait for the disk; past it the store waits with them.
const WAITING_MAX: usize = 4_096;
/// Most transactions that share one sync.
const TOGETHER_MAX: usize = 256;
/// How long after a failure the owed lines are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Whoever has one may write into the journal.
#[derive(Clone)]
pub struct Journal {
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
}

/// Called once the facts are on the disk, or are not.
pub type Done = Box<dyn FnOnce(Result<(), Unwritten>) + Send>;

/// The facts stand in the database but not here. They are tried again until they do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the journal {path} cannot be written ({why}); it holds here, but a restore would forget it"
)]
pub struct Unwritten {
    pub path: String,
    pub why: String,
}

struct Shared {
    path: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    last: Last,
    /// Since the last failure; none when everything is written.
    failure: Option<String>,
}

/// The last line that is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Whose journal.
    pub node: String,
    pub journal: String,
    pub n: u64,
    pub hash: [u8; 32],
}

enum Order {
    Write(Vec<(Timestamp, Fact)>, Done),
    /// A journal that is lost or cannot be believed gives its place to a new one.
    Renew(Renewal, oneshot::Sender<Result<Option<PathBuf>, Unwritten>>),
    Tell(oneshot::Sender<Known>),
}

/// The journal that takes the place of one that cannot be believed.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub journal: String,
    /// Whether what could be read of the old one goes on to count.
    pub keeps: bool,
    pub at: Timestamp,
}

impl Journal {
    /// Goes on behind `known`, at this place. Nothing is touched before the first fact.
    pub fn open(path: &Path, known: Known) -> std::io::Result<Self> {
        let (orders, waiting) = sync_channel(WAITING_MAX);
        let shared = Arc::new(Shared {
            path: path.into(),
            seen: Mutex::new(Seen {
                last: Last::of(&known),
                failure: None,
            }),
        });
        let writer = Writer {
            pen: Pen::new(path.into(), known),
            owed: Vec::new(),
            shared: shared.clone(),
        };
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&waiting))?;
        Ok(Self { orders, shared })
    }

    /// Queues facts that are committed. Waits if the disk is so far behind that its queue is full:
    /// the store then waits, too, because nothing may be acknowledged that is not written.
    pub fn write(&self, facts: Vec<(Timestamp, Fact)>, done: Done) {
        if let Err(gone) = self.orders.send(Order::Write(facts, done)) {
            let Order::Write(_, done) = gone.0 else {
                return;
            };
            done(Err(self.gone()));
        }
    }

    /// The same, and waits for the disk.
    pub async fn written(&self, facts: Vec<(Timestamp, Fact)>) -> Result<(), Unwritten> {
        let (tell, told) = oneshot::channel();
        self.write(facts, Box::new(move |done| drop(tell.send(done))));
        told.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Begins a new file with everything that counts; the place of the old one, set aside, is told. At no
    /// moment is there neither: what was known must not be lost with the power before the raise.
    pub async fn renew(&self, renewal: Renewal) -> Result<Option<PathBuf>, Unwritten> {
        let (tell, told) = oneshot::channel();
        self.order(Order::Renew(renewal, tell))?;
        told.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Everything that is written.
    pub async fn known(&self) -> Result<Known, Unwritten> {
        let (tell, told) = oneshot::channel();
        self.order(Order::Tell(tell))?;
        told.await.map_err(|_| self.gone())
    }

    /// The last line that is on the disk.
    pub fn last(&self) -> Last {
        self.shared.seen().last.clone()
    }

    /// Why it cannot be written at the moment.
    pub fn failure(&self) -> Option<String> {
        self.shared.seen().failure.clone()
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    fn order(&self, order: Order) -> Result<(), Unwritten> {
        self.orders.send(order).map_err(|_| self.gone())
    }

    fn gone(&self) -> Unwritten {
        self.shared.unwritten("its thread has ended")
    }
}

impl Last {
    fn of(known: &Known) -> Self {
        Self {
            node: known.node.clone(),
            journal: known.journal.clone(),
            n: known.last.0,
            hash: known.last.1,
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritten(&self, why: &str) -> Unwritten {
        Unwritten {
            path: self.path.display().to_string(),
            why: why.into(),
        }
    }
}

struct Writer {
    pen: Pen,
    /// Facts whose write failed: they come first at the next try.
    owed: Vec<(Timestamp, Fact)>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Order>) {
        loop {
            match waiting.recv_timeout(RETRY) {
                Ok(order) => self.serve(order, waiting),
                Err(RecvTimeoutError::Timeout) if !self.owed.is_empty() => {
                    // Still failing is told by readiness, and to the next caller.
                    let _ = self.write(Vec::new());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One order, and what waits behind it, under one sync.
    fn serve(&mut self, first: Order, waiting: &Receiver<Order>) {
        let (mut facts, mut callers) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(order) = next.take() {
            match order {
                Order::Write(more, done) => {
                    facts.extend(more);
                    callers.push(done);
                }
                Order::Renew(renewal, tell) => {
                    self.answer(std::mem::take(&mut facts), std::mem::take(&mut callers));
                    // Whoever asked and went away finds the new journal all the same.
                    let _ = tell.send(self.renew(renewal));
                }
                Order::Tell(tell) => {
                    self.answer(std::mem::take(&mut facts), std::mem::take(&mut callers));
                    let _ = tell.send(self.pen.known().clone());
                }
            }
            if callers.len() < TOGETHER_MAX {
                next = waiting.try_recv().ok();
            }
        }
        self.answer(facts, callers);
    }

    fn answer(&mut self, facts: Vec<(Timestamp, Fact)>, callers: Vec<Done>) {
        if callers.is_empty() {
            return;
        }
        let written = self.write(facts);
        for done in callers {
            done(written.clone());
        }
    }

    fn write(&mut self, facts: Vec<(Timestamp, Fact)>) -> Result<(), Unwritten> {
        self.owed.extend(facts);
        let written = self.pen.write(&self.owed);
        let mut seen = self.shared.seen();
        match written {
            Ok(()) => {
                self.owed.clear();
                seen.last = Last::of(self.pen.known());
                seen.failure = None;
                Ok(())
            }
            Err(error) => {
                tracing::error!(path = %self.shared.path.display(), %error, owed = self.owed.len(),
                    "the journal cannot be written");
                seen.failure = Some(error.to_string());
                keep_last_checkpoint(&mut self.owed);
                Err(self.shared.unwritten(&error.to_string()))
            }
        }
    }

    fn renew(&mut self, renewal: Renewal) -> Result<Option<PathBuf>, Unwritten> {
        let Renewal { journal, keeps, at } = renewal;
        let known = match keeps {
            true => self.pen.known().renamed(journal),
            false => Known::nothing(journal, self.pen.known().node.clone()),
        };
        let mut pen = Pen::new(self.shared.path.clone(), known);
        let aside = pen.replace(at);
        let aside = aside.map_err(|error| self.shared.unwritten(&error.to_string()))?;
        self.pen = pen;
        self.shared.seen().last = Last::of(self.pen.known());
        self.owed.clear();
        Ok(aside)
    }
}

/// While the disk is full there is one every second, and each has the heads of all chains.
fn keep_last_checkpoint(owed: &mut Vec<(Timestamp, Fact)>) {
    let is_one = |(_, fact): &(Timestamp, Fact)| matches!(fact, Fact::Checkpoint { .. });
    let mut left = owed.iter().filter(|it| is_one(it)).count();
    owed.retain(|it| {
        let is_one = is_one(it);
        left -= usize::from(is_one);
        !is_one || left == 0
    });
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal({})", self.shared.path.display())
    }
}
