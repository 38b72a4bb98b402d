//! How does one authority of several nodes come up?
//!
//! ```text
//!  fleet ──▶ node 1, node 2, node 3: m2key-authority serve, over one HSM token, one signer
//!               │ line    │ line    │ line: may be cut, or slow
//!               └─────────┴─────────┴──▶ PostgreSQL ──▶ standby
//! ```

mod line;

use std::path::{Path, PathBuf};

use own_postgres::{Durability, SUPERUSER};
use reqwest::StatusCode;
use serde_json::Value;

pub use self::line::Line;
use crate::authority::{Authority, set};
use crate::bank::Bank;
use crate::load::fleet::Fleet;
use crate::load::house::Shell;
use crate::{Failure, wait, web};

/// The database of all nodes.
pub const DATABASE: &str = "m2key";
/// The node that `init` makes.
const FIRST: &str = "authority-1";
/// What a standby is called.
const TWIN: &str = "twin";

/// Everything runs; dropped from the top: first who asks, then who answers.
pub struct Cluster {
    pub fleet: Fleet,
    pub nodes: Vec<Node>,
    pub postgres: own_postgres::Cluster,
    pub standby: Option<own_postgres::Cluster>,
    _bank: Bank,
    dir: PathBuf,
}

/// One node, and its lines to the servers.
pub struct Node {
    pub name: String,
    pub authority: Authority,
    pub lines: Vec<Line>,
}

impl Cluster {
    /// So many nodes in this folder, with a fleet; `standby`: every commit waits for a second server.
    pub async fn open(
        dir: &Path,
        nodes: usize,
        standby: bool,
        (terminals, shoppers): (u32, u32),
    ) -> Result<Self, Failure> {
        let postgres = own_postgres::Cluster::start(Durability::Full);
        postgres.create_database(DATABASE, None);
        let standby = standby.then(|| {
            let twin = postgres.standby(TWIN);
            postgres.waits_for(TWIN);
            twin
        });
        let shell = Shell::build(dir, shoppers).await?;
        let lines = lines(&postgres, standby.as_ref())?;
        let place = store(&lines, standby.is_some());
        shell.authority.change(|config| {
            config.insert("store".into(), place.into());
            set(config, "loopback", "notice_ms", NOTICE_MS);
        })?;
        let file = shell.authority.file("store.sqlite").display().to_string();
        shell.authority.verb(&["migrate", "--from", &file])?;
        let mut shell = shell;
        shell.authority.serve().await?;
        let fleet = shell.furnish(terminals).await?;
        let mut cluster = Self {
            fleet,
            nodes: vec![Node {
                name: FIRST.into(),
                authority: shell.authority,
                lines,
            }],
            postgres,
            standby,
            _bank: shell.bank,
            dir: dir.to_owned(),
        };
        while cluster.nodes.len() < nodes {
            cluster.join().await?;
        }
        Ok(cluster)
    }

    /// One more node; the fleet that is set up next knows it, too.
    pub async fn join(&mut self) -> Result<(), Failure> {
        let lines = lines(&self.postgres, self.standby.as_ref())?;
        let name = format!("authority-{}", self.nodes.len() + 1);
        let store = store(&lines, self.standby.is_some());
        let first = &self.nodes[0].authority;
        let mut authority = first.beside(&name, &self.dir.join(&name), store)?;
        authority.serve().await?;
        self.fleet.public.push(authority.public_url()?);
        self.fleet.agents.push(authority.agents_url()?);
        self.nodes.push(Node {
            name,
            authority,
            lines,
        });
        Ok(())
    }

    /// Asks the server that writes.
    pub fn sql(&self, sql: &str) -> String {
        self.postgres.sql(DATABASE, sql)
    }

    /// The same; what the server refuses is an error, in its words.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.postgres.try_sql(DATABASE, sql)
    }

    /// A standby is the one that writes from now on.
    pub fn fail_over(&mut self) -> Result<(), Failure> {
        let standby = self.standby.take();
        let standby = standby.ok_or_else(|| Failure::new("there is no standby"))?;
        self.postgres.kill();
        standby.promote();
        self.postgres = standby;
        Ok(())
    }

    /// What `node list` says, by the first node that answers.
    pub fn listed(&self) -> Result<Vec<Value>, Failure> {
        let said = self.nodes[0].authority.verb(&["node", "list"])?;
        Ok(said["nodes"].as_array().cloned().unwrap_or_default())
    }
}

impl Node {
    /// Cut from every database.
    pub fn partition(&self) {
        self.lines.iter().for_each(Line::hold);
    }

    pub fn heal(&self) {
        self.lines.iter().for_each(Line::pass);
    }

    /// What `/ready` says: nothing if nobody answers.
    pub async fn ready(&self) -> Option<(bool, String)> {
        let url = format!("{}/ready", self.authority.loopback_url().ok()?);
        let answer = web::plain().ok()?.get(url).send().await.ok()?;
        let is_ready = answer.status() == StatusCode::OK;
        let said: Value = answer.json().await.ok()?;
        Some((is_ready, said["reasons"].to_string()))
    }

    /// Waits until it is.
    pub async fn until_ready(&self) -> Result<(), Failure> {
        let what = format!("{} to be ready", self.name);
        let ready = async || self.ready().await.filter(|(ready, _)| *ready);
        wait::until(&what, ready).await.map(drop)
    }

    /// Waits until it is not, and says this among its reasons.
    pub async fn until_not_ready(&self, words: &str) -> Result<(), Failure> {
        let what = format!("{} to say {words:?}", self.name);
        let says = async || {
            let (ready, why) = self.ready().await?;
            (!ready && why.contains(words)).then_some(())
        };
        wait::until(&what, says).await
    }
}

/// What asks for readiness asks a few times within it.
const NOTICE_MS: i64 = 1_000;

fn lines(
    primary: &own_postgres::Cluster,
    standby: Option<&own_postgres::Cluster>,
) -> Result<Vec<Line>, Failure> {
    let servers = [primary].into_iter().chain(standby);
    servers.map(|server| Line::to(server.socket())).collect()
}

/// The section `[store]` of a node with these lines.
fn store(lines: &[Line], has_standby: bool) -> toml::Table {
    let hosts: Vec<_> = lines
        .iter()
        .map(|line| line.socket().display().to_string())
        .collect();
    let mut postgres = toml::Table::new();
    postgres.insert("hosts".into(), hosts.into());
    postgres.insert("database".into(), DATABASE.into());
    postgres.insert("user".into(), SUPERUSER.into());
    if has_standby {
        postgres.insert("standby".into(), "synchronous".into());
    }
    let mut store = toml::Table::new();
    store.insert("postgres".into(), postgres.into());
    store
}
