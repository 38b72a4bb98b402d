//! How does an authority that was made on the embedded store come to a PostgreSQL of its own?

use std::path::Path;

use authority::store::postgres::{self, PostgresPlace};
use own_postgres::{Cluster, SUPERUSER};

use super::itself::Fault;

/// Of the embedded store in a home.
pub(crate) const STORE: &str = "store.sqlite";
const CONFIG: &str = "authority.toml";

pub(crate) fn place_of(cluster: &Cluster, database: &str) -> PostgresPlace {
    PostgresPlace {
        hosts: vec![cluster.socket().display().to_string()],
        database: database.into(),
        user: SUPERUSER.into(),
        password_file: None,
        root: None,
    }
}

/// What is in the embedded store stands in this new database then, and the configuration says so.
pub(crate) fn to(home: &Path, cluster: &Cluster, database: &str) -> Result<(), Fault> {
    cluster.create_database(database, None);
    let place = place_of(cluster, database);
    postgres::migrate(&place)?;
    postgres::move_from(&home.join(STORE), &place)?;
    configure(home, cluster.socket(), database)
}

fn configure(home: &Path, socket: &Path, database: &str) -> Result<(), Fault> {
    let path = home.join(CONFIG);
    let mut config: toml::Table = std::fs::read_to_string(&path)?.parse()?;
    let place = format!(
        "[postgres]\nhosts = [\"{}\"]\ndatabase = \"{database}\"\nuser = \"{SUPERUSER}\"\n",
        socket.display(),
    );
    config.insert("store".into(), place.parse::<toml::Table>()?.into());
    let journal: toml::Table = "journal = \"fence.journal\"".parse()?;
    config.insert("fence".into(), journal.into());
    Ok(std::fs::write(path, config.to_string())?)
}
