//! How does one connection to PostgreSQL carry the statements that both databases read?
//!
//! A statement is prepared once for each set of kinds that it is given. A connection that broke is replaced by
//! the next transaction, not within one.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};

use super::connect::Connect;
use super::error::{is_of_other_tables, trouble};
use super::line::Line;
use super::value::Encoded;
use crate::store::sql::conn::Value;
use crate::store::sql::control::{Step, Subject, Touches, Trouble};
use crate::store::sqlite::error::{corrupt, unusable};
use crate::store::{Result, Server};

/// Held shared by every batch that says what it touches, and alone by one that does not.
pub(super) const ALL: i64 = 0x4d32_4b59;
/// Where nodes call out what they have committed.
pub(super) const CHANNEL: &str = "m2key_news";
/// A listening session that asks nothing for so long ends, and with it the locks of its chores: also when the
/// process only stands still, of which no network knows.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// Pause before the first retry of a batch; each next one is twice as long.
const RETRY_FIRST: Duration = Duration::from_millis(5);
/// Most statements that a connection keeps prepared; then it begins anew.
const STATEMENTS_MAX: usize = 1_024;
/// Most statements that are sent and not waited for; then their answers are taken.
const SENT_MAX: usize = 64;

/// One connection, that knows how to come back.
pub(in crate::store) struct PgConn {
    connect: Arc<Connect>,
    begins: Begins,
    line: RefCell<Option<Line>>,
    statements: RefCell<HashMap<Prepared, Statement>>,
    trouble: Cell<Option<Trouble>>,
    /// What was sent, in order, and how many rows each must touch.
    sent: RefCell<VecDeque<(u64, String)>>,
    /// Rises with every change, and every failure.
    changes: Cell<u64>,
    /// A statement of this transaction failed, or did not touch what it must: nothing of it may stay.
    failed: Cell<bool>,
    /// Who is at the other end.
    server: Cell<Option<Server>>,
    /// As of which change of the tables its statements were prepared.
    plans: Cell<u64>,
}

/// What a session begins with, also when it is made again.
#[derive(Debug, Clone)]
pub(in crate::store) enum Begins {
    Nothing,
    /// It hears what others call out, and holds the chores of its node: it asks five times a second, and is taken
    /// for gone by the server when it does not.
    Listening,
    /// It is the only one that appends to this chain, as long as it lives.
    Holding {
        chain: String,
    },
    /// What it says need not be on the disk.
    CallingOut,
}

/// Why rows were handed over no further.
enum Ended {
    Asking(Error),
    Taking(crate::store::StoreError),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Asking(error)
    }
}

/// The statement, and the kind of each value.
#[derive(PartialEq, Eq, Hash)]
struct Prepared(String, Vec<u8>);

impl PgConn {
    pub(in crate::store) fn open(connect: Arc<Connect>) -> Result<Self> {
        Self::open_as(connect, Begins::Nothing)
    }

    pub(in crate::store) fn open_as(connect: Arc<Connect>, begins: Begins) -> Result<Self> {
        let found = begins.begin(&connect)?;
        Ok(Self::over(connect, begins, found))
    }

    /// Connects when it is first used.
    pub(super) fn later(connect: Arc<Connect>) -> Self {
        Self {
            connect,
            begins: Begins::Nothing,
            line: RefCell::default(),
            statements: RefCell::default(),
            trouble: Cell::new(None),
            sent: RefCell::default(),
            changes: Cell::new(0),
            failed: Cell::new(false),
            server: Cell::new(None),
            plans: Cell::new(0),
        }
    }

    /// To a server that may be in question, for whoever compares it.
    pub(super) fn open_in_question(connect: Arc<Connect>) -> Result<Self> {
        let line = connect.connect_whatever_it_is()?;
        Ok(Self::over(connect, Begins::Nothing, (line, None)))
    }

