//! How does a test talk to agent code that must live in its own process?
//!
//! Line commands to its stdin, JSON lines from its stdout.

use serde_json::Value;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long a line may take before the test fails; nothing is ever asserted about less.
const LINE_LIMIT: Duration = Duration::from_secs(30);

pub struct Probe {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    unclaimed: Vec<Value>,
    jobs: u64,
    /// Where it keeps what it knows, unless the test gave it a place; the probe may be killed, and cleans
    /// nothing up.
    _scratch: TempDir,
}

impl Probe {
    /// Starts `program` as a client of the pcscd that listens at `pcscd_socket`.
    pub fn start(program: &Path, pcscd_socket: &Path, args: &[&str]) -> io::Result<Probe> {
        let scratch = TempDir::new()?;
        let mut child = Command::new(program)
            .arg("--scratch")
            .arg(scratch.path())
            .args(args)
            .env("PCSCLITE_CSOCK_NAME", pcscd_socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("its stdout was piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            let parsed = BufReader::new(stdout).lines().map_while(Result::ok);
            for value in parsed.filter_map(|line| serde_json::from_str(&line).ok()) {
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Ok(Probe {
            child,
            stdin,
            lines,
            unclaimed: Vec::new(),
            jobs: 0,
            _scratch: scratch,
        })
    }

    pub fn send(&mut self, line: &str) {
        let stdin = self
            .stdin
            .as_mut()
            .expect("it is open until the probe ends");
        writeln!(stdin, "{line}").expect("the probe reads its commands until it ends");
    }

    /// The first line not yet claimed that fits; waits for it if need be.
    pub fn wait_for(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.unclaimed.iter().position(&fits) {
                return self.unclaimed.remove(at);
            }
            match self.lines.recv_timeout(LINE_LIMIT) {
                Ok(line) => self.unclaimed.push(line),
                Err(_) => panic!("no line for {what}; unclaimed: {:#?}", self.unclaimed),
            }
        }
    }

    pub fn wait_for_event(&mut self, name: &str) -> Value {
        self.wait_for(name, |line| line["event"] == name)
    }

    /// Whether an event came that nobody has claimed.
    pub fn has_event(&self, name: &str) -> bool {
        self.unclaimed.iter().any(|line| line["event"] == name)
    }

    /// Asks for a message on the tag and waits for what became of it.
    pub fn show(&mut self, message: &[u8]) -> Value {
        let job = self.begin_show(message);
        self.result(job)
    }

    /// Asks without waiting; `result` waits.
    pub fn begin_show(&mut self, message: &[u8]) -> u64 {
        self.jobs += 1;
        let hex: String = message.iter().map(|b| format!("{b:02x}")).collect();
        self.send(&format!("show {} {hex}", self.jobs));
        self.jobs
    }

    pub fn result(&mut self, job: u64) -> Value {
        self.wait_for(&format!("job {job}"), |line| line["job"] == job)
    }

    /// Ends its input and waits until it has put everything down.
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }

    pub fn status(&mut self) -> Value {
        self.send("status");
        let line = self.wait_for("status", |line| !line["status"].is_null());
        line["status"].clone()
    }
}

impl Drop for Probe {
    /// The end of its input ends it; one that hangs in a call is ended here.
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
