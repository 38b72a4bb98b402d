//! One PostgreSQL cluster for all facts, and a new database in it for each.
#![allow(dead_code, reason = "each test program uses a part")]

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use authority::store::postgres::{self, PostgresOptions, PostgresPlace};
use authority::store::{SqlStore, StoreError};
use own_postgres::{Cluster, Durability, SUPERUSER};

/// What every write takes, together with all others, and a few take for themselves.
const ALL: i64 = 0x4d32_4b59;
/// A database whose schema is up to date; most others are a copy of it.
const TEMPLATE: &str = "blank";

/// A database of one test.
pub(crate) struct Database {
    name: String,
}

/// Nobody writes until it lets go, or goes away.
pub(crate) struct HeldWrites(tokio_postgres::Client);

impl HeldWrites {
    pub(crate) async fn let_go(self) {
        let let_go = format!("SELECT pg_advisory_unlock({ALL})");
        self.0.batch_execute(&let_go).await.unwrap();
    }
}

impl Database {
    pub(crate) fn new() -> Self {
        Self::like(Some(TEMPLATE))
    }

    /// In which nothing is, not even a schema.
    pub(crate) fn bare() -> Self {
        Self::like(None)
    }

    fn like(template: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        cluster().create_database(&name, template);
        Self { name }
    }

    /// A store of this node over the database, with so many lanes, and chains.
    pub(crate) fn open(&self, node: &str, lanes: usize) -> SqlStore {
        self.try_open(node, lanes).unwrap()
    }

    pub(crate) fn try_open(&self, node: &str, lanes: usize) -> Result<SqlStore, StoreError> {
        try_open(self.place(), node, lanes)
    }

    pub(crate) fn place(&self) -> PostgresPlace {
        place_of(cluster(), &self.name)
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        cluster().sql(&self.name, sql)
    }

    /// Waits until nobody writes here, and has nobody begin to.
    pub(crate) async fn hold_writes(&self) -> HeldWrites {
        let place = self.place();
        let mut config = tokio_postgres::Config::new();
        config.host_path(&place.hosts[0]).user(&place.user);
        config.dbname(&place.database);
        let (client, line) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(line);
        let hold = format!("SELECT pg_advisory_lock({ALL})");
        client.batch_execute(&hold).await.unwrap();
        HeldWrites(client)
    }

    /// What the server wrote about itself, and about all databases.
    pub(crate) fn log(&self) -> String {
        cluster().log()
    }

    /// Whoever listens here hears nothing until this is dropped: their server process is stopped.
    pub(crate) fn silence(&self, node: &str) -> Silence {
        let listens = format!("m2key-authority {node} listening");
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND application_name = '{listens}'",
            self.name
        );
        let pid = cluster().sql("postgres", &sql);
        assert!(!pid.is_empty(), "{node} does not listen");
        stop(pid)
    }

    /// Whoever calls out for this node says nothing until this is dropped.
    pub(crate) fn hush(&self, node: &str) -> Silence {
        stop(self.caller(node))
    }

    /// The number of the server process that calls out for this node, which has done so.
    pub(crate) fn caller(&self, node: &str) -> String {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'm2key-authority {node}'
                 AND query LIKE 'SELECT pg_notify%' AND state = 'idle'",
            self.name
        );
        cluster().wait_for(&sql);
        cluster().sql("postgres", &sql)
    }
}

/// A server process that is stopped.
pub(crate) struct Silence(String);

impl Drop for Silence {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn stop(pid: String) -> Silence {
    signal("-STOP", &pid);
    Silence(pid)
}

fn signal(which: &str, pid: &str) {
    let sent = Command::new("kill").args([which, pid]).status().unwrap();
    assert!(sent.success());
}

pub(crate) fn open(place: PostgresPlace, node: &str, lanes: usize) -> SqlStore {
    try_open(place, node, lanes).unwrap()
}

fn try_open(place: PostgresPlace, node: &str, lanes: usize) -> Result<SqlStore, StoreError> {
    let options = PostgresOptions {
        lanes,
        readers: 3,
        ..PostgresOptions::new(node, place)
    };
    postgres::open(options)
}

/// A database of a cluster, by its socket.
pub(crate) fn place_of(cluster: &Cluster, database: &str) -> PostgresPlace {
    PostgresPlace {
        hosts: vec![cluster.socket().display().to_string()],
        database: database.into(),
        user: SUPERUSER.into(),
        password_file: None,
        root: None,
    }
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::start(Durability::OfProcess);
        cluster.create_database(TEMPLATE, None);
        postgres::migrate(&place_of(&cluster, TEMPLATE)).unwrap();
        cluster
    })
}
