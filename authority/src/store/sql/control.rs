//! How does a transaction begin and end on either database?
//!
//! SQLite has one writer, so whoever writes is alone. On PostgreSQL many write at once: a verb says what it
//! [`Touches`], and holds the locks of that until its commit; what says nothing is alone in the whole
//! cluster, as it would be on SQLite. All locks of a batch are taken at its beginning and in one order, so
//! that two batches never wait for each other.

use super::conn::Conn;
use crate::store::Result;

/// What a verb that writes must have for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Touches {
    /// It may touch anything.
    Everything,
    /// These, and what hangs on them; sorted, each once.
    These(Vec<i64>),
}

/// What a lock is about.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Subject<'a> {
    /// A terminal with its turns, charges, claims, tag and schedules.
    Terminal(protocol::ids::TerminalId),
    /// A shopper, by one of their identities.
    Person(&'a crate::store::PersonKey),
    /// A merchant's limits of the day and closed days.
    Merchant(protocol::ids::MerchantId),
    /// Something with a name of its own that nothing else hangs on.
    Named(&'static str, &'a [u8]),
}

/// A step of the transaction itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Step {
    Savepoint,
    /// What was done since the savepoint stays.
    Release,
    /// Nothing was done since the savepoint.
    Undo,
    Commit,
}

/// What came between a batch and its end, so that it may be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Trouble {
    /// Transactions of others.
    Crossed,
    /// The connection broke; whether a commit that was under way counts, the database knows.
    Lost,
}

impl Touches {
    pub(in crate::store) fn these(subjects: &[Subject<'_>]) -> Self {
        let mut keys: Vec<i64> = subjects.iter().map(Subject::key).collect();
        keys.sort_unstable();
        keys.dedup();
        Self::These(keys)
    }

    /// What both touch.
    pub(in crate::store) fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Self::These(mut keys), Self::These(others)) => {
                keys.extend(others);
                keys.sort_unstable();
                keys.dedup();
                Self::These(keys)
            }
            _ => Self::Everything,
        }
    }
}

impl Subject<'_> {
    /// Two subjects with one key wait for each other, and that is all.
    fn key(&self) -> i64 {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        match self {
            Self::Terminal(id) => {
                hash.update([&b"terminal"[..], &id.value().to_be_bytes()].concat())
            }
            Self::Person(key) => {
                hash.update(b"person");
                hash.update((key.issuer.len() as u64).to_be_bytes());
                hash.update(&key.issuer);
                hash.update(&key.subject);
            }
            Self::Merchant(id) => hash.update([&b"merchant"[..], id.0.as_bytes()].concat()),
            Self::Named(name, of) => hash.update([name.as_bytes(), &[0], of].concat()),
        }
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl Conn {
    /// Begins a transaction that writes what `touches` says.
    pub(in crate::store) fn begin(&self, touches: &Touches) -> Result<()> {
        match self {
            Self::Sqlite(conn) => {
                conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
                Ok(())
            }
            Self::Postgres(conn) => conn.begin(touches),
        }
    }

    /// Takes more locks in the middle of a transaction: those who do so may wait for each other, and are then
    /// run again.
    pub(in crate::store) fn lock(&self, touches: &Touches) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(conn) => conn.lock(touches),
        }
    }

    /// Takes these steps, in one message where there is a line to send it over.
    pub(in crate::store) fn take(&self, steps: &[Step]) -> Result<()> {
        match self {
            Self::Sqlite(conn) => {
                for sql in steps.iter().flat_map(|step| step.sql()) {
                    conn.prepare_cached(sql)?.execute([])?;
                }
                Ok(())
            }
            Self::Postgres(conn) => conn.take(steps),
        }
    }

    /// Gives up the transaction, if there is one. If even this fails, the next begin does too, and says so
    /// to its callers.
    pub(in crate::store) fn roll_back(&self) {
        match self {
            Self::Sqlite(conn) if conn.is_autocommit() => {}
            Self::Sqlite(conn) => {
                let _ = conn.execute_batch("ROLLBACK");
            }
            Self::Postgres(conn) => conn.roll_back(),
        }
    }

    /// What happened to the present transaction, if it is not the job's own failure.
    pub(in crate::store) fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(conn) => conn.trouble(),
        }
    }

    /// A number that is another one after anything was changed, or after a statement failed where that ends what
    /// comes after it.
    pub(in crate::store) fn changes(&self) -> u64 {
        match self {
            Self::Sqlite(conn) => conn.total_changes(),
            Self::Postgres(conn) => conn.changes(),
        }
    }

    /// Takes the answers of what was sent and not waited for.
    pub(in crate::store) fn settle(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(conn) => conn.settle(),
        }
    }

    /// Whether something of this transaction failed that has not been undone, so that none of it can last.
    pub(in crate::store) fn has_failed(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(conn) => conn.has_failed(),
        }
    }

    /// Makes ready for another try, the `retry`-th: waits a little, connects anew.
    pub(in crate::store) fn mend(&self, retry: u32) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(conn) => conn.mend(retry),
        }
    }

    /// Returns once everything that can be seen here is as safe as what is acknowledged.
    pub(in crate::store) fn confirm(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(conn) => conn.confirm(),
        }
    }

    /// False when the database has given up the whole transaction by itself.
    pub(in crate::store) fn holds_transaction(&self) -> bool {
        match self {
            Self::Sqlite(conn) => !conn.is_autocommit(),
            Self::Postgres(conn) => conn.trouble().is_none(),
        }
    }

    /// One snapshot for all that `read` reads.
    pub(in crate::store) fn snapshot<T>(&self, read: impl FnOnce(&Self) -> T) -> Result<T> {
        match self {
            Self::Sqlite(conn) => {
                conn.prepare_cached("BEGIN")?.execute([])?;
            }
            Self::Postgres(conn) => conn.begin_snapshot()?,
        }
        let _snapshot = Snapshot(self);
        Ok(read(self))
    }
}

/// A transaction that only reads; it ends with this, also when the reader panics.
struct Snapshot<'a>(&'a Conn);

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        match self.0 {
            Conn::Sqlite(conn) => {
                // If even this fails, the next begin does too, and says so to its caller.
                let ended = conn.prepare_cached("ROLLBACK");
                let _ = ended.and_then(|mut statement| statement.execute([]));
            }
            Conn::Postgres(conn) => conn.let_go(),
        }
    }
}

impl Step {
    /// The statements of this step, the same on both.
    pub(in crate::store) fn sql(self) -> &'static [&'static str] {
        match self {
            Self::Savepoint => &["SAVEPOINT job"],
            Self::Release => &["RELEASE SAVEPOINT job"],
            Self::Undo => &["ROLLBACK TO SAVEPOINT job", "RELEASE SAVEPOINT job"],
            Self::Commit => &["COMMIT"],
        }
    }
}
