//! One PostgreSQL cluster for all facts, and a new database in it for each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use authority::store::SqlStore;
use authority::store::postgres::{self, PostgresOptions, PostgresPlace};
use own_postgres::{Cluster, Durability, SUPERUSER};

/// A database whose schema is up to date; every other one is a copy of it.
const TEMPLATE: &str = "blank";

/// A database of one test.
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        cluster().create_database(&name, Some(TEMPLATE));
        Self { name }
    }

    /// A store of this node over the database, with so many lanes, and chains.
    pub(crate) fn open(&self, node: &str, lanes: usize) -> SqlStore {
        let options = PostgresOptions {
            lanes,
            readers: 3,
            ..PostgresOptions::new(node, place(&self.name))
        };
        postgres::open(options).unwrap()
    }
}

fn place(database: &str) -> PostgresPlace {
    PostgresPlace {
        hosts: vec![cluster().socket().display().to_string()],
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
        let place = PostgresPlace {
            hosts: vec![cluster.socket().display().to_string()],
            database: TEMPLATE.into(),
            user: SUPERUSER.into(),
            password_file: None,
            root: None,
        };
        std::thread::spawn(move || postgres::migrate(&place))
            .join()
            .unwrap()
            .unwrap();
        cluster
    })
}
