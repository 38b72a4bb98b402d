//! How does a test get a PostgreSQL of its own?
//!
//! A cluster in a new directory, reached by a Unix socket there, stopped and removed with its handle or with
//! the process that made it. The server is Debian's; without it a test fails and says what to install.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a server is polled, with a bound"
)]

mod keeper;
mod network;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keeper::Keeper;
pub use network::{Network, PASSWORD};

/// Where Debian puts the programs of each version of the server.
const VERSIONS: &str = "/usr/lib/postgresql";
/// How often, and how far apart, a cluster is knocked at while it starts.
const STARTING_TRIES: usize = 600;
const STARTING_PAUSE: Duration = Duration::from_millis(50);
/// The user that every cluster has, and that needs no password on its socket.
pub const SUPERUSER: &str = "m2key";
/// The database, and tablespace, of [`Cluster::with_small_disk`].
pub const SMALL: &str = "small";
/// Of a socket, where nobody listens on the network.
const PORT: u16 = 5432;

/// How a cluster is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Commits are on the disk before they are acknowledged, as in the field.
    Full,
    /// Only the process may be lost, not the machine: for tests that are not about that.
    OfProcess,
}

/// A running cluster.
pub struct Cluster {
    home: PathBuf,
    owner: Owner,
    /// What the server is told when it starts, `name=value` each.
    settings: Vec<String>,
    port: u16,
    has_small_disk: bool,
    keeper: Option<Keeper>,
}

/// Who the server runs as: it refuses root.
#[derive(Clone, Copy)]
struct Owner(Option<(u32, u32)>);

impl Cluster {
    /// A new cluster, started.
    ///
    /// # Panics
    /// Without the server's programs, and where the cluster does not start.
    pub fn start(durability: Durability) -> Self {
        let mut cluster = Self::make(durability);
        cluster.init();
        cluster.run();
        cluster
    }

    /// With a database [`SMALL`] on a disk of a few megabytes, of which a table `ballast` is a part.
    pub fn with_small_disk() -> Self {
        let mut cluster = Self::make(Durability::OfProcess);
        cluster.has_small_disk = true;
        cluster.init();
        cluster.run();
        let disk = cluster.home.join("disk").display().to_string();
        cluster.sql(
            "postgres",
            &format!("CREATE TABLESPACE {SMALL} LOCATION '{disk}'"),
        );
        cluster.sql(
            "postgres",
            &format!("CREATE DATABASE {SMALL} TABLESPACE {SMALL}"),
        );
        let ballast =
            "CREATE TABLE ballast AS SELECT repeat('x', 100) FROM generate_series(1, 30000)";
        cluster.sql(SMALL, ballast);
        cluster
    }

    /// A new cluster on a port of the loopback.
    pub fn on_network(network: &Network) -> Self {
        let mut cluster = Self::make(Durability::OfProcess);
        cluster.init();
        network.prepare(&mut cluster);
        cluster.run();
        cluster.sql(
            "postgres",
            &format!("ALTER ROLE {SUPERUSER} PASSWORD '{PASSWORD}'"),
        );
        cluster
    }

