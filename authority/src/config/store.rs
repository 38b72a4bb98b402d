//! Where does everything stand that must still be true tomorrow?

use std::path::{Path, PathBuf};

use protocol::time::Millis;
use serde::Deserialize;

use super::check::Mistakes;
use crate::store::postgres::{PostgresPlace, REPLICA_LAG_MAX_MS};

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
    Postgres {
        place: PostgresPlace,
        lanes: usize,
        standby: Standby,
        replicas: Replicas,
    },
}

/// Copies that what may lag is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    pub hosts: Vec<String>,
    /// One that is further behind is not read from.
    pub lag_max_ms: Millis,
}

/// Below, a replica that follows at once would not count: a node writes by what that is judged once a second.
const LAG_MAX_MS_LEAST: u64 = 3_000;
/// Pages of the books are read there from an hour back on.
const LAG_MAX_MS_MOST: u64 = 300_000;

/// Who else must have what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standby {
    /// Nobody, as far as this node knows.
    #[default]
    None,
    /// A standby that every commit waits for; without one the node is not ready.
    Synchronous,
}

impl StorePlace {
    /// Whether a node is ready only while commits wait for a standby.
    pub fn requires_standby(&self) -> bool {
        matches!(
            self,
            Self::Postgres {
                standby: Standby::Synchronous,
                ..
            }
        )
    }

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
    #[serde(default)]
    standby: Standby,
    #[serde(default)]
    replicas: Vec<String>,
    #[serde(default = "replica_lag_max_ms")]
    replica_lag_max_ms: u64,
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
                standby: postgres.standby,
                replicas: Replicas {
                    hosts: postgres.replicas,
                    lag_max_ms: postgres.replica_lag_max_ms as Millis,
                },
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
        let lag = self.replica_lag_max_ms;
        let name = "store.postgres.replica_lag_max_ms";
        m.range(name, lag, LAG_MAX_MS_LEAST, LAG_MAX_MS_MOST);
        let mut all = self.hosts.iter().chain(&self.replicas);
        if self.root.is_none() && !all.all(is_socket) {
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

fn replica_lag_max_ms() -> u64 {
    REPLICA_LAG_MAX_MS as u64
}

fn lanes() -> usize {
    4
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::{Config, ConfigError, Standby, StorePlace};

    const MINIMAL: &str = include_str!("../../../config/authority.toml");
    const FULL: &str = include_str!("../../../config/authority.full.toml");
    const EMBEDDED: &str = "[store]\npath = \"/var/lib/m2key/store.sqlite\"\n";
    const JOURNAL: &str = "[fence]\njournal = \"fence.journal\"\n";

    /// The minimal sample with this in the place of its store.
    fn with(store: &str) -> Result<Config, ConfigError> {
        assert!(MINIMAL.contains(EMBEDDED), "the sample names its store");
        let file = std::path::Path::new("/etc/m2key/authority.toml");
        Config::parse(&MINIMAL.replace(EMBEDDED, store), file)
    }

    /// What is commented out in the full sample, of the database of many nodes.
    fn sample() -> String {
        let from = FULL.find("# [store.postgres]").unwrap();
        let lines = FULL[from..].lines().take_while(|line| !line.is_empty());
        let keys = lines.filter(|line| line.contains(" = ") || line.contains('['));
        keys.map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect()
    }

    fn keys(refused: Result<Config, ConfigError>) -> Vec<String> {
        let error = refused.unwrap_err();
        assert!(error.mistakes.iter().all(|it| !it.hint.is_empty()));
        error.mistakes.into_iter().map(|it| it.key).collect()
    }

    #[test]
    fn the_sample_of_many_nodes_holds() {
        let config = with(&format!("{JOURNAL}{}", sample())).unwrap();
        let StorePlace::Postgres {
            place,
            lanes,
            standby,
            replicas,
        } = config.store.place
        else {
            panic!("it names a PostgreSQL")
        };
        assert_eq!(place.hosts.len(), 2);
        assert_eq!((lanes, standby), (4, Standby::Synchronous));
        let lag = replicas.lag_max_ms;
        assert_eq!((replicas.hosts.len(), lag), (1, 10_000));
        assert_eq!(
            place.root.unwrap().to_str(),
            Some("/etc/m2key/database-root.pem")
        );
    }

    #[test]
    fn a_store_is_in_one_place() {
        assert_eq!(keys(with("[store]\n")), ["store"]);
        let both = format!("{JOURNAL}{EMBEDDED}{}", sample());
        assert_eq!(keys(with(&both)), ["store"]);
    }

    #[test]
    fn a_server_over_the_network_needs_a_root_and_a_socket_does_not() {
        let rootless = sample().replace("root = ", "# root = ");
        let journalled = format!("{JOURNAL}{rootless}");
        assert_eq!(keys(with(&journalled)), ["store.postgres.root"]);
        let hosts = "[\"db-1.example:5432\", \"db-2.example:5432\"]";
        assert!(journalled.contains(hosts), "the sample's hosts");
        let socket = journalled.replace(hosts, "[\"/run/postgresql\"]");
        let socket = socket.replace("replicas = ", "# replicas = ");
        assert!(!with(&socket).unwrap().store.place.name().is_empty());
        let nowhere = format!("{JOURNAL}{}", sample().replace(hosts, "[]"));
        assert_eq!(keys(with(&nowhere)), ["store.postgres.hosts"]);
    }

    #[test]
    fn without_a_file_of_its_own_the_journal_needs_a_place() {
        assert_eq!(keys(with(&sample())), ["fence.journal"]);
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        for wrong in ["standby = \"perhaps\"\n", "passwort = \"\"\n"] {
            let text = format!(
                "{JOURNAL}{}{wrong}",
                sample().replace("standby", "# standby")
            );
            let error = with(&text).unwrap_err().to_string();
            let name = wrong.split('"').nth(1).unwrap();
            assert!(
                error.contains(name) || error.contains("passwort"),
                "{error}"
            );
        }
        let lanes = sample().replace("lanes = 4", "lanes = 65");
        let many = with(&format!("{JOURNAL}{lanes}"));
        assert_eq!(keys(many), ["store.postgres.lanes"]);
    }

    #[test]
    fn a_replica_is_known_by_the_root_and_may_be_so_far_behind() {
        let lag = "replica_lag_max_ms = 10000";
        assert!(sample().contains(lag), "the sample's bound");
        for wrong in ["2999", "300001"] {
            let text = sample().replace(lag, &format!("replica_lag_max_ms = {wrong}"));
            let refused = with(&format!("{JOURNAL}{text}"));
            assert_eq!(keys(refused), ["store.postgres.replica_lag_max_ms"]);
        }
        let rootless = sample().replace("root = ", "# root = ");
        let hosts = "[\"db-1.example:5432\", \"db-2.example:5432\"]";
        let text = rootless.replace(hosts, "[\"/run/postgresql\"]");
        let refused = with(&format!("{JOURNAL}{text}"));
        assert_eq!(keys(refused), ["store.postgres.root"]);
    }
}
