//! How do concurrent writes share one durable commit?
//!
//! ```text
//! callers ──bounded queue──▶ lane 1 ──▶ BEGIN, with the locks of all that these jobs touch
//!                        └─▶ lane n      job 1 · job 2 · ... · what they write together
//!                                       COMMIT (durable) ──▶ every caller answered
//!                                         └─ facts for the journal? written first, then answered
//! ```
//! A savepoint for each job would copy every page that it changes, for the few that come to nothing after they
//! changed something. So there is none until there is such a job; then the batch is undone and run once more:
//! ```text
//! BEGIN · SAVEPOINT · job 1 · what it writes · RELEASE · SAVEPOINT · job 2 · ROLLBACK TO (refused or failed) · ... · COMMIT
//! ```
//! A lane is a thread with a connection and an audit chain of its own. SQLite has one, because it has one
//! writer; on PostgreSQL several share the queue. A caller hears nothing before the commit that holds its
//! write is on the disk, and nothing before its facts are in the journal: nobody can forget to journal, and
//! no payment waits for the journal's disk. A batch that another node's got in the way of is run again.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use protocol::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::audit::Chain;
use super::conn::{Conn, Params};
use super::control::{Step, Touches, Trouble};
use super::nodes::keep;
use super::timelines::Acknowledged;
use super::together::Together;
use super::unheard::Unheard;
use crate::journal::{Fact, Journal, Unwritten};
use crate::store::nodes::Lanes;
use crate::store::postgres::Caller;
use crate::store::sqlite::error::{cannot_write, corrupt, unusable};
use crate::store::{News, Result, StoreError};

/// Most writes that share one commit of the only lane.
pub(super) const BATCH_MAX: usize = 256;
/// The same where lanes lock what they touch: three locks each, of the 6 400 that PostgreSQL has room for as
/// it comes, leave room for eight nodes of four lanes.
const LOCKED_BATCH_MAX: usize = 64;
/// How often a batch is run again after others got in its way, or the connection broke before its commit.
const RETRIES_MAX: u32 = 8;

/// The handle of the writing threads; dropping it ends them after what is queued.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    journal: Arc<OnceLock<Journal>>,
}

/// What one write has others know.
#[derive(Default)]
struct Told {
    /// For the journal.
    facts: Vec<(Timestamp, Fact)>,
    /// For other nodes.
    news: RefCell<Vec<News>>,
}

impl Writer {
    /// One thread for each connection with its chain.
    pub(super) fn start(
        lanes: Vec<(Conn, Chain)>,
        caller: Option<&Caller>,
        queue_max: usize,
        acknowledged: Arc<Acknowledged>,
        own_news: Lanes,
    ) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(queue_max.max(1));
        let jobs = Arc::new(Mutex::new(jobs));
        let journal = Arc::new(OnceLock::new());
        let count = lanes.len().max(1);
        let mut threads = Vec::with_capacity(count);
        for (conn, chain) in lanes {
            let lane = Lane {
                conn,
                chain,
                jobs: jobs.clone(),
                lanes: count,
                journal: journal.clone(),
                caller: caller.cloned(),
                acknowledged: acknowledged.clone(),
                keeping: Keeping::Whole,
                together: RefCell::default(),
                own_news: own_news.clone(),
                gave_up_in_doubt: false,
            };
            let thread = std::thread::Builder::new()
                .name("store-writer".into())
                .spawn(move || lane.run())
                .map_err(|error| unusable(format!("no thread for the writer: {error}")))?;
            threads.push(thread);
        }
        Ok(Self {
            queue: Some(queue),
            threads: Mutex::new(threads),
            journal,
        })
    }

    /// From now on facts go into this journal before they are acknowledged; once.
    pub(super) fn attach(&self, journal: Journal) {
        // A second one is a caller's slip, and the first is as good.
        let _ = self.journal.set(journal);
    }

    /// Queues `work`, which is alone with what it touches; answers once its transaction is durable.
    pub(super) async fn write<T, F>(&self, touches: Touches, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Verdict<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Write {
            work,
            touches,
            result: None,
            answer,
        });
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        let (result, unheard) = answered.await.map_err(|_| stopped())?;
        unheard.was_heard();
        result
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let threads = self
            .threads
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread itself never panics out of a job, and there is nobody to tell here.
            let _ = thread.join();
        }
    }
}

/// What a piece of work answers: its change stays, or everything it did is undone.
pub(super) type Verdict<T> = std::result::Result<T, Stop<T>>;

/// Why everything that a piece of work did is undone.
pub(super) enum Stop<T> {
    /// A refusal of the domain, and the caller's answer.
    Refused(T),
    Failed(StoreError),
}

