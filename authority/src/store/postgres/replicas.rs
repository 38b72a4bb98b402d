//! Which copies of the database may be read from, and how far behind are they?
//!
//! ```text
//! listener: writes this node's row of `nodes`, by the primary's clock ──replicated──▶ watcher: reads it at the replica
//!              database's clock now ──less the time in that row──▶ at most so far behind
//! ```
//! Whatever was committed before the row that is found there is there, too: so no server's clock is compared with
//! another's, and a copy that follows somebody else, or nobody, is behind. A replica that is gone is looked for in the
//! background, and nobody waits for it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::time::{Millis, Timestamp};

use super::conn::PgConn;
use super::connect::Connect;
use super::news::Neighbours;
use super::{PostgresOptions, PostgresPlace};
use crate::clock::Moment;
use crate::store::sql::conn::{Conn, params};
use crate::store::sql::readers::Readers;
use crate::store::sql::row::{find, get};
use crate::store::sqlite::error::unusable;
use crate::store::{Contact, ReplicaState, Result, SKEW_MAX_MS, StoreError};

/// How often a replica is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A replica that did not answer for so long is gone, whatever it said before.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// All replicas of a store, and the threads that watch them.
pub(in crate::store) struct Replicas {
    all: Vec<Arc<Replica>>,
    lag_max_ms: Millis,
    /// Where the next look begins.
    turn: AtomicUsize,
    _watched: Vec<Sender<()>>,
}

pub(in crate::store) struct Replica {
    host: String,
    pub(in crate::store) readers: Readers,
    seen: Mutex<Seen>,
    reads: AtomicU64,
}

#[derive(Default)]
struct Seen {
    /// When it answered last, and what of this node it knew then.
    at: Option<(Moment, Timestamp)>,
    trouble: Option<String>,
    /// How many reads failed there. A look that began before the last of them says nothing.
    failed: u64,
}

impl Replicas {
    /// Begins to watch them; none of them need be there.
    pub(super) fn start(options: &PostgresOptions) -> Result<Self> {
        let mut replicas = Self {
            all: Vec::new(),
            lag_max_ms: options.replica_lag_max_ms,
            turn: AtomicUsize::new(0),
            _watched: Vec::new(),
        };
        for host in &options.replicas {
            let place = PostgresPlace {
                hosts: vec![host.clone()],
                ..options.place.clone()
            };
            let name = format!("m2key-authority {} at a replica", options.node);
            let connect = Connect::to_replica(&place, &name)?;
            let conn = || Conn::Postgres(Box::new(PgConn::later(connect.clone())));
            let replica = Arc::new(Replica {
                host: host.clone(),
                readers: Readers::new((0..options.readers.max(1)).map(|_| conn()).collect()),
                seen: Mutex::default(),
                reads: AtomicU64::new(0),
            });
            let watcher = Watcher {
                conn: PgConn::later(connect.clone()),
                node: options.node.clone(),
                replica: replica.clone(),
            };
            replicas._watched.push(watcher.start()?);
            replicas.all.push(replica);
        }
        Ok(replicas)
    }

    pub(in crate::store) fn get(&self, which: usize) -> Option<&Replica> {
        self.all.get(which).map(Arc::as_ref)
    }

    /// One that is current, each in turn.
    pub(in crate::store) fn pick(&self, neighbours: &Neighbours) -> Option<usize> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let all = self.all.len();
        let in_turn = (0..all).map(|n| first.wrapping_add(n) % all);
        let mut in_turn = in_turn.filter(|which| self.is_current(*which, neighbours));
        in_turn.next()
    }

    pub(in crate::store) fn is_current(&self, which: usize, neighbours: &Neighbours) -> bool {
        let lag = self.get(which).and_then(|it| it.lag_ms(neighbours));
        lag.is_some_and(|lag| lag <= self.lag_max_ms)
    }

    pub(in crate::store) fn states(&self, neighbours: &Neighbours) -> Vec<ReplicaState> {
        let state = |(which, it): (usize, &Arc<Replica>)| {
            let (failed, trouble) = {
                let seen = it.seen();
                (seen.failed, seen.trouble.clone())
            };
            ReplicaState {
                host: it.host.clone(),
                lag_ms: it.lag_ms(neighbours),
                is_current: self.is_current(which, neighbours),
                reads: it.reads.load(Ordering::Relaxed),
                failed,
                trouble,
            }
        };
        self.all.iter().enumerate().map(state).collect()
    }
}

