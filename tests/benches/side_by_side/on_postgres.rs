//! The same payments over a PostgreSQL of their own, beside one that only inserts.

use std::path::Path;
use std::time::{Duration, Instant};

use own_postgres::{Cluster, Durability, SUPERUSER};
use tokio_postgres::{Client, Config, NoTls};

use super::bare::GROUP;
use super::itself::Fault;
use super::moved;
use super::ours::SPAN;

const DATABASE: &str = "books";
const BARE: &str = "bare";
/// Of a machine whose clients wait for their payments: Debian's own settings are for any machine.
const SETTINGS: [&str; 2] = ["shared_buffers = '512MB'", "max_wal_size = '4GB'"];

/// Ends with this.
pub(crate) struct Server(Cluster);

impl Server {
    /// With what is in this home, which is configured for it then.
    pub(crate) fn start(home: &Path) -> Result<Self, Fault> {
        let cluster = Cluster::start(Durability::Full);
        for setting in SETTINGS {
            cluster.sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
        }
        cluster.kill();
        cluster.start_again();
        moved::to(home, &cluster, DATABASE)?;
        cluster.create_database(BARE, None);
        let table = "CREATE TABLE spent (token BYTEA PRIMARY KEY NOT NULL, rest BYTEA NOT NULL)";
        cluster.sql(BARE, table);
        Ok(Self(cluster))
    }

    /// A connection for bare commits.
    pub(crate) async fn bare(&self) -> Result<Bare, Fault> {
        let mut config = Config::new();
        config.host_path(self.0.socket());
        config.user(SUPERUSER).dbname(BARE);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(Bare(client))
    }
}

pub(crate) struct Bare(Client);

impl Bare {
    /// Rows a second, durable, [`GROUP`] to a statement and its commit, and how long each took.
    pub(crate) async fn commits(&self) -> Result<(f64, Vec<Duration>), Fault> {
        let insert = format!(
            "INSERT INTO spent SELECT uuid_send(gen_random_uuid()), decode(repeat(md5(n::text), 6), 'hex')
             FROM generate_series(1, {GROUP}) AS n"
        );
        let insert = self.0.prepare(&insert).await?;
        let (start, mut took, mut rows) = (Instant::now(), Vec::new(), 0);
        while start.elapsed() < SPAN {
            let commit = Instant::now();
            rows += self.0.execute(&insert, &[]).await?;
            took.push(commit.elapsed());
        }
        Ok((rows as f64 / start.elapsed().as_secs_f64(), took))
    }
}