impl<T> Stop<T> {
    /// The same for the caller of a helper that has nothing to refuse.
    pub(super) fn undone<U>(self) -> Stop<U> {
        Stop::Failed(match self {
            Self::Failed(error) => error,
            Self::Refused(_) => corrupt("a helper refused what it cannot refuse"),
        })
    }
}

impl<T> From<StoreError> for Stop<T> {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// One write's view of the shared transaction.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Conn,
    pub(super) chain: &'a mut Chain,
    /// The operator who asked for it.
    pub(super) by: Option<String>,
    pub(super) together: &'a RefCell<Together>,
    told: &'a mut Told,
    journal: Option<&'a Journal>,
}

impl Tx<'_> {
    /// What the journal must know before this write is acknowledged.
    pub(super) fn tell(&mut self, at: Timestamp, fact: Fact) {
        News::of(&fact).into_iter().for_each(|it| self.spread(it));
        self.told.facts.push((at, fact));
    }

    /// What other nodes must hear once this is committed.
    pub(super) fn spread(&self, news: News) {
        let mut all = self.told.news.borrow_mut();
        if !all.contains(&news) {
            all.push(news);
        }
    }

    /// Where the facts go; none where nobody keeps them, in tests.
    pub(super) fn journal(&self) -> Option<&Journal> {
        self.journal
    }

    /// Runs one statement and answers how many rows it touched.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize> {
        self.conn.execute(sql, params)
    }

    /// Runs one statement that must touch exactly one row; an error may come with the next answer.
    pub(super) fn execute_one(&self, sql: &str, params: impl Params) -> Result<()> {
        self.execute_exactly(1, sql, params)
    }

    /// The same for so many rows.
    pub(super) fn execute_exactly(
        &self,
        rows: usize,
        sql: &str,
        params: impl Params,
    ) -> Result<()> {
        self.conn.execute_exactly(rows, sql, params)
    }
}

struct Lane {
    conn: Conn,
    chain: Chain,
    jobs: Arc<Mutex<mpsc::Receiver<Box<dyn Job>>>>,
    /// How many share the queue.
    lanes: usize,
    journal: Arc<OnceLock<Journal>>,
    /// Where there are other nodes.
    caller: Option<Caller>,
    acknowledged: Arc<Acknowledged>,
    /// How the next batch begins: as the last one ended, so that who has many jobs undone has no batch run twice.
    keeping: Keeping,
    /// Of the jobs that have run since it was written last.
    together: RefCell<Together>,
    own_news: Lanes,
    /// The last commit may have happened, and nobody here knows.
    gave_up_in_doubt: bool,
}

/// What is kept while the jobs of a batch run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    /// The batch is undone as a whole, or not at all.
    Whole,
    /// What each job changes is undone alone.
    Each,
}

/// Why an attempt at a batch ended before its commit.
enum Torn {
    /// A job came to nothing after it had changed something, and no savepoint stood before it.
    Undone,
    Failed(StoreError),
}

impl From<StoreError> for Torn {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

type Batch = Vec<Box<dyn Job>>;

impl Lane {
    fn run(mut self) {
        while let Some(mut batch) = self.next() {
            match self.transact(&mut batch) {
                Ok(told) => {
                    self.settle();
                    self.call_out(&told);
                    for (job, told) in batch.into_iter().zip(told) {
                        self.answer(job, told);
                    }
                }
                Err(error) => {
                    let failed = Err(error);
                    for job in batch {
                        let nothing = Unheard::of(Vec::new(), &self.own_news);
                        job.answer(&failed, nothing);
                    }
                }
            }
        }
    }

    /// Waits for work, and takes this lane's share of what has come; none once the queue is closed.
    fn next(&self) -> Option<Batch> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = vec![jobs.blocking_recv()?];
        let most = match self.conn {
            Conn::Sqlite(_) => BATCH_MAX,
            Conn::Postgres(_) => LOCKED_BATCH_MAX,
        };
        let share = (jobs.len() + 1).div_ceil(self.lanes).min(most);
        while batch.len() < share {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        Some(batch)
    }

    fn call_out(&self, told: &[Told]) {
        if let Some(caller) = &self.caller {
            told.iter()
                .for_each(|told| caller.call(&told.news.borrow()));
        }
    }

    /// Facts first into the journal: the answer says that they are there.
    fn answer(&self, job: Box<dyn Job>, told: Told) {
        let unheard = Unheard::of(told.news.into_inner(), &self.own_news);
        match self.journal.get() {
            Some(journal) if !told.facts.is_empty() => {
                let done = move |written: std::result::Result<(), Unwritten>| {
                    job.answer(&written.map_err(unjournalled), unheard);
                };
                journal.write(told.facts, Box::new(done));
            }
            _ => job.answer(&Ok(()), unheard),
        }
    }