impl Replica {
    pub(in crate::store) fn count(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// A read failed there: nothing more is read from it until a look has found it well.
    pub(in crate::store) fn set_aside(&self, why: &StoreError) {
        let mut seen = self.seen();
        seen.failed += 1;
        seen.fails(&self.host, why);
    }

    /// How far it is behind at most; none if that is not known.
    fn lag_ms(&self, neighbours: &Neighbours) -> Option<Millis> {
        let Contact::Kept { database_now } = neighbours.contact() else {
            return None;
        };
        // What it knew then it knows now.
        let (_, knows) = self.seen().at.filter(|(at, _)| at.age() < GONE_AFTER)?;
        // What a clock ahead of the primary's has written says nothing.
        Some(database_now - knows).filter(|lag| *lag >= -SKEW_MAX_MS)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn fails(&mut self, host: &str, why: &StoreError) {
        let why = why.to_string();
        if self.trouble.is_none() {
            tracing::warn!(host, %why, "a replica is not read from: the primary is");
        }
        self.trouble = Some(why);
        self.at = None;
    }

    /// What a look found that began when so many reads had failed.
    fn found(&mut self, host: &str, failed: u64, found: Result<Timestamp>) {
        match found {
            Ok(knows) if self.failed == failed => self.is_well(host, knows),
            Ok(_) => {}
            Err(why) => self.fails(host, &why),
        }
    }

    fn is_well(&mut self, host: &str, knows: Timestamp) {
        if self.trouble.take().is_some() {
            tracing::info!(host, "the replica can be read from again");
        }
        self.at = Some((Moment::now(), knows));
    }
}

/// The thread that looks at one of them.
struct Watcher {
    conn: PgConn,
    node: String,
    replica: Arc<Replica>,
}

impl Watcher {
    fn start(self) -> Result<Sender<()>> {
        let (watched, ended) = channel();
        std::thread::Builder::new()
            .name("store-replica".into())
            .spawn(move || self.run(&ended))
            .map_err(|error| unusable(format!("no thread for a replica: {error}")))?;
        Ok(watched)
    }

    fn run(self, ended: &Receiver<()>) {
        let (replica, node) = (self.replica, self.node);
        let conn = Conn::Postgres(Box::new(self.conn));
        let mut pause = Duration::ZERO;
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(pause) {
            pause = LOOK_EVERY;
            let failed = replica.seen().failed;
            let found = look(&conn, &node);
            replica.seen().found(&replica.host, failed, found);
        }
    }
}

/// When this node was seen last, as far as the replica knows.
fn look(conn: &Conn, node: &str) -> Result<Timestamp> {
    if let Conn::Postgres(conn) = conn {
        conn.ready_again()?;
    }
    let sql = "SELECT seen_ms, CASE WHEN pg_is_in_recovery() THEN 1 ELSE 0 END AS follows
         FROM nodes WHERE name = ?1";
    let found = find(conn, sql, params![node], |row| {
        Ok((get::<i64>(row, "seen_ms")?, get::<bool>(row, "follows")?))
    })?;
    match found {
        Some((seen, true)) => Ok(Timestamp::from_ms(seen)),
        Some((_, false)) => Err(unusable("it follows nobody: it was promoted")),
        None => Err(unusable("it does not know this node")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_began_before_a_read_failed_does_not_find_its_replica_well() {
        let host = "10.0.0.7:5432";
        let replica = Replica {
            host: host.into(),
            readers: Readers::new(Vec::new()),
            seen: Mutex::default(),
            reads: AtomicU64::new(0),
        };
        let knows = Timestamp::from_ms(7);
        let is_read_from = || replica.seen().at.is_some();
        replica.seen().found(host, 0, Ok(knows));
        assert!(is_read_from());
        replica.set_aside(&unusable("it was cut"));
        assert!(!is_read_from());
        replica.seen().found(host, 0, Ok(knows));
        assert!(!is_read_from(), "it may have been well before");
        assert!(replica.seen().trouble.is_some());
        replica.seen().found(host, 1, Ok(knows));
        assert!(is_read_from());
        assert_eq!(replica.seen().trouble, None);
        replica.seen().found(host, 1, Err(unusable("it is away")));
        assert!(!is_read_from());
    }
}