    fn over(connect: Arc<Connect>, begins: Begins, (line, server): (Line, Option<Server>)) -> Self {
        let plans = connect.plans.load(Ordering::Relaxed);
        let mut new = Self::later(connect);
        new.begins = begins;
        new.line = RefCell::new(Some(line));
        new.server = Cell::new(server);
        new.plans = Cell::new(plans);
        new
    }

    pub(in crate::store) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        let touched = self.with_statement(sql, values, |line, statement, values| {
            line.execute(statement, values)
        })?;
        // A step of the schema touches no row, and changes all the same.
        self.changes
            .set(self.changes.get() + touched.max(u64::from(!is_of_rows(sql))));
        Ok(touched as usize)
    }

    /// Sends a statement that must touch exactly so many rows, and does not wait for its answer: whoever asks
    /// something after it hears if it did not.
    pub(in crate::store) fn execute_exactly(
        &self,
        rows: usize,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<()> {
        let statement = match self.with_line(|line| self.statement(line, sql, values)) {
            Ok(statement) => statement,
            // It may only say that one which was sent before has failed.
            Err(error) => return self.settle().and(Err(error)),
        };
        let given = values.iter().filter(|it| **it != Value::Null);
        let given: Vec<_> = given.map(Encoded::of).collect();
        let unanswered = self.with_line(|line| {
            line.send(statement, given);
            Ok(line.unanswered())
        })?;
        self.sent
            .borrow_mut()
            .push_back((rows as u64, sql.to_owned()));
        self.changes.set(self.changes.get() + 1);
        match unanswered < SENT_MAX {
            true => Ok(()),
            false => self.settle(),
        }
    }

    /// Takes the answers of what was sent; the first that is not as it must be is an error.
    pub(in crate::store) fn settle(&self) -> Result<()> {
        let mut settled = Ok(());
        while let Some((rows, sql)) = self.sent.borrow_mut().pop_front() {
            let answer = match self.line.borrow_mut().as_mut() {
                Some(line) => line.answer(),
                None => None,
            };
            let of_it = match answer {
                Some(Ok(touched)) if touched == rows => Ok(()),
                Some(Ok(touched)) => {
                    Err(corrupt(format!("{touched} rows instead of {rows}: {sql}")))
                }
                Some(Err(error)) => Err(self.note(error)),
                None => Err(away()),
            };
            if of_it.is_err() {
                self.fail();
            }
            settled = settled.and(of_it);
        }
        settled
    }

    /// A number that is another one after anything was changed, or failed.
    pub(in crate::store) fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Whether anything of this transaction failed that has not been undone.
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    fn fail(&self) {
        self.failed.set(true);
        self.changes.set(self.changes.get() + 1);
    }

    pub(in crate::store) fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        self.with_statement(sql, values, |line, statement, values| {
            line.query(statement, values)
        })
    }

    /// Hands over one row after the other, of an answer that may be too large to keep.
    pub(super) fn each(&self, sql: &str, take: &mut dyn FnMut(&Row) -> Result<()>) -> Result<()> {
        let mut line = self.line.borrow_mut();
        let line = line.as_mut().ok_or_else(away)?;
        line.each(sql, &mut |row| take(row).map_err(Ended::Taking))
            .map_err(|ended| match ended {
                Ended::Asking(error) => self.note(error),
                Ended::Taking(error) => error,
            })
    }

    /// Runs statements that are given nothing and answer nothing.
    pub(in crate::store) fn batch(&self, sql: &str) -> Result<()> {
        let done = self.with_line(|line| line.batch(sql));
        self.settle().and(done)
    }

    pub(in crate::store) fn begin(&self, touches: &Touches) -> Result<()> {
        self.ready()?;
        self.failed.set(false);
        self.send_now("BEGIN")?;
        self.lock(touches)
    }

    /// Takes the locks of what is touched, in their order, until the transaction ends: by one statement that is
    /// prepared, because each one that is not has the server read and plan it anew.
    pub(in crate::store) fn lock(&self, touches: &Touches) -> Result<()> {
        let keys = match touches {
            Touches::Everything => {
                return self.batch(&format!("SELECT pg_advisory_xact_lock({ALL})"));
            }
            Touches::These(keys) => keys.iter().map(i64::to_string),
        };
        let keys = format!("{{{}}}", keys.collect::<Vec<_>>().join(","));
        let too_long = Cell::new(false);
        let locked = self.with_statement(
            "SELECT pg_advisory_xact_lock_shared(?1)
             UNION ALL SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(?2 AS bigint[])) AS key",
            &[Value::Integer(ALL), Value::Text(&keys)],
            |line, statement, values| {
                let locked = line.query(statement, values);
                locked
                    .inspect_err(|why| too_long.set(why.code() == Some(&SqlState::QUERY_CANCELED)))
            },
        );
        // Many short waits for others are as good as one that is too long: nothing is done yet.
        if too_long.get() {
            self.trouble.set(Some(Trouble::Crossed));
        }
        locked.map(drop)
    }

    /// Sends a statement that is given nothing and answers nothing, and does not wait for its answer.
    fn send_now(&self, sql: &'static str) -> Result<()> {
        let sent = self.with_line(|line| line.send_now(sql));
        match &sent {
            Ok(()) => self.sent.borrow_mut().push_back((1, sql.to_owned())),
            // Whether an answer will come of it is not known: the line cannot be used any more.
            Err(_) => self.trouble.set(Some(Trouble::Lost)),
        }
        sent
    }

    /// Waits so long for others to call out, and hands over what they say, with the number of the backend
    /// that said it, until there is no more or `take` has enough; the rest is heard next.
    pub(super) fn hear(
        &self,
        wait: Duration,
        take: &mut dyn FnMut(i32, &str) -> bool,
    ) -> Result<()> {
        self.with_line(|line| {
            line.hear(wait)?;
            while let Some(said) = line.heard() {
                if !take(said.process_id(), said.payload()) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// A connection that was lost is made again.
    pub(super) fn ready_again(&self) -> Result<()> {
        self.ready()
    }

    /// Whether it leads to the server that is served from; an error while that is in question.
    pub(super) fn leads_home(&self) -> Result<bool> {
        self.connect.server.holds(self.server.get())
    }

    /// Who is at the other end.
    pub(super) fn server(&self) -> Option<Server> {
        self.server.get()
    }

    /// The log of the server is on its disk up to there.
    pub(super) fn reached(&self, log_end: i64) {
        self.connect.server.reached(log_end);
    }

    /// The number of the backend that serves this connection.
    pub(super) fn backend(&self) -> Result<i32> {
        let rows = self.query("SELECT pg_backend_pid() AS pid", &[])?;
        let first = rows.first().map(|row| row.try_get("pid")).transpose()?;
        Ok(first.unwrap_or_default())
    }

    /// That a connection broke since it was used last is found out here, before anything was read.
    pub(in crate::store) fn begin_snapshot(&self) -> Result<()> {
        self.ready()?;
        self.begin_snapshot_here().or_else(|_| {
            // It broke, or was left within a transaction: another one is made.
            self.trouble.set(Some(Trouble::Lost));
            self.ready()?;
            self.begin_snapshot_here()
        })
    }

    /// The same on this very connection, whether it may be used or not.
    pub(super) fn begin_snapshot_here(&self) -> Result<()> {
        self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    }

    pub(in crate::store) fn take(&self, steps: &[Step]) -> Result<()> {
        let all: Vec<&str> = steps.iter().flat_map(|step| step.sql()).copied().collect();
        match steps.contains(&Step::Commit) {
            true => self.durably(&all.join(";"))?,
            false => self.batch(&all.join(";"))?,
        }
        if steps.contains(&Step::Undo) {
            self.failed.set(false);
        }
        Ok(())
    }

    /// Commits a word into the log of the server that no table holds. Like every commit it is answered once it is on the
    /// disk, and at the synchronous standby where there is one; the log before it is then, too.
    pub(in crate::store) fn confirm(&self) -> Result<()> {
        self.durably("SELECT pg_logical_emit_message(true, 'm2key', 'looked up')")
    }

    /// Statements that end with a commit. A server that is told to wait no longer for its standby says so in a
    /// warning, and that it is done: then nobody knows.
    fn durably(&self, sql: &str) -> Result<()> {
        self.with_line(|line| Ok(line.warnings()))?;
        self.batch(sql)?;
        match self.with_line(|line| Ok(line.warnings()))? {
            0 => Ok(()),
            _ => {
                self.trouble.set(Some(Trouble::Lost));
                Err(unusable("PostgreSQL committed with a warning"))
            }
        }
    }

    pub(in crate::store) fn roll_back(&self) {
        // What came of it matters to nobody.
        let _ = self.settle();
        if self.trouble.get() != Some(Trouble::Lost) {
            let _ = self.batch("ROLLBACK");
        }
    }

    /// Ends a snapshot, of which nothing is left to be said: whoever begins the next one hears if it failed.
    pub(in crate::store) fn let_go(&self) {
        if self.trouble.get() == Some(Trouble::Lost) {
            return;
        }
        // A line that broke is found out by whoever begins next.
        let _ = self.send_now("ROLLBACK");
    }

    pub(in crate::store) fn trouble(&self) -> Option<Trouble> {
        self.trouble.get()
    }

    /// Waits a little, and connects anew where the connection broke.
    #[expect(clippy::disallowed_methods, reason = "a pause between bounded retries")]
    pub(in crate::store) fn mend(&self, retry: u32) -> Result<()> {
        std::thread::sleep(RETRY_FIRST * 2_u32.saturating_pow(retry.min(10)));
        self.ready()
    }

    /// A connection that can be asked; a broken one is replaced.
    fn ready(&self) -> Result<()> {
        let was_lost = self.trouble.get() == Some(Trouble::Lost);
        let is_same = self.connect.server.holds(self.server.get())?;
        self.trouble.set(None);
        self.prepare_anew_if_tables_changed();
        let mut line = self.line.borrow_mut();
        if line
            .as_ref()
            .is_some_and(|line| is_same && !was_lost && !line.is_closed())
        {
            return Ok(());
        }
        *line = None;
        self.sent.borrow_mut().clear();
        self.statements.borrow_mut().clear();
        match self.begins.begin(&self.connect) {
            Ok((new, server)) => {
                *line = Some(new);
                self.server.set(server);
                Ok(())
            }
            Err(error) => {
                self.trouble.set(Some(Trouble::Lost));
                Err(error)
            }
        }
    }

    /// `migrate` adds to tables while nodes go on: what was prepared before answers no more.
    fn prepare_anew_if_tables_changed(&self) {
        let plans = self.connect.plans.load(Ordering::Relaxed);
        if self.plans.replace(plans) != plans {
            self.statements.borrow_mut().clear();
        }
    }

    fn with_line<T>(
        &self,
        ask: impl FnOnce(&mut Line) -> std::result::Result<T, Error>,
    ) -> Result<T> {
        let mut line = self.line.borrow_mut();
        let line = line.as_mut().ok_or_else(away)?;
        ask(line).map_err(|error| self.note(error))
    }

    fn note(&self, error: Error) -> crate::store::StoreError {
        if let Some(trouble) = trouble(&error) {
            self.trouble.set(Some(trouble));
        }
        if is_of_other_tables(&error) {
            self.connect.plans.fetch_add(1, Ordering::Relaxed);
        }
        self.fail();
        error.into()
    }

    /// What was sent before is answered before this is: its failure goes first.
    fn with_statement<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        ask: impl FnOnce(&mut Line, &Statement, &[&(dyn ToSql + Sync)]) -> std::result::Result<T, Error>,
    ) -> Result<T> {
        let answer = self.with_line(|line| {
            let statement = self.statement(line, sql, values)?;
            let given = values.iter().filter(|it| **it != Value::Null);
            let given: Vec<_> = given.map(|it| it as &(dyn ToSql + Sync)).collect();
            ask(line, &statement, &given)
        });
        self.settle().and(answer)
    }

    fn statement(
        &self,
        line: &mut Line,
        sql: &str,
        values: &[Value<'_>],
    ) -> std::result::Result<Statement, Error> {
        let key = Prepared(
            sql.to_owned(),
            values.iter().map(|it| it.kind().0).collect(),
        );
        let mut statements = self.statements.borrow_mut();
        if let Some(known) = statements.get(&key) {
            return Ok(known.clone());
        }
        let given = values.iter().filter(|it| **it != Value::Null);
        let kinds: Vec<Type> = given.map(|it| it.kind().1).collect();
        let statement = line.prepare(&in_its_words(sql, values), &kinds)?;
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(key, statement.clone());
        Ok(statement)
    }
}

impl Begins {
    fn begin(&self, connect: &Connect) -> Result<(Line, Option<Server>)> {
        let (mut line, server) = connect.connect()?;
        match self {
            Self::Nothing => {}
            Self::Listening => line.batch(&format!(
                "SELECT set_config('application_name',
                     current_setting('application_name') || ' listening', false);
                 SET idle_session_timeout = '{}ms';
                 LISTEN {CHANNEL}",
                LEASE.as_millis()
            ))?,
            Self::CallingOut => line.batch("SET synchronous_commit = off")?,
            Self::Holding { chain } => hold(&mut line, chain)?,
        }
        Ok((line, server))
    }
}

fn away() -> crate::store::StoreError {
    unusable("PostgreSQL is away")
}

fn is_of_rows(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default();
    ["INSERT", "UPDATE", "DELETE"].contains(&word)
}

/// Waits for whoever has just gone: the server may not have noticed yet.
fn hold(line: &mut Line, chain: &str) -> Result<()> {
    let Touches::These(keys) = Touches::these(&[Subject::Named("chain", chain.as_bytes())]) else {
        return Ok(());
    };
    for key in keys {
        let held = line.batch(&format!("SELECT pg_advisory_lock({key})"));
        held.map_err(|error| match error.code() {
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => unusable(format!(
                "another process appends to the audit chain {chain:?}: every node has a name of its own"
            )),
            _ => error.into(),
        })?;
    }
    Ok(())
}

impl Drop for PgConn {
    /// A runtime cannot be let go where tasks run.
    fn drop(&mut self) {
        let line = self.line.get_mut().take();
        let _ = std::thread::Builder::new().spawn(move || drop(line));
    }
}

/// The same statement in the words of PostgreSQL: `$1` for `?1`, and `NULL` for what is null, because a
/// parameter must be of a kind. No text of a statement of ours holds a question mark.
fn in_its_words(sql: &str, values: &[Value<'_>]) -> String {
    let mut words = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('?') {
        words.push_str(before);
        let digits = after.len()
            - after
                .trim_start_matches(|it: char| it.is_ascii_digit())
                .len();
        let (number, after) = after.split_at(digits);
        let number = number.parse().unwrap_or(0);
        match number_of(values, number) {
            Some(number) => words.push_str(&format!("${number}")),
            None => words.push_str("NULL"),
        }
        rest = after;
    }
    words.push_str(rest);
    words
}

/// Which of those that are not null it is, from 1; none if it is null.
fn number_of(values: &[Value<'_>], number: usize) -> Option<usize> {
    let given = values.get(..number)?;
    let is_given = |value: &&Value<'_>| **value != Value::Null;
    given.last().filter(is_given)?;
    Some(given.iter().filter(is_given).count())
}
