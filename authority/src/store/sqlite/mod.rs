//! How is all of this kept in one SQLite file?
//!
//! ```text
//! verb that writes ──▶ writer.rs: one thread, shared durable commits
//! verb that reads  ──▶ readers.rs: snapshots beside it (WAL)
//! ```
//! One file per topic, as the traits are. docs/DATA_MODEL.md explains the tables.
#![allow(
    clippy::result_large_err,
    reason = "a refusal carries the caller's whole answer, and is moved once"
)]

mod allowances;
mod audit;
mod booking;
mod bookings;
mod brought;
mod caps;
mod certificates;
mod charges;
mod consents;
mod disputes;
mod error;
mod fence;
mod identities;
mod intents;
mod ledger;
mod merchants;
mod misses;
mod parted;
mod passkeys;
mod payments;
mod persons;
mod profiles;
mod proofs;
mod readers;
mod refunds;
mod reports;
mod revocations;
mod rotation;
mod row;
mod schema;
mod service_accounts;
mod sessions;
mod settle;
mod settlements;
mod sign_ins;
mod sms;
mod tags;
mod taps;
mod terminals;
mod terms;
mod tokens;
mod trust;
mod turns;
mod wallets;
mod wear;
mod webhooks;
mod writer;

use std::path::Path;

use rusqlite::Connection;

use self::audit::Chain;
use self::readers::Readers;
use self::writer::{Tx, Verdict, Writer};
use super::Result;
use super::asked::asked_for;
use crate::journal::Journal;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Whose audit chain is appended; the database remembers it.
    pub node: String,
    /// Most writes that wait for their commit; one more is refused as busy.
    pub queue_max: usize,
    /// How many reads run at a time.
    pub readers: usize,
}

impl SqliteOptions {
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            queue_max: 4_096,
            readers: 4,
        }
    }
}

/// The embedded store. Its process must be the only one that writes the file: a lock of the daemon
/// sees to that.
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
}

impl SqliteStore {
    /// Opens the database, makes it if there is none, and brings its schema up to date.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let path = path.as_ref();
        let conn = schema::open_writer(path, &options.node)?;
        let writer = Writer::start(conn, Chain::of(options.node), options.queue_max)?;
        let readers = Readers::open(path, options.readers)?;
        Ok(Self { writer, readers })
    }

    /// From now on what a restored copy must not forget goes into this journal before it is
    /// acknowledged.
    pub fn attach(&self, journal: Journal) {
        self.writer.attach(journal);
    }

    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Verdict<T> + Send + 'static,
    {
        let by = asked_for();
        let work = move |tx: &mut Tx<'_>| {
            tx.by = by;
            work(tx)
        };
        self.writer.write(work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.readers.read(work).await
    }
}
