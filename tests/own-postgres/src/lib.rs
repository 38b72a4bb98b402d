//! How does a test get a PostgreSQL of its own?
//!
//! A cluster in a new directory, reached by a Unix socket there, stopped and removed with its handle or with
//! the process that made it. The server is Debian's; without it a test fails and says what to install.
#![forbid(unsafe_code)]

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where Debian puts the programs of each version of the server.
const VERSIONS: &str = "/usr/lib/postgresql";
/// How often, and how far apart, a cluster is knocked at while it starts.
const STARTING_TRIES: usize = 600;
const STARTING_PAUSE: Duration = Duration::from_millis(50);
/// The user that every cluster has, and that needs no password on its socket.
pub const SUPERUSER: &str = "m2key";

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
    settings: String,
    keeper: Option<Child>,
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
        let settings = match durability {
            Durability::Full => "",
            Durability::OfProcess => "-c fsync=off -c full_page_writes=off",
        };
        let mut cluster = Self::make(settings);
        cluster.init();
        cluster.run();
        cluster
    }

    /// A directory that belongs to whom the server runs as.
    fn make(settings: &str) -> Self {
        let owner = Owner::find();
        let made = tempfile::Builder::new().prefix("m2key-pg-").tempdir();
        let home = made.expect("a directory for PostgreSQL").keep();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755))
            .expect("it is ours");
        owner.takes(&home);
        Self {
            home,
            owner,
            settings: settings.into(),
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
            SUPERUSER,
        ]);
        initdb.arg("--pgdata").arg(self.data());
        let made = initdb.output().expect("initdb runs");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }

    /// Starts the server; a keeper ends it, and removes everything, when this process lets go.
    fn run(&mut self) {
        let script = "\"$@\" >>\"$LOG\" 2>&1 & server=$!
            while read -r _; do :; done
            kill -INT $server 2>/dev/null; wait $server; [ -z \"$HOME_TO_REMOVE\" ] || rm -rf \"$HOME_TO_REMOVE\"";
        let mut keeper = Command::new("sh");
        self.owner.runs(&mut keeper);
        keeper.args(["-c", script, "sh"]);
        keeper
            .arg(bin().join("postgres"))
            .arg("-D")
            .arg(self.data());
        keeper.args(["-c", "listen_addresses=", "-c", "max_connections=300"]);
        keeper
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.home.display()));
        keeper.args(self.settings.split_whitespace());
        keeper
            .env(
                "LOG",
                std::env::var("PGLOG").unwrap_or(self.home.join("log").display().to_string()),
            )
            .env("HOME_TO_REMOVE", &self.home);
        keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        keeper.current_dir(&self.home);
        self.keeper = Some(keeper.spawn().expect("sh runs"));
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        for _ in 0..STARTING_TRIES {
            let asked = self
                .program("pg_isready")
                .arg("-q")
                .arg("-h")
                .arg(&self.home)
                .status();
            if asked.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(STARTING_PAUSE);
        }
        panic!("PostgreSQL does not start:\n{}", self.log());
    }

    /// The directory of its socket.
    pub fn socket(&self) -> &Path {
        &self.home
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
        psql.arg("-h")
            .arg(&self.home)
            .args(["-d", database, "-c", sql]);
        let ran = psql.output().expect("psql runs");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{sql}: {said}");
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// What the server wrote about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut program = Command::new(bin().join(name));
        self.owner.runs(&mut program);
        program.current_dir(&self.home);
        program
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
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
