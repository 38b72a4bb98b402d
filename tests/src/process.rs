//! How are our own programs found, started, watched and ended?

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::Failure;

/// How much of a log is shown when something failed, in lines.
const LOG_TAIL: usize = 12;
/// Names another agent than the one beside this program: a released one, or one of before.
const AGENT: &str = "M2KEY_AGENT";
/// What must not leak from the caller's shell into a world of its own.
const FOREIGN: [&str; 5] = [
    "SOFTHSM2_CONF",
    "PCSCLITE_CSOCK_NAME",
    "RUST_LOG",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
];

/// A program of this workspace, beside the running one or one directory above (tests lie in `deps/`).
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    if let Some(agent) = std::env::var_os(AGENT).filter(|_| name == "m2key-agent") {
        return Ok(agent.into());
    }
    let own = std::env::current_exe()?;
    let built = own.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    built
        .clone()
        .find(|path| path.exists())
        .ok_or_else(|| Failure::new(format!("{name} is not built: cargo build --workspace")))
}

/// A command line of ours, without what the caller's shell may have set.
pub fn command(name: &str) -> Result<Command, Failure> {
    let mut command = Command::new(program(name)?);
    for variable in FOREIGN {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Runs the command to its end.
    pub fn by(command: &mut Command) -> Result<Self, Failure> {
        let output = command.output()?;
        Ok(Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Exit code 0, or the words of the refusal.
    pub fn ok(self) -> Result<Self, Failure> {
        match self.code {
            0 => Ok(self),
            code => Err(Failure::new(format!(
                "exit code {code}: {}{}",
                self.out, self.err
            ))),
        }
    }

    pub fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.out).map_err(Failure::of(format!("not JSON: {}", self.out)))
    }
}

/// A program that runs until it is ended; it ends with this value.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with everything it prints in `<name>.log` of this folder.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self, Failure> {
        let log = logs.join(format!("{name}.log"));
        let file = append(&log)?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .map_err(Failure::of(format!("{name} does not start")))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Waits for a sign that it works; says what it logged if it ends before.
    pub async fn ready<T>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, Failure> {
        let child = &mut self.child;
        let look = async || match child.try_wait() {
            Ok(None) => look().await.map(Ok),
            _ => Some(Err(())),
        };
        let seen = crate::wait::until(what, look).await;
        match seen {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(())) => Err(self.failed("ended")),
            Err(waited) => Err(self.failed(&waited.to_string())),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: as if the power had gone.
    pub fn kill(&mut self) {
        // It may have ended by itself; then there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A signal by its name.
    pub fn signal(&self, name: &str) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        crate::tools::run("kill", &[&format!("-{name}"), &pid]).map(drop)
    }

    /// SIGTERM, and its exit code.
    pub async fn stop(&mut self) -> Result<Option<i32>, Failure> {
        self.signal("TERM")?;
        let child = &mut self.child;
        let ended = async || child.try_wait().ok().flatten();
        let status = crate::wait::until("a daemon to stop", ended).await?;
        Ok(status.code())
    }

    fn failed(&self, what: &str) -> Failure {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        Failure::new(format!("{}: {what}; its log ends:\n{tail}", self.name))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn append(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(path);
    file.map_err(Failure::of(path.display()))
}
