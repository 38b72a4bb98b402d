//! How is all of this kept in a database, whichever it is?
//!
//! ```text
//! verb that writes ──▶ writer.rs: lanes of threads, shared durable commits ─┐
//! verb that reads  ──▶ readers.rs: snapshots beside them ──────────────────┴▶ conn.rs ─▶ sqlite/ | postgres/
//! ```
//! One file per topic, as the traits are; every verb is written once, in SQL that both databases read.
//! docs/DATA_MODEL.md explains the tables.
#![allow(
    clippy::result_large_err,
    reason = "a refusal carries the caller's whole answer, and is moved once"
)]

mod allowances;
pub(super) mod audit;
mod booking;
mod bookings;
mod brought;
mod caps;
mod certificates;
mod charges;
pub(super) mod conn;
mod consents;
pub(super) mod control;
mod disputes;
mod fence;
mod identities;
mod intents;
mod ledger;
mod merchants;
mod misses;
pub(super) mod nodes;
mod parted;
mod passkeys;
mod payments;
pub(super) mod persons;
mod profiles;
mod proofs;
pub(super) mod readers;
mod refunds;
mod reports;
mod retention;
mod revocations;
mod rotation;
pub(super) mod row;
mod service_accounts;
mod sessions;
mod settle;
mod settlements;
mod sign_ins;
mod sms;
mod subjects;
mod tags;
mod taps;
mod terminals;
mod terms;
mod timelines;
mod together;
mod tokens;
mod trust;
mod turns;
mod unheard;
mod wallets;
mod wear;
mod webhooks;
mod writer;

use std::sync::Arc;

use self::audit::Chain;
use self::conn::Conn;
use self::control::Touches;
use self::readers::Readers;
use self::timelines::Acknowledged;
use self::writer::{Tx, Verdict, Writer};
use super::Result;
use super::answer::{in_half_time, in_time};
use super::asked::asked_for;
use super::lagging;
use super::nodes::Lanes;
use super::postgres::{Connect, Neighbours, Replica, Replicas};
use crate::journal::Journal;

/// The store over one of the databases; `sqlite` and `postgres` open it.
pub struct SqlStore {
    writer: Writer,
    readers: Readers,
    /// False where a write is alone anyway.
    writes_beside_others: bool,
    /// None where there are no other nodes.
    neighbours: Option<Neighbours>,
    /// What is heard then: writes of this process whose callers went away.
    own_news: Lanes,
    acknowledged: Arc<Acknowledged>,
    /// Where there is one that may be another tomorrow.
    server: Option<Arc<Connect>>,
    /// What may lag is read there; none where there are none.
    replicas: Option<Replicas>,
}

impl SqlStore {
    /// Each lane writes, and appends to its own chain.
    pub(super) fn start(
        lanes: Vec<(Conn, Chain)>,
        readers: Vec<Conn>,
        neighbours: Option<Neighbours>,
        queue_max: usize,
        server: Option<Arc<Connect>>,
    ) -> Result<Self> {
        let acknowledged = Arc::new(Acknowledged::default());
        let own_news = neighbours
            .as_ref()
            .map_or_else(Lanes::narrow, |it| it.lanes().clone());
        let writes_beside_others = lanes
            .iter()
            .any(|(conn, _)| matches!(conn, Conn::Postgres(_)));
        Ok(Self {
            writer: Writer::start(
                lanes,
                neighbours.as_ref().map(Neighbours::caller),
                queue_max,
                acknowledged.clone(),
                own_news.clone(),
            )?,
            readers: Readers::new(readers),
            writes_beside_others,
            neighbours,
            own_news,
            acknowledged,
            server,
            replicas: None,
        })
    }

    pub(super) fn with_replicas(mut self, replicas: Replicas) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// From now on what a restored copy must not forget goes into this journal before it is
    /// acknowledged.
    pub fn attach(&self, journal: Journal) {
        self.writer.attach(journal);
    }

    /// A write that may touch anything, and is alone.
    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Verdict<T> + Send + 'static,
    {
        self.write_on(Touches::Everything, work).await
    }

    /// A write that is alone with what it touches.
    async fn write_on<T, F>(&self, touches: Touches, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Verdict<T> + Send + 'static,
    {
        lagging::stay_with_primary();
        let by = asked_for();
        let work = move |tx: &mut Tx<'_>| {
            tx.by.clone_from(&by);
            work(tx)
        };
        in_time(self.writer.write(touches, work)).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Conn) -> Result<T> + Send + Sync + 'static,
    {
        match self.replica() {
            Some(replica) => in_time(self.read_beside(replica, work)).await,
            None => in_time(self.readers.read(work)).await,
        }
    }

    /// From the replica, or if that fails from the primary.
    async fn read_beside<T, F>(&self, replica: &Replica, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Conn) -> Result<T> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let again = work.clone();
        match in_half_time(replica.readers.read_soon(move |conn| work(conn))).await {
            Ok(read) => {
                replica.count();
                Ok(read)
            }
            Err(why) => {
                replica.set_aside(&why);
                lagging::stay_with_primary();
                self.readers.read(move |conn| again(conn)).await
            }
        }
    }

    /// Where to read what may lag; none: from the primary.
    fn replica(&self) -> Option<&Replica> {
        let (replicas, neighbours) = self.replicas.as_ref().zip(self.neighbours.as_ref())?;
        let chosen = lagging::choose(
            || replicas.pick(neighbours),
            |which| replicas.is_current(which, neighbours),
        );
        replicas.get(chosen?)
    }

    /// A read that finds a few rows by their keys.
    async fn look<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Conn) -> Result<T> + Send + 'static,
    {
        in_time(self.readers.look(work)).await
    }
}
