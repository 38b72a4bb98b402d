//! How does one connection to PostgreSQL carry the statements that both databases read?
//!
//! A statement is prepared once for each set of kinds that it is given. A connection that broke is replaced by
//! the next transaction, not within one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator as _;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Statement};

use super::connect::Connect;
use super::error::{is_of_other_tables, trouble};
use crate::store::sql::conn::Value;
use crate::store::sql::control::{Step, Subject, Touches, Trouble};
use crate::store::sqlite::error::unusable;
use crate::store::{Result, Server};

/// Held shared by every batch that says what it touches, and alone by one that does not.
const ALL: i64 = 0x4d32_4b59;
/// Where nodes call out what they have committed.
pub(super) const CHANNEL: &str = "m2key_news";
/// A listening session that asks nothing for so long ends, and with it the locks of its chores: also when the
/// process only stands still, of which no network knows.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// Pause before the first retry of a batch; each next one is twice as long.
const RETRY_FIRST: Duration = Duration::from_millis(5);
/// Most statements that a connection keeps prepared; then it begins anew.
const STATEMENTS_MAX: usize = 1_024;

/// One connection, that knows how to come back.
pub(in crate::store) struct PgConn {
    connect: Arc<Connect>,
    begins: Begins,
    client: RefCell<Option<Client>>,
    statements: RefCell<HashMap<Prepared, Statement>>,
    trouble: Cell<Option<Trouble>>,
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
            client: RefCell::default(),
            statements: RefCell::default(),
            trouble: Cell::new(None),
            server: Cell::new(None),
            plans: Cell::new(0),
        }
    }

    /// To a server that may be in question, for whoever compares it.
    pub(super) fn open_in_question(connect: Arc<Connect>) -> Result<Self> {
        let client = connect.connect_whatever_it_is()?;
        Ok(Self::over(connect, Begins::Nothing, (client, None)))
    }

    fn over(
        connect: Arc<Connect>,
        begins: Begins,
        (client, server): (Client, Option<Server>),
    ) -> Self {
        Self {
            begins,
            client: RefCell::new(Some(client)),
            statements: RefCell::default(),
            trouble: Cell::new(None),
            server: Cell::new(server),
            plans: Cell::new(connect.plans.load(Ordering::Relaxed)),
            connect,
        }
    }

    pub(in crate::store) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<usize> {
        let touched = self.with_statement(sql, values, |client, statement, values| {
            client.execute(statement, values)
        })?;
        Ok(touched as usize)
    }

    pub(in crate::store) fn query(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<postgres::Row>> {
        self.with_statement(sql, values, |client, statement, values| {
            client.query(statement, values)
        })
    }

    /// Hands over one row after the other, of an answer that may be too large to keep.
    pub(super) fn each(
        &self,
        sql: &str,
        take: &mut dyn FnMut(&postgres::Row) -> Result<()>,
    ) -> Result<()> {
        let mut client = self.client.borrow_mut();
        let client = client
            .as_mut()
            .ok_or_else(|| unusable("PostgreSQL is away"))?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        let mut rows = client
            .query_raw(sql, none)
            .map_err(|error| self.note(error))?;
        while let Some(row) = rows.next().map_err(|error| self.note(error))? {
            take(&row)?;
        }
        Ok(())
    }

    /// Runs statements that are given nothing and answer nothing.
    pub(in crate::store) fn batch(&self, sql: &str) -> Result<()> {
        self.with_client(|client| client.batch_execute(sql))
    }

    pub(in crate::store) fn begin(&self, touches: &Touches) -> Result<()> {
        self.ready()?;
        self.batch(&format!("BEGIN;{}", Self::locks(touches)))
    }

    /// Statements that take the locks of what is touched, until the transaction ends.
    pub(in crate::store) fn locks(touches: &Touches) -> String {
        match touches {
            Touches::Everything => format!("SELECT pg_advisory_xact_lock({ALL})"),
            Touches::These(keys) => {
                let mut sql = format!("SELECT pg_advisory_xact_lock_shared({ALL})");
                for key in keys {
                    sql.push_str(&format!(";SELECT pg_advisory_xact_lock({key})"));
                }
                sql
            }
        }
    }

    /// Waits so long for others to call out, and hands over what they say, with the number of the backend
    /// that said it, until there is no more or `take` has enough; the rest is heard next.
    pub(super) fn hear(
        &self,
        wait: Duration,
        take: &mut dyn FnMut(i32, &str) -> bool,
    ) -> Result<()> {
        self.with_client(|client| {
            let mut heard = client.notifications();
            // One is waited for; what came with it is taken along.
            let mut next = heard.timeout_iter(wait).next()?;
            while let Some(said) = next {
                if !take(said.process_id(), said.payload()) {
                    break;
                }
                next = heard.iter().next()?;
            }
            Ok(())
        })
    }

    /// A connection that was lost is made again.
    pub(super) fn ready_again(&self) -> Result<()> {
        self.ready()
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
        match self.begin_snapshot_here() {
            Err(_) if self.trouble.get() == Some(Trouble::Lost) => {
                self.ready()?;
                self.begin_snapshot_here()
            }
            begun => begun,
        }
    }

    /// The same on this very connection, whether it may be used or not.
    pub(super) fn begin_snapshot_here(&self) -> Result<()> {
        self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    }

    pub(in crate::store) fn take(&self, steps: &[Step]) -> Result<()> {
        let all: Vec<&str> = steps.iter().flat_map(|step| step.sql()).copied().collect();
        self.batch(&all.join(";"))
    }

    /// Commits a word into the log of the server that no table holds. Like every commit it is answered once it is on the
    /// disk, and at the synchronous standby where there is one; the log before it is then, too.
    pub(in crate::store) fn confirm(&self) -> Result<()> {
        self.batch("SELECT pg_logical_emit_message(true, 'm2key', 'looked up')")
    }

    pub(in crate::store) fn roll_back(&self) {
        if self.trouble.get() != Some(Trouble::Lost) {
            let _ = self.batch("ROLLBACK");
        }
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
        let mut client = self.client.borrow_mut();
        if client
            .as_ref()
            .is_some_and(|client| is_same && !was_lost && !client.is_closed())
        {
            return Ok(());
        }
        *client = None;
        self.statements.borrow_mut().clear();
        match self.begins.begin(&self.connect) {
            Ok((new, server)) => {
                *client = Some(new);
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

    fn with_client<T>(
        &self,
        ask: impl FnOnce(&mut Client) -> std::result::Result<T, postgres::Error>,
    ) -> Result<T> {
        let mut client = self.client.borrow_mut();
        let client = client
            .as_mut()
            .ok_or_else(|| unusable("PostgreSQL is away"))?;
        ask(client).map_err(|error| self.note(error))
    }

    fn note(&self, error: postgres::Error) -> crate::store::StoreError {
        if let Some(trouble) = trouble(&error) {
            self.trouble.set(Some(trouble));
        }
        if is_of_other_tables(&error) {
            self.connect.plans.fetch_add(1, Ordering::Relaxed);
        }
        error.into()
    }

    fn with_statement<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        ask: impl FnOnce(
            &mut Client,
            &Statement,
            &[&(dyn ToSql + Sync)],
        ) -> std::result::Result<T, postgres::Error>,
    ) -> Result<T> {
        self.with_client(|client| {
            let statement = self.statement(client, sql, values)?;
            let given = values.iter().filter(|it| **it != Value::Null);
            let given: Vec<_> = given.map(|it| it as &(dyn ToSql + Sync)).collect();
            ask(client, &statement, &given)
        })
    }

    fn statement(
        &self,
        client: &mut Client,
        sql: &str,
        values: &[Value<'_>],
    ) -> std::result::Result<Statement, postgres::Error> {
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
        let statement = client.prepare_typed(&in_its_words(sql, values), &kinds)?;
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(key, statement.clone());
        Ok(statement)
    }
}

impl Begins {
    fn begin(&self, connect: &Connect) -> Result<(Client, Option<Server>)> {
        let (mut client, server) = connect.connect()?;
        match self {
            Self::Nothing => {}
            Self::Listening => client.batch_execute(&format!(
                "SELECT set_config('application_name',
                     current_setting('application_name') || ' listening', false);
                 SET idle_session_timeout = '{}ms';
                 LISTEN {CHANNEL}",
                LEASE.as_millis()
            ))?,
            Self::CallingOut => client.batch_execute("SET synchronous_commit = off")?,
            Self::Holding { chain } => hold(&mut client, chain)?,
        }
        Ok((client, server))
    }
}

/// Waits for whoever has just gone: the server may not have noticed yet.
fn hold(client: &mut Client, chain: &str) -> Result<()> {
    let Touches::These(keys) = Touches::these(&[Subject::Named("chain", chain.as_bytes())]) else {
        return Ok(());
    };
    for key in keys {
        let held = client.batch_execute(&format!("SELECT pg_advisory_lock({key})"));
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
    /// The driver says good-bye and waits for it, which it cannot where tasks run.
    fn drop(&mut self) {
        let client = self.client.get_mut().take();
        let _ = std::thread::Builder::new().spawn(move || drop(client));
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

impl Value<'_> {
    /// A byte that tells the kinds apart, and what PostgreSQL calls it.
    fn kind(&self) -> (u8, Type) {
        match self {
            Self::Null => (0, Type::UNKNOWN),
            Self::Integer(_) => (1, Type::INT8),
            Self::Text(_) => (2, Type::TEXT),
            Self::Blob(_) => (3, Type::BYTEA),
        }
    }
}

impl std::fmt::Debug for Value<'_> {
    /// Without the value: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().1.name())
    }
}

type Error = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut postgres::types::private::BytesMut,
    ) -> std::result::Result<IsNull, Error> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> std::result::Result<Self, Error> {
        Ok(match *ty {
            Type::INT8 => Self::Integer(i64::from_sql(ty, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(ty, raw)?.into()),
            Type::BOOL => Self::Integer(bool::from_sql(ty, raw)?.into()),
            Type::BYTEA => Self::Blob(raw),
            _ => Self::Text(<&str>::from_sql(ty, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Error> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4 | Type::BOOL | Type::BYTEA)
            || <&str as FromSql>::accepts(ty)
    }
}