    /// The batch fails, and its commit may have happened all the same, or still may.
    fn doubt(&mut self) {
        if let Some(caller) = self.caller.as_ref().filter(|_| !self.gave_up_in_doubt) {
            caller.doubt();
            self.gave_up_in_doubt = true;
        }
    }

    /// Whoever commits to the chain again has waited for the session before.
    fn settle(&mut self) {
        if let Some(caller) = self.caller.as_ref().filter(|_| self.gave_up_in_doubt) {
            caller.settle();
            self.gave_up_in_doubt = false;
        }
    }

    /// What each job of the batch tells the journal. A batch that others got in the way of, or whose
    /// connection broke, is run again; one whose commit may have happened, only after a look at its chain.
    fn transact(&mut self, batch: &mut Batch) -> Result<Vec<Told>> {
        let nothing = Touches::These(Vec::new());
        let touches = batch
            .iter()
            .fold(nothing, |all, job| all.and(job.touches()));
        let mut retry = 0;
        loop {
            let before = self.chain.known();
            let attempted = self.attempt(batch, &touches);
            let after = self.chain.known().filter(|after| Some(*after) != before);
            let (failed, told) = match attempted {
                Ok((told, last)) => match self.conn.take(&last) {
                    Ok(()) => return Ok(self.acknowledge(told, after)),
                    Err(error) => (error, Some(told)),
                },
                Err(Torn::Undone) => {
                    self.conn.roll_back();
                    // The session may be found gone by then, and with it the only right to append.
                    self.chain.forget();
                    self.keeping = Keeping::Each;
                    continue;
                }
                Err(Torn::Failed(error)) => (error, None),
            };
            self.chain.forget();
            let trouble = self.conn.trouble();
            self.conn.roll_back();
            let Some(trouble) = trouble else {
                return Err(failed);
            };
            let in_doubt = told.zip(after).filter(|_| trouble == Trouble::Lost);
            let Some((told, end)) = in_doubt else {
                self.mend(&mut retry, false, failed)?;
                continue;
            };
            match self.look_up(&mut retry, end, failed) {
                Ok(true) => return Ok(self.acknowledge(told, Some(end))),
                Ok(false) => {}
                Err(why) => {
                    self.doubt();
                    return Err(why);
                }
            }
        }
    }

    /// Whether a commit in doubt, that made this the end of the chain, has happened, and stays.
    fn look_up(&self, retry: &mut u32, end: (u64, [u8; 32]), failed: StoreError) -> Result<bool> {
        let mut why = failed;
        loop {
            self.mend(retry, true, why)?;
            let stands = self.chain.reaches(&self.conn, end);
            // What is seen may be on this server only: one that has started anew shows what no standby has.
            let confirmed = stands.and_then(|stands| match stands {
                true => self.conn.confirm().map(|()| true),
                false => Ok(false),
            });
            match confirmed {
                Ok(stands) => return Ok(stands),
                Err(error) => why = error,
            }
        }
    }

    /// Ready for another try. A batch whose commit may have happened waits longer for the server, because
    /// only that knows.
    fn mend(&self, retry: &mut u32, in_doubt: bool, failed: StoreError) -> Result<()> {
        let mut why = failed;
        loop {
            *retry += 1;
            if *retry > RETRIES_MAX {
                return Err(why);
            }
            match self.conn.mend(*retry) {
                Ok(()) => return Ok(()),
                Err(error) if in_doubt => why = error,
                Err(error) => return Err(error),
            }
        }
    }

    fn acknowledge(&self, told: Vec<Told>, end: Option<(u64, [u8; 32])>) -> Vec<Told> {
        if let Some(end) = end {
            self.acknowledged.reached(self.chain.name(), end);
        }
        told
    }

    /// Runs every job; what each tells, and the steps that make it last.
    fn attempt(
        &mut self,
        batch: &mut Batch,
        touches: &Touches,
    ) -> std::result::Result<(Vec<Told>, Vec<Step>), Torn> {
        self.conn.begin(touches)?;
        // What an attempt before had in it is run again.
        self.together.take();
        let keeping = self.keeping;
        let mut told = Vec::with_capacity(batch.len());
        let mut steps = Vec::new();
        let mut undone = false;
        for job in batch {
            if keeping == Keeping::Each {
                steps.push(Step::Savepoint);
                self.conn.take(&std::mem::take(&mut steps))?;
            }
            let (of_job, end) = match self.run_job(job.as_mut()) {
                Ok(ran) => ran,
                Err(_) if keeping == Keeping::Whole && self.conn.holds_transaction() => {
                    return Err(Torn::Undone);
                }
                Err(error) => return Err(error.into()),
            };
            told.push(of_job);
            undone |= end == End::Undone;
            match (keeping, end) {
                (Keeping::Whole, End::Undone) => return Err(Torn::Undone),
                (Keeping::Whole, _) if self.conn.has_failed() => return Err(Torn::Undone),
                (Keeping::Whole, _) => {}
                (Keeping::Each, End::Kept) => steps.push(Step::Release),
                (Keeping::Each, _) => steps.push(Step::Undo),
            }
        }
        match self.settle_jobs() {
            Err(_) if keeping == Keeping::Whole && self.conn.holds_transaction() => {
                return Err(Torn::Undone);
            }
            settled => settled?,
        }
        if !undone {
            self.keeping = Keeping::Whole;
        }
        steps.push(Step::Commit);
        Ok((told, steps))
    }

