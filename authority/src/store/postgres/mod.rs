//! How is the store kept in PostgreSQL, for more than one node?

mod conn;
mod connect;
mod error;
mod line;
mod moving;
mod news;
pub(in crate::store) mod partitions;
mod replicas;
mod schema;
mod server;
mod value;

use std::path::Path;
use std::sync::Arc;

use protocol::time::Millis;

use self::conn::Begins;
pub(in crate::store) use self::conn::PgConn;
pub(in crate::store) use self::connect::Connect;
pub use self::connect::PostgresPlace;
pub use self::moving::Moved;
pub(in crate::store) use self::news::{Caller, Neighbours};
pub(in crate::store) use self::replicas::{Replica, Replicas};
pub use self::schema::SchemaState;
use super::sql::SqlStore;
use super::sql::audit::Chain;
use super::sql::conn::{Conn, params};
use super::sql::control::Touches;
use super::sql::persons::random;
use super::{Result, StoreError};
use crate::store::sqlite::error::unusable;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Whose audit chains are appended: one for each lane. Two processes with one name are refused.
    pub node: String,
    pub place: PostgresPlace,
    /// Most writes that wait for their commit; one more is refused as busy.
    pub queue_max: usize,
    /// How many transactions write at a time.
    pub lanes: usize,
    /// How many reads run at a time; as many at each replica.
    pub readers: usize,
    /// Servers that follow the one that writes, as in `place`; one each.
    pub replicas: Vec<String>,
    /// A replica that is further behind is not read from.
    pub replica_lag_max_ms: Millis,
}

/// How far behind a replica may be, if nobody says so.
pub const REPLICA_LAG_MAX_MS: Millis = 10_000;

impl PostgresOptions {
    pub fn new(node: impl Into<String>, place: PostgresPlace) -> Self {
        Self {
            node: node.into(),
            place,
            queue_max: 4_096,
            lanes: 4,
            readers: 8,
            replicas: Vec::new(),
            replica_lag_max_ms: REPLICA_LAG_MAX_MS,
        }
    }
}

/// Opens the database at its present schema. Blocks while it connects.
pub fn open(options: PostgresOptions) -> Result<SqlStore> {
    let connect = Connect::to(&options.place, &format!("m2key-authority {}", options.node))?;
    on_a_thread(move || open_here(&connect, options))
}

/// Brings the schema up to date, and says how many steps that took.
pub fn migrate(place: &PostgresPlace) -> Result<u32> {
    with_conn(place, |conn| match conn {
        Conn::Postgres(postgres) => schema::migrate(postgres, conn),
        Conn::Sqlite(_) => Ok(0),
    })
}

/// Moves an embedded store into the database, which must be empty, and answers what it held.
pub fn move_from(file: &Path, place: &PostgresPlace) -> Result<Vec<Moved>> {
    let file = file.to_owned();
    with_conn(place, move |conn| match conn {
        Conn::Postgres(postgres) => moving::move_all(&file, postgres),
        Conn::Sqlite(_) => Ok(Vec::new()),
    })
}

/// At which version the schema is.
pub fn schema_state(place: &PostgresPlace) -> Result<SchemaState> {
    with_conn(place, schema::state)
}

fn with_conn<T: Send + 'static>(
    place: &PostgresPlace,
    ask: impl FnOnce(&Conn) -> Result<T> + Send + 'static,
) -> Result<T> {
    let connect = Connect::to(place, "m2key-authority")?;
    on_a_thread(move || ask(&Conn::Postgres(Box::new(PgConn::open(connect)?))))
}

fn open_here(connect: &Arc<Connect>, options: PostgresOptions) -> Result<SqlStore> {
    let connection = |begins| {
        Ok(Conn::Postgres(Box::new(PgConn::open_as(
            connect.clone(),
            begins,
        )?)))
    };
    let lane = |number| {
        let chain = chain_name(&options.node, number);
        let begins = Begins::Holding {
            chain: chain.clone(),
        };
        Ok((connection(begins)?, Chain::of(chain)))
    };
    let readers: Vec<_> = (0..options.readers.max(1))
        .map(|_| connection(Begins::Nothing))
        .collect::<Result<_>>()?;
    if let Some(first) = readers.first() {
        schema::check(first)?;
    }
    let lanes: Vec<_> = (0..options.lanes.max(1)).map(lane).collect::<Result<_>>()?;
    if let Some((first, _)) = lanes.first() {
        begin_life(first, &options.node)?;
    }
    let is_copied = !options.replicas.is_empty();
    let neighbours = Neighbours::start(connect, &options.node, is_copied)?;
    let store = SqlStore::start(
        lanes,
        readers,
        Some(neighbours),
        options.queue_max,
        Some(connect.clone()),
    )?;
    Ok(store.with_replicas(Replicas::start(&options)?))
}

/// Reads from a server in question.
pub(in crate::store) async fn ask_in_question<T: Send + 'static>(
    connect: Arc<Connect>,
    ask: impl FnOnce(&Conn) -> Result<T> + Send + 'static,
) -> Result<T> {
    let asked = tokio::task::spawn_blocking(move || {
        on_a_thread(move || {
            let conn = PgConn::open_in_question(connect)?;
            conn.begin_snapshot_here()?;
            ask(&Conn::Postgres(Box::new(conn)))
        })
    });
    asked
        .await
        .unwrap_or_else(|_| Err(unusable("the comparison was given up")))
}

/// The first lane's chain is the node's own.
fn chain_name(node: &str, lane: usize) -> String {
    match lane {
        0 => node.to_owned(),
        other => format!("{node}#{other}"),
    }
}

/// The row that every database of ours has, made by whoever comes first.
fn begin_life(conn: &Conn, node: &str) -> Result<()> {
    conn.begin(&Touches::Everything)?;
    let parting_key: [u8; 32] = random()?;
    conn.execute(
        "INSERT INTO meta (only_row, generation, node, parting_key) VALUES (1, 1, ?1, ?2)
         ON CONFLICT DO NOTHING",
        params![node, parting_key],
    )?;
    conn.take(&[super::sql::control::Step::Commit])
}

/// The driver waits on a runtime of its own, which cannot stand inside another one.
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let thread = std::thread::Builder::new()
        .name("store-opener".into())
        .spawn(work)
        .map_err(|error| unusable(format!("no thread for the store: {error}")))?;
    thread.join().unwrap_or_else(|_| {
        Err(StoreError::Corrupt {
            detail: "opening the store panicked".into(),
        })
    })
}
