//! How is the store kept in one SQLite file?
//!
//! One connection writes, a few read beside it (WAL). The embedded store: what a newcomer gets.

pub(in crate::store) mod error;
pub(in crate::store) mod schema;

use std::path::Path;

use super::Result;
use super::sql::SqlStore;
use super::sql::audit::Chain;
use super::sql::conn::Conn;

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

/// Opens the database, makes it if there is none, and brings its schema up to date. The process must be
/// the only one that writes the file: a lock of the daemon sees to that.
pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<SqlStore> {
    let path = path.as_ref();
    let writer = Conn::Sqlite(schema::open_writer(path, &options.node)?);
    let readers = (0..options.readers.max(1))
        .map(|_| Ok(Conn::Sqlite(schema::open_reader(path)?)))
        .collect::<Result<_>>()?;
    let lane = (writer, Chain::of(options.node));
    SqlStore::start(vec![lane], readers, None, options.queue_max, None)
}
