//! One PostgreSQL cluster for all facts, and a new database in it for each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use authority::store::SqlStore;
use authority::store::postgres::{self, PostgresOptions, PostgresPlace};
use own_postgres::{Cluster, Durability, SUPERUSER};

/// A database whose schema is up to date; most others are a copy of it.
const TEMPLATE: &str = "blank";

/// A database of one test.
pub(crate) struct Database {
    name: String,
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
        open(self.place(), node, lanes)
    }

    pub(crate) fn place(&self) -> PostgresPlace {
        place_of(cluster(), &self.name)
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        cluster().sql(&self.name, sql)
    }
}

pub(crate) fn open(place: PostgresPlace, node: &str, lanes: usize) -> SqlStore {
    let options = PostgresOptions {
        lanes,
        readers: 3,
        ..PostgresOptions::new(node, place)
    };
    postgres::open(options).unwrap()
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
