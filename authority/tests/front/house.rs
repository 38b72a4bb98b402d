//! An authority of one test: its folder, its daemon, and how to ask it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::homes::Home;

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const BINARY: &str = env!("CARGO_BIN_EXE_m2key-authority");

pub struct House {
    /// Goes down before its folder does.
    signer: OnceLock<Signer>,
    temp: TempDir,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Ended with this code, and said what is wrong and what to do.
    #[track_caller]
    pub fn refused(&self, code: i32, error: &str, hint: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(
            self.err.contains("error: ") && self.err.contains(error),
            "{self:?}"
        );
        assert!(
            self.err.contains("hint: ") && self.err.contains(hint),
            "{self:?}"
        );
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl House {
    /// A folder in which nothing is yet.
    pub fn empty() -> Self {
        assert!(
            Path::new(MODULE).exists(),
            "these tests need SoftHSM: apt-get install -y softhsm2"
        );
        for tool in ["openssl", "curl"] {
            let found = Command::new(tool).arg("--version").output().is_ok();
            assert!(found, "these tests need {tool}: apt-get install -y {tool}");
        }
        Self {
            signer: OnceLock::new(),
            temp: tempfile::tempdir().unwrap(),
        }
    }

    /// An initialised authority with free ports, and its signer at work.
    pub fn new() -> Self {
        let house = Self::without_signer();
        house.start_signer();
        house
    }

    /// The same while the signer is away. It is a copy of what one `init` of this process made.
    pub fn without_signer() -> Self {
        static MADE: OnceLock<Home> = OnceLock::new();
        let house = Self::empty();
        let home = MADE.get_or_init(|| Home::take_in(&Self::of_its_own().dir()));
        home.copy_to(&house.dir());
        house
    }

    /// The same with keys that no other has.
    pub fn of_its_own() -> Self {
        let house = Self::empty();
        let said = house.init(&[]);
        assert_eq!(said.code, 0, "{said:?}");
        house
    }

    pub fn start_signer(&self) {
        self.start_signer_by(pki_command());
    }

    /// By a command that runs m2key-pki.
    pub fn start_signer_by(&self, command: Command) {
        self.signer
            .get_or_init(|| Signer::start(command, &self.signer_config()));
    }

    /// SIGKILL, as if the power had gone.
    pub fn kill_signer(&mut self) {
        self.signer.take();
    }

    pub fn signer_config(&self) -> PathBuf {
        self.dir().join("signer/signer.toml")
    }

    /// A verb of m2key-pki for this house's signer.
    pub fn pki(&self, arguments: &[&str]) -> Said {
        let mut command = pki_command();
        command
            .args(arguments)
            .arg("--config")
            .arg(self.signer_config());
        let said: Said = command.output().unwrap().into();
        self.assert_mute(&said);
        said
    }

    /// A verb of the root that `init` made, with its passphrase.
    pub fn root(&self, arguments: &[&str]) -> Said {
        let root = self.dir().join("root");
        let (dir, passphrase) = (text(&root), root.join("passphrase"));
        let key = ["--dir", dir, "--passphrase-file", text(&passphrase)];
        self.pki_alone(&[&["root"], arguments, &key].concat())
    }

    /// A verb of m2key-pki that asks nobody.
    pub fn pki_alone(&self, arguments: &[&str]) -> Said {
        let said: Said = pki_command().args(arguments).output().unwrap().into();
        self.assert_mute(&said);
        said
    }

    pub fn dir(&self) -> PathBuf {
        self.temp.path().join("authority")
    }

    /// A place for the test's own files.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.dir().join("authority.toml")
    }

    /// Replaces one piece of the configuration.
    pub fn edit_config(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(self.config(), text.replacen(from, to, 1)).unwrap();
    }

    pub fn init(&self, more: &[&str]) -> Said {
        self.init_with(None, more)
    }

    /// With a SoftHSM configuration of the operator's own.
    pub fn init_with(&self, softhsm_conf: Option<&Path>, more: &[&str]) -> Said {
        let dir = self.dir();
        let mut arguments = vec!["init", "--dir", dir.to_str().unwrap(), "--non-interactive"];
        for listener in ["--public-listen", "--agents-listen", "--loopback-listen"] {
            arguments.extend([listener, "127.0.0.1:0"]);
        }
        arguments.extend(more);
        let mut command = command(&arguments);
        if let Some(conf) = softhsm_conf {
            command.env("SOFTHSM2_CONF", conf);
        }
        let said: Said = command.output().unwrap().into();
        self.assert_mute(&said);
        said
    }

    /// A verb with this house's configuration.
    pub fn verb(&self, arguments: &[&str]) -> Said {
        let config = self.config();
        let mut all = vec!["--config", config.to_str().unwrap()];
        all.extend(arguments);
        self.command(&all)
    }

    /// The same, with a SoftHSM configuration that is not the house's.
    pub fn verb_with_softhsm(&self, softhsm_conf: &Path, arguments: &[&str]) -> Said {
        let config = self.config();
        let mut command = command(&["--config", config.to_str().unwrap()]);
        command.args(arguments).env("SOFTHSM2_CONF", softhsm_conf);
        let said: Said = command.output().unwrap().into();
        self.assert_mute(&said);
        said
    }

    pub fn command(&self, arguments: &[&str]) -> Said {
        let said: Said = command(arguments).output().unwrap().into();
        self.assert_mute(&said);
        said
    }

    /// No PIN and no passphrase in anything that is said.
    fn assert_mute(&self, said: &Said) {
        let secrets = ["hsm/authority.pin", "signer/pin", "root/passphrase"];
        for secret in secrets
            .iter()
            .filter_map(|s| std::fs::read_to_string(self.dir().join(s)).ok())
        {
            let (out, err) = (
                said.out.contains(secret.trim()),
                said.err.contains(secret.trim()),
            );
            assert!(!out && !err, "a secret was printed");
        }
    }

    pub fn serve(&self) -> Daemon {
        self.serve_by(command(&[]))
    }

    /// By a command that runs m2key-authority.
    pub fn serve_by(&self, mut command: Command) -> Daemon {
        let mut child = command
            .args(["--config", self.config().to_str().unwrap(), "serve"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let read = read_until_serving(&mut child);
        let text = std::fs::read(self.dir().join("run/addresses.json")).unwrap();
        Daemon {
            child,
            addresses: serde_json::from_slice(&text).unwrap(),
            log: read,
            dir: self.dir(),
        }
    }

    /// Starts a daemon that must not serve: one that does is killed, and has no exit code.
    pub fn serve_in_vain(&self) -> Said {
        let mut child = command(&["--config", text(&self.config()), "serve"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut err = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.contains(" serving ") {
                child.kill().unwrap();
            }
            err += &format!("{line}\n");
        }
        let said = Said {
            code: child.wait().unwrap().code().unwrap_or(-1),
            out: String::new(),
            err,
        };
        self.assert_mute(&said);
        said
    }

    /// A merchant and a terminal of it: the terminal's id and its join token.
    pub fn terminal(&self) -> (String, String) {
        let said = self.verb(&[
            "merchant",
            "add",
            "--name",
            "Shop",
            "--currency",
            "EUR",
            "--json",
        ]);
        let merchant = said.json()["merchant"].as_str().unwrap().to_owned();
        let said = self.verb(&["terminal", "add", "--merchant", &merchant, "--json"]);
        let text = |key: &str| said.json()[key].as_str().unwrap().to_owned();
        (text("terminal"), text("join_token"))
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .env_remove("SOFTHSM2_CONF")
        .stdin(Stdio::null());
    command
}

/// What it logs until it serves.
fn read_until_serving(child: &mut Child) -> String {
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut read = String::new();
    while !read.contains("serving") {
        let more = log.read_line(&mut read).unwrap();
        assert_ne!(more, 0, "it does not serve: {read}");
    }
    // Read on, so that it never waits for us.
    std::thread::spawn(move || log.lines().for_each(drop));
    read
}

/// m2key-pki stands beside m2key-authority.
fn pki_command() -> Command {
    let program = Path::new(BINARY).with_file_name("m2key-pki");
    assert!(
        program.exists(),
        "m2key-pki is not built: cargo build --workspace"
    );
    let mut command = Command::new(program);
    command.env_remove("SOFTHSM2_CONF").stdin(Stdio::null());
    command
}

/// A running signer; it goes down with the test.
#[derive(Debug)]
struct Signer(Child);

impl Signer {
    fn start(mut command: Command, config: &Path) -> Self {
        let mut child = command
            .arg("signer")
            .arg("--config")
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        read_until_serving(&mut child);
        Self(child)
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running daemon; it goes down with the test.
pub struct Daemon {
    child: Child,
    /// What it logged until it served.
    pub log: String,
    addresses: Value,
    dir: PathBuf,
}

/// What an HTTP request came to.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
    /// What curl says when there is no reply.
    pub err: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// A problem of this type, with a next step.
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let problem = self.json();
        assert_eq!(
            problem["type"],
            format!("urn:m2key:problem:{slug}"),
            "{self:?}"
        );
        assert!(!problem["next_step"].as_str().unwrap().is_empty());
    }
}

impl Daemon {
    pub fn port(&self, listener: &str) -> u16 {
        let address: std::net::SocketAddr =
            self.addresses[listener].as_str().unwrap().parse().unwrap();
        address.port()
    }

    /// curl against the agents' listener, trusting this house's root only.
    pub fn agents(&self, path: &str, more: &[&str]) -> Reply {
        let root = self.dir.join("root.pem");
        let url = format!("https://localhost:{}{path}", self.port("agents"));
        let mut arguments = vec!["--cacert", root.to_str().unwrap()];
        arguments.extend(more);
        curl(&url, &arguments)
    }

    pub fn public(&self, path: &str, more: &[&str]) -> Reply {
        let root = self.dir.join("root.pem");
        let url = format!("https://localhost:{}{path}", self.port("public"));
        let mut arguments = vec!["--cacert", root.to_str().unwrap()];
        arguments.extend(more);
        curl(&url, &arguments)
    }

    pub fn loopback(&self, path: &str) -> Reply {
        curl(
            &format!("http://127.0.0.1:{}{path}", self.port("loopback")),
            &[],
        )
    }

    /// Has the daemon read its certificates again.
    pub fn hang_up(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(sent.unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, then its end.
    pub fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn curl(url: &str, more: &[&str]) -> Reply {
    let output = Command::new("curl")
        .args([
            "-sS",
            "-w",
            "\n%{http_code}",
            "--noproxy",
            "*",
            "--max-time",
            "60",
        ])
        .args(more)
        .arg(url)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    Reply {
        status: status.parse().unwrap_or(0),
        body: body.into(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// openssl, which must succeed.
#[track_caller]
pub fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {err}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
