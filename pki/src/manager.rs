//! What does the service manager hear from a daemon?
//!
//! On Linux systemd's protocol (`sd_notify(3)`): one datagram each to the socket that `NOTIFY_SOCKET` names.
//! Twenty lines rather than a crate, which could only be told by the environment of the whole process.
//! Whoever was started otherwise tells nobody.

use std::io;
use std::time::Duration;

/// How often a daemon beats within the time after which it counts as stuck.
const BEATS: u32 = 3;

/// The service manager, if there is one.
#[derive(Default)]
pub struct Manager {
    tell: Option<Box<dyn Fn(Word) + Send + Sync>>,
    watchdog: Option<Duration>,
}

/// What it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Ready,
    Stopping,
    Alive,
}

impl Manager {
    /// The one that started this process.
    pub fn of_environment() -> io::Result<Self> {
        let text = |name| std::env::var(name).ok();
        let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
            return Ok(Self::default());
        };
        let own = std::process::id().to_string();
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let limit = text("WATCHDOG_USEC").filter(|_| ours);
        let limit = limit.and_then(|limit| limit.parse().ok());
        Self::at(&socket, limit.map(Duration::from_micros))
    }

    /// The one that listens there, and expects a beat within this time.
    #[cfg(unix)]
    pub fn at(socket: &std::ffi::OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = connected(socket)?;
        // Nobody is there to be told that it failed.
        let tell = move |word: Word| drop(socket.send(word.datagram()));
        Ok(Self {
            watchdog,
            ..Self::through(tell)
        })
    }

    #[cfg(not(unix))]
    fn at(_: &std::ffi::OsStr, _: Option<Duration>) -> io::Result<Self> {
        Ok(Self::default())
    }

    /// One that is told in another way, and waits for no beat.
    pub fn through(tell: impl Fn(Word) + Send + Sync + 'static) -> Self {
        Self {
            tell: Some(Box::new(tell)),
            watchdog: None,
        }
    }

    /// Everything listens.
    pub fn ready(&self) {
        self.tell(Word::Ready);
    }

    /// On the way out.
    pub fn stopping(&self) {
        self.tell(Word::Stopping);
    }

    /// The work goes on. Only who does the work may say so.
    pub fn alive(&self) {
        self.tell(Word::Alive);
    }

    /// How often [`Self::alive`] is to be said; none if nobody waits for it.
    pub fn beat_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / BEATS)
    }

    fn tell(&self, word: Word) {
        if let Some(tell) = &self.tell {
            tell(word);
        }
    }
}

#[cfg(unix)]
impl Word {
    fn datagram(self) -> &'static [u8] {
        match self {
            Self::Ready => b"READY=1",
            Self::Stopping => b"STOPPING=1",
            Self::Alive => b"WATCHDOG=1",
        }
    }
}

/// A path, or with an `@` before it a name of Linux' own.
#[cfg(unix)]
fn connected(socket: &std::ffi::OsStr) -> io::Result<std::os::unix::net::UnixDatagram> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixDatagram;

    let ours = UnixDatagram::unbound()?;
    match socket.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            ours.connect_addr(&address)?;
        }
        _ => ours.connect(socket)?,
    }
    // A manager that does not read holds nobody up: the next beat comes.
    ours.set_nonblocking(true)?;
    Ok(ours)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_manager_hears_one_datagram_for_each_thing_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let listening = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::at(path.as_os_str(), Some(Duration::from_secs(30))).unwrap();
        assert_eq!(manager.beat_every(), Some(Duration::from_secs(10)));
        manager.ready();
        manager.alive();
        manager.stopping();
        let mut heard = Vec::new();
        for _ in 0..3 {
            let mut bytes = [0; 64];
            let length = listening.recv(&mut bytes).unwrap();
            heard.push(String::from_utf8(bytes[..length].into()).unwrap());
        }
        assert_eq!(heard, ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_begins_with_an_at_is_no_file() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;

        let name = format!("m2key-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let manager = Manager::at(format!("@{name}").as_ref(), None).unwrap();
        manager.ready();
        let mut bytes = [0; 64];
        assert_eq!(listening.recv(&mut bytes).unwrap(), 7);
        assert_eq!(manager.beat_every(), None);
    }

    #[test]
    fn nobody_is_told_where_there_is_no_manager() {
        let nobody = Manager::default();
        nobody.ready();
        assert_eq!(nobody.beat_every(), None);
    }
}
