//! What if the line between a node and its database is cut, or slow?
//!
//! A socket of its own in the place of the server's. While it holds, nothing passes and nothing is refused, as where
//! packets are lost: whoever asks hears nothing. When it passes again, connections of before are over, as after a
//! while without any answer.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::Failure;

/// What PostgreSQL calls its socket in a directory.
const SOCKET: &str = ".s.PGSQL.5432";
const PART_MAX: usize = 65_536;

/// One way to one server; it ends with this value.
pub struct Line {
    dir: TempDir,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    holds: bool,
    holds_commits: bool,
    is_over: bool,
    /// Each part that a node sends takes so long.
    delay: Duration,
    open: Vec<UnixStream>,
}

impl Line {
    /// To the server whose socket is in this directory.
    pub fn to(server: &Path) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("m2key-line-").tempdir()?;
        let listener = UnixListener::bind(dir.path().join(SOCKET))?;
        let shared = Arc::new(Shared::default());
        let (here, server) = (shared.clone(), server.join(SOCKET));
        std::thread::spawn(move || accept(&listener, &server, &here));
        Ok(Self { dir, shared })
    }

    /// The directory of its socket.
    pub fn socket(&self) -> &Path {
        self.dir.path()
    }

    /// Nothing passes from now on.
    pub fn hold(&self) {
        self.shared.state().holds = true;
    }

    /// No COMMIT passes from now on; everything else does.
    pub fn hold_commits(&self) {
        self.shared.state().holds_commits = true;
    }

    /// Everything passes again, over new connections.
    pub fn pass(&self) {
        let mut state = self.shared.state();
        (state.holds, state.holds_commits) = (false, false);
        for end in state.open.drain(..) {
            hang_up(&end);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// From now on everything that the node says arrives so much later.
    pub fn delay(&self, by: Duration) {
        self.shared.state().delay = by;
        self.shared.changed.notify_all();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_over = true;
        for end in state.open.drain(..) {
            hang_up(&end);
        }
        drop(state);
        self.shared.changed.notify_all();
        // The thread that accepts sees it with the next one who comes.
        let _ = UnixStream::connect(self.dir.path().join(SOCKET));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the line holds, and for the delay of a part that the node asks; false if it is over.
    fn lets_pass(&self, asked: Option<&[u8]>) -> bool {
        let mut state = self.state();
        if asked.is_some() && !state.delay.is_zero() {
            let delay = state.delay;
            // A change ends the wait: what was on its way when a line gets fast again is there at once.
            let waited = self
                .changed
                .wait_timeout_while(state, delay, |now| !now.is_over && now.delay == delay);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let commits = asked.is_some_and(|part| part.windows(6).any(|word| word == b"COMMIT"));
        let held = self.changed.wait_while(state, |now| {
            (now.holds || now.holds_commits && commits) && !now.is_over
        });
        !held.unwrap_or_else(PoisonError::into_inner).is_over
    }

    fn keep(&self, ends: [&UnixStream; 2]) {
        let copies = ends.into_iter().filter_map(|end| end.try_clone().ok());
        self.state().open.extend(copies);
    }
}

fn accept(listener: &UnixListener, server: &Path, shared: &Arc<Shared>) {
    while let Ok((node, _)) = listener.accept() {
        if shared.state().is_over {
            return;
        }
        let (shared, server) = (shared.clone(), server.to_owned());
        std::thread::spawn(move || connect(node, &server, &shared));
    }
}

fn connect(node: UnixStream, server: &Path, shared: &Arc<Shared>) {
    if !shared.lets_pass(None) {
        return;
    }
    let Ok(server) = UnixStream::connect(server) else {
        // As a server that is not there refuses.
        hang_up(&node);
        return;
    };
    shared.keep([&node, &server]);
    let (Ok(from), Ok(to)) = (node.try_clone(), server.try_clone()) else {
        return;
    };
    let asking = shared.clone();
    std::thread::spawn(move || carry(from, to, true, &asking));
    carry(server, node, false, shared);
}

fn carry(mut from: UnixStream, mut to: UnixStream, is_asked: bool, shared: &Shared) {
    let mut part = vec![0; PART_MAX];
    while let Ok(read @ 1..) = from.read(&mut part) {
        let asked = is_asked.then(|| &part[..read]);
        if !shared.lets_pass(asked) || to.write_all(&part[..read]).is_err() {
            break;
        }
    }
    hang_up(&from);
    hang_up(&to);
}

fn hang_up(end: &UnixStream) {
    // One that is gone already needs no word.
    let _ = end.shutdown(Shutdown::Both);
}
