//! Where does everything stand that must still be true tomorrow?

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::check::Mistakes;
use crate::store::postgres::PostgresPlace;

/// The journal's name beside an embedded store.
const JOURNAL_NAME: &str = "fence.journal";

/// The database, and how much of it this node uses.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub place: StorePlace,
    /// Most writes that wait for a commit.
    pub queue_max: usize,
    /// Connections that only read.
    pub readers: usize,
}

#[derive(Debug, Clone)]
pub enum StorePlace {
    /// The embedded database of one node.
    Sqlite(PathBuf),
    /// The database of many nodes, and how many transactions of this one write at a time.
    Postgres { place: PostgresPlace, lanes: usize },
}

impl StorePlace {
    /// What a message calls it.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres { place, .. } => {
                format!("{} at {}", place.database, place.hosts.join(", "))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    path: Option<PathBuf>,
    postgres: Option<RawPostgres>,
    #[serde(default = "super::raw::queue_max")]
    queue_max: usize,
    #[serde(default = "readers")]
    readers: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPostgres {
    hosts: Vec<String>,
    database: String,
    user: String,
    password_file: Option<PathBuf>,
    root: Option<PathBuf>,
    #[serde(default = "lanes")]
    lanes: usize,
}

impl RawStore {
    pub(super) fn check(&self, has_journal: bool, m: &mut Mistakes) {
        m.range("store.queue_max", self.queue_max as u64, 1, 65_536);
        m.range("store.readers", self.readers as u64, 1, 64);
        match (&self.path, &self.postgres) {
            (Some(_), None) => {}
            (None, Some(postgres)) => postgres.check(has_journal, m),
            (None, None) => m.add(
                "store",
                "no database",
                "path = the file of the embedded store, or [store.postgres]",
            ),
            (Some(_), Some(_)) => m.add(
                "store",
                "two databases",
                "either path, or [store.postgres]; `m2key-authority migrate --from` moves from one to the other",
            ),
        }
    }

    /// Where the journal lies if nobody says so.
    pub(super) fn journal(&self) -> PathBuf {
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        path.with_file_name(JOURNAL_NAME)
    }

    pub(super) fn resolve(self, folder: &Path) -> StoreConfig {
        let place = match (self.path, self.postgres) {
            (_, Some(postgres)) => StorePlace::Postgres {
                lanes: postgres.lanes,
                place: PostgresPlace {
                    hosts: postgres.hosts,
                    database: postgres.database,
                    user: postgres.user,
                    password_file: postgres.password_file.map(|file| folder.join(file)),
                    root: postgres.root.map(|file| folder.join(file)),
                },
            },
            (path, None) => StorePlace::Sqlite(folder.join(path.unwrap_or_default())),
        };
        StoreConfig {
            place,
            queue_max: self.queue_max,
            readers: self.readers,
        }
    }
}

impl RawPostgres {
    fn check(&self, has_journal: bool, m: &mut Mistakes) {
        m.range("store.postgres.lanes", self.lanes as u64, 1, 64);
        let is_socket = |host: &String| host.starts_with('/');
        if self.hosts.is_empty() {
            let hint =
                "host:port of every server, e.g. db-1.example:5432, or the directory of its socket";
            m.add("store.postgres.hosts", "no server", hint);
        }
        if self.root.is_none() && !self.hosts.iter().all(is_socket) {
            m.add(
                "store.postgres.root",
                "a server over the network, and nothing says which one is ours",
                "PEM of the CA that issued the certificates of the servers",
            );
        }
        if !has_journal {
            let hint = "[fence] journal = a file on a disk of this node";
            m.add("fence.journal", "no place for the journal", hint);
        }
    }
}

fn readers() -> usize {
    2
}

fn lanes() -> usize {
    4
}