    /// A copy that follows this one.
    pub fn standby(&self, name: &str) -> Self {
        let mut standby = Self::make(Durability::Full);
        let mut copy = standby.program("pg_basebackup");
        copy.args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--write-recovery-conf",
        ]);
        copy.args(["--username", SUPERUSER, "--host"])
            .arg(&self.home);
        copy.arg("--pgdata").arg(standby.data());
        succeeds(&mut copy);
        standby.settings.push(format!("cluster_name={name}"));
        standby.run();
        self.wait_for("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'");
        standby
    }

    /// From now on commits are acknowledged once this standby has them.
    pub fn waits_for(&self, name: &str) {
        let settings = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
        self.sql("postgres", &settings);
        self.sql("postgres", "SELECT pg_reload_conf()");
        self.wait_for("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'");
    }

    /// Makes a standby the one that writes, on a new timeline.
    pub fn promote(&self) {
        // It copied whom its primary waits for.
        self.sql(
            "postgres",
            "ALTER SYSTEM SET synchronous_standby_names = ''",
        );
        self.sql("postgres", "SELECT pg_promote(true)");
    }

    /// SIGKILL to every process of the server.
    pub fn kill(&self) {
        self.keeper().does("kill");
    }

    /// After a kill.
    pub fn start_again(&self) {
        self.keeper().does("run");
        self.wait_until_it_answers();
    }

    /// An exact copy of its disk, made while it is killed.
    pub fn copy_disk(&self) {
        let mut copy = self.program("cp");
        succeeds(copy.arg("-a").arg(self.data()).arg(self.copied()));
    }

    /// Puts that copy in the place of what it has on its disk now, while it is killed.
    pub fn put_disk_back(&self) {
        std::fs::remove_dir_all(self.data()).expect("it is ours");
        std::fs::rename(self.copied(), self.data()).expect("it was copied");
    }

    /// SIGSTOP to every process of the server: it is there, and answers nothing.
    pub fn pause(&self) {
        self.keeper().does("pause");
    }

    pub fn resume(&self) {
        self.keeper().does("resume");
    }

    fn keeper(&self) -> &Keeper {
        self.keeper.as_ref().expect("a cluster runs from its start")
    }

    /// A directory that belongs to whom the server runs as.
    fn make(durability: Durability) -> Self {
        let owner = Owner::find();
        let made = tempfile::Builder::new().prefix("m2key-pg-").tempdir();
        let home = made.expect("a directory for PostgreSQL").keep();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))
            .expect("it is ours");
        owner.takes(&home);
        let mut settings = vec![
            "max_connections=300".to_owned(),
            format!("unix_socket_directories={}", home.display()),
        ];
        if durability == Durability::OfProcess {
            settings.extend(["fsync=off".into(), "full_page_writes=off".into()]);
        }
        Self {
            home,
            owner,
            settings,
            port: PORT,
            has_small_disk: false,
            keeper: None,
        }
    }

    fn init(&self) {
        let mut initdb = self.program("initdb");
        initdb.args([
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--username",
        ]);
        initdb.args([SUPERUSER, "--pgdata"]).arg(self.data());
        succeeds(&mut initdb);
    }

    /// Starts the server; its keeper ends it when this process lets go.
    fn run(&mut self) {
        if self.port == PORT {
            self.settings.push("listen_addresses=".into());
        }
        self.keeper = Some(Keeper::start(self));
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        for _ in 0..STARTING_TRIES {
            let mut asked = self.program("pg_isready");
            asked.arg("-q").args(["-p", &self.port.to_string(), "-h"]);
            let asked = asked.arg(&self.home).status();
            if asked.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(STARTING_PAUSE);
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// Waits until this has a row.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn wait_for(&self, sql: &str) {
        for _ in 0..STARTING_TRIES {
            if !self.sql("postgres", sql).is_empty() {
                return;
            }
            std::thread::sleep(STARTING_PAUSE);
        }
        panic!("it never came true: {sql}\n{}", self.log());
    }

    /// The directory of its socket.
    pub fn socket(&self) -> &Path {
        &self.home
    }

    /// Where it listens, if it does.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a database, from a template if one is named.
    pub fn create_database(&self, name: &str, template: Option<&str>) {
        let template = template.map_or_else(String::new, |it| format!(" TEMPLATE {it}"));
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name}{template} STRATEGY file_copy"),
        );
    }

    /// Runs SQL as the superuser, and answers what it says, a row a line.
    ///
    /// # Panics
    /// When it fails, with the server's words.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let said = self.try_sql(database, sql);
        said.unwrap_or_else(|why| panic!("{sql}: {why}"))
    }

    /// The same; what the server refuses is an error, in its words.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.program("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            SUPERUSER,
        ]);
        psql.args(["-p", &self.port.to_string(), "-h"])
            .arg(&self.home)
            .args(["-d", database, "-c", sql]);
        let ran = psql.output().expect("psql runs");
        match ran.status.success() {
            true => Ok(String::from_utf8_lossy(&ran.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
        }
    }

    /// What the server wrote about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn copied(&self) -> PathBuf {
        self.home.join("copied")
    }

    /// One of the server's, or of the machine's.
    fn program(&self, name: &str) -> Command {
        let of_server = bin().join(name);
        let mut program = match of_server.exists() {
            true => Command::new(of_server),
            false => Command::new(name),
        };
        self.owner.runs(&mut program);
        program.current_dir(&self.home);
        program
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.take());
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

impl Owner {
    fn find() -> Self {
        let is_root = id(&["-u"]) == Some(0);
        if !is_root {
            return Self(None);
        }
        let of = |what| id(&[what, "postgres"]).unwrap_or_else(|| panic!("{}", INSTALL));
        Self(Some((of("-u"), of("-g"))))
    }

    fn takes(self, path: &Path) {
        if let Self(Some((user, group))) = self {
            chown(path, Some(user), Some(group)).expect("root may");
        }
    }

    fn runs(self, program: &mut Command) {
        if let Self(Some((user, group))) = self {
            program.uid(user).gid(group);
        }
    }
}

const INSTALL: &str = "PostgreSQL is not installed: scripts/setup.sh test";

fn succeeds(program: &mut Command) {
    let ran = program.output().expect("Debian's programs run");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program:?}: {said}");
}

fn id(args: &[&str]) -> Option<u32> {
    let said = Command::new("id").args(args).output().ok()?;
    String::from_utf8(said.stdout).ok()?.trim().parse().ok()
}

/// The programs of the newest version.
fn bin() -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).unwrap_or_else(|_| panic!("{}", INSTALL));
    let newest = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .max();
    newest.unwrap_or_else(|| panic!("{}", INSTALL))
}
