//! What does a service manager hear from a daemon?

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Failure;

/// How long anything is waited for before a test fails.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// The socket of systemd's protocol, held by a test.
pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ServiceManager {
    pub fn listen(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(WAIT_LIMIT))?;
        Ok(Self { socket, path })
    }

    /// What is started so counts as stuck when it does not beat within `watchdog`.
    pub fn over<'a>(&self, daemon: &'a mut Command, watchdog: Duration) -> &'a mut Command {
        daemon.env("NOTIFY_SOCKET", &self.path);
        daemon.env("WATCHDOG_USEC", watchdog.as_micros().to_string())
    }

    /// The next datagram; fails when none comes.
    pub fn next(&self) -> Result<String, Failure> {
        let mut bytes = [0; 256];
        let length = self.socket.recv(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// What comes within this time.
    pub fn within(&self, limit: Duration) -> Result<Vec<String>, Failure> {
        let until = std::time::Instant::now() + limit;
        let mut heard = Vec::new();
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            if let Ok(what) = self.next() {
                heard.push(what);
            }
        }
        self.socket.set_read_timeout(Some(WAIT_LIMIT))?;
        Ok(heard)
    }
}
