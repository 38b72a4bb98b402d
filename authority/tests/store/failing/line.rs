//! A line to the server that can be cut at its worst moment, or made slow.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use own_postgres::Cluster;

/// When the next commit's line is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The server never hears of it.
    Before = 1,
    /// The server has carried it out, and its answer is lost.
    After = 2,
    /// The same, and nobody gets through afterwards who is not through already.
    Last = 3,
}

/// Stands between a store and its server.
pub(super) struct Line {
    dir: tempfile::TempDir,
    armed: Arc<AtomicU8>,
    /// Nobody gets through who is not through already.
    closed: Arc<AtomicBool>,
}

impl Line {
    pub(super) fn to(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket(dir.path())).unwrap();
        let (server, armed) = (socket(cluster.socket()), Arc::new(AtomicU8::new(0)));
        let closed = Arc::new(AtomicBool::new(false));
        let (arms, closes) = (armed.clone(), closed.clone());
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if closes.load(Ordering::SeqCst) {
                    continue;
                }
                let server = UnixStream::connect(&server).unwrap();
                connect(client, server, &arms, &closes);
            }
        });
        Self { dir, armed, closed }
    }

    /// Whoever comes gets through again.
    pub(super) fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// The directory of its socket.
    pub(super) fn socket(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn cut_next_commit(&self, cut: Cut) {
        self.armed.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether the cut that was asked for has happened.
    pub(super) fn is_cut(&self) -> bool {
        self.armed.load(Ordering::SeqCst) == 0
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join(".s.PGSQL.5432")
}

fn connect(
    client: UnixStream,
    server: UnixStream,
    armed: &Arc<AtomicU8>,
    closed: &Arc<AtomicBool>,
) {
    let muted = Arc::new(AtomicBool::new(false));
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mutes, armed, closed) = (muted.clone(), armed.clone(), closed.clone());
    std::thread::spawn(move || asks(from, to, &armed, &mutes, &closed));
    std::thread::spawn(move || answers(server, client, &muted));
}

fn asks(
    mut client: UnixStream,
    mut server: UnixStream,
    armed: &AtomicU8,
    muted: &AtomicBool,
    closed: &AtomicBool,
) {
    let mut bytes = [0; 65_536];
    while let Ok(read @ 1..) = client.read(&mut bytes) {
        let said = &bytes[..read];
        let commits = said.windows(6).any(|word| word == b"COMMIT");
        match if commits {
            armed.swap(0, Ordering::SeqCst)
        } else {
            0
        } {
            1 => break,
            cut @ 2.. => {
                muted.store(true, Ordering::SeqCst);
                closed.fetch_or(cut == Cut::Last as u8, Ordering::SeqCst);
            }
            _ => {}
        }
        if server.write_all(said).is_err() {
            break;
        }
    }
    hang_up(&client, &server);
}

fn answers(mut server: UnixStream, mut client: UnixStream, muted: &AtomicBool) {
    let mut bytes = [0; 65_536];
    while let Ok(read @ 1..) = server.read(&mut bytes) {
        if muted.load(Ordering::SeqCst) || client.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    hang_up(&client, &server);
}

fn hang_up(client: &UnixStream, server: &UnixStream) {
    for end in [client, server] {
        // One that is gone already needs no word.
        let _ = end.shutdown(std::net::Shutdown::Both);
    }
}