    /// What the job tells, and how it ended. An error here is the whole batch's; the job's own failure stays
    /// its own.
    fn run_job(&mut self, job: &mut dyn Job) -> Result<(Told, End)> {
        let mut told = Told::default();
        let before = self.chain.known();
        let changes = self.conn.changes();
        let waited = self.together.borrow().waiting();
        let kept = {
            let mut tx = Tx {
                conn: &self.conn,
                chain: &mut self.chain,
                by: None,
                together: &self.together,
                told: &mut told,
                journal: self.journal.get(),
            };
            catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))).unwrap_or(false)
        };
        let kept = match self.keeping {
            Keeping::Each => self.answers_for_itself(job, kept),
            Keeping::Whole => kept,
        };
        if !self.conn.holds_transaction() {
            return Err(cannot_write(
                "the database refused, and the transaction is gone",
            ));
        }
        if kept {
            if let Some(caller) = &self.caller {
                keep(&self.conn, caller.node(), &told.news.borrow())?;
            }
            return Ok((told, End::Kept));
        }
        // Its rows are undone with it, and those before them stand.
        self.chain.goes_back(before);
        self.together.borrow_mut().goes_back(waited);
        let end = match self.conn.changes() == changes {
            true => End::Nothing,
            false => End::Undone,
        };
        Ok((Told::default(), end))
    }

    /// Writes what the jobs so far write together, and waits for all that was sent: what a job sent before goes
    /// wrong first.
    fn settle_jobs(&self) -> Result<()> {
        let written = self.together.borrow_mut().write(&self.conn);
        self.conn.settle().and(written)
    }

    /// Alone with its savepoint a job answers for what it sent, also for what it would not hear of.
    fn answers_for_itself(&self, job: &mut dyn Job, kept: bool) -> bool {
        let settled = match kept {
            true => self.settle_jobs(),
            false => self.conn.settle(),
        };
        let failed = || corrupt("a write went on after a statement had failed");
        match (kept, settled) {
            (true, Err(error)) => job.fail(error),
            (true, Ok(())) if self.conn.has_failed() => job.fail(failed()),
            _ => return kept,
        }
        false
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kept,
    /// It came to nothing, and had changed nothing.
    Nothing,
    /// It came to nothing, and what it changed must go.
    Undone,
}

trait Job: Send {
    fn touches(&self) -> &Touches;

    /// True if what it did stays. It may be run again.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;

    /// What it did is undone for this reason.
    fn fail(&mut self, error: StoreError);

    fn answer(self: Box<Self>, committed: &Result<()>, unheard: Unheard);
}

struct Write<T, F> {
    work: F,
    touches: Touches,
    result: Option<Result<T>>,
    answer: oneshot::Sender<(Result<T>, Unheard)>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: Fn(&mut Tx<'_>) -> Verdict<T> + Send,
{
    fn touches(&self) -> &Touches {
        &self.touches
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result = None;
        let (result, kept) = match (self.work)(tx) {
            Ok(value) => (Ok(value), true),
            Err(Stop::Refused(value)) => (Ok(value), false),
            Err(Stop::Failed(error)) => (Err(error), false),
        };
        self.result = Some(result);
        kept
    }

    fn fail(&mut self, error: StoreError) {
        self.result = Some(Err(error));
    }

    fn answer(self: Box<Self>, committed: &Result<()>, unheard: Unheard) {
        let result = match committed {
            Err(error) => Err(error.clone()),
            Ok(()) => self
                .result
                .unwrap_or_else(|| Err(corrupt("a write panicked and was undone"))),
        };
        // A caller that went away needs no answer; its write stands, and this process hears of it.
        let _ = self.answer.send((result, unheard));
    }
}

fn unjournalled(error: Unwritten) -> StoreError {
    StoreError::Unjournalled {
        detail: error.to_string(),
    }
}

fn stopped() -> StoreError {
    unusable("its writer has stopped")
}

#[cfg(test)]
mod tests;
