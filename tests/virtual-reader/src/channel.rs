//! How does one reader of pcscd talk to the test that plays it?
//!
//! Everything here is safe code over a UNIX socket; the C boundary is `lib.rs`.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A frame longer than this is a broken peer: no APDU or attribute comes near it.
const FRAME_MAX: usize = 128 * 1024;
/// How long a new reader waits for the peer's first word about its tag.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// What pcscd wants of the reader.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Request {
    PowerUp = 1,
    PowerDown = 2,
    Reset = 3,
    Transmit = 4,
    Control = 5,
    GetAttribute = 6,
}

/// Why the reader has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Unsupported,
    NoTag,
    PeerGone,
}

const PRESENCE: u8 = 0x80;
const ANSWER: u8 = 0x81;
const REFUSAL: u8 = 0x82;
const REFUSED_FOR_NO_TAG: u8 = 1;

#[derive(Default)]
struct State {
    present: bool,
    greeted: bool,
    gone: bool,
    /// Raised by every presence frame, lowered by the poll that saw it.
    news: bool,
    answer: Option<Result<Vec<u8>, Failure>>,
    atr: Vec<u8>,
}

/// One reader: a socket, and what its peer said last.
pub(crate) struct Channel {
    writer: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Channel {
    /// Connects to the peer that listens at `path` and waits for its greeting.
    pub(crate) fn open(path: &str) -> io::Result<Arc<Channel>> {
        let stream = UnixStream::connect(path)?;
        let reading = stream.try_clone()?;
        let channel = Arc::new(Channel {
            writer: Mutex::new(stream),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = Arc::clone(&channel);
        thread::Builder::new()
            .name("virtual-reader".into())
            .spawn(move || listener.listen(reading))?;
        channel.await_greeting()?;
        Ok(channel)
    }

    /// Sends one request and waits for its answer, for as long as the peer takes.
    pub(crate) fn ask(&self, request: Request, body: &[u8]) -> Result<Vec<u8>, Failure> {
        // The writer's lock is held until the answer: one request in flight, so answers need no number.
        let mut writer = locked(&self.writer);
        locked(&self.state).answer = None;
        write_frame(&mut writer, request as u8, body).map_err(|_| Failure::PeerGone)?;
        let mut state = self
            .changed
            .wait_while(locked(&self.state), |s| s.answer.is_none() && !s.gone)
            .unwrap_or_else(PoisonError::into_inner);
        state.answer.take().unwrap_or(Err(Failure::PeerGone))
    }

    /// Whether a tag is in the field; an error once the peer hung up.
    pub(crate) fn present(&self) -> Result<bool, Failure> {
        let state = locked(&self.state);
        if state.gone {
            return Err(Failure::PeerGone);
        }
        Ok(state.present)
    }

    /// Waits until presence may have changed, at most `limit`.
    pub(crate) fn await_news(&self, limit: Duration) -> Result<(), Failure> {
        let (mut state, _) = self
            .changed
            .wait_timeout_while(locked(&self.state), limit, |s| !s.news && !s.gone)
            .unwrap_or_else(PoisonError::into_inner);
        state.news = false;
        if state.gone {
            return Err(Failure::PeerGone);
        }
        Ok(())
    }

    /// Ends a running `await_news`, as pcscd wants before it closes a reader.
    pub(crate) fn stop_waiting(&self) {
        locked(&self.state).news = true;
        self.changed.notify_all();
    }

    /// Hangs up; the listening thread ends with it.
    pub(crate) fn close(&self) {
        self.lose_peer();
        let _ = locked(&self.writer).shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn remember_atr(&self, atr: &[u8]) {
        locked(&self.state).atr = atr.to_vec();
    }

    pub(crate) fn atr(&self) -> Vec<u8> {
        locked(&self.state).atr.clone()
    }

    fn await_greeting(&self) -> io::Result<()> {
        let (state, _) = self
            .changed
            .wait_timeout_while(locked(&self.state), GREETING_LIMIT, |s| {
                !s.greeted && !s.gone
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.greeted {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer said nothing",
            ))
        }
    }

    fn listen(&self, mut stream: UnixStream) {
        while let Ok((kind, body)) = read_frame(&mut stream) {
            let mut state = locked(&self.state);
            match kind {
                PRESENCE => {
                    state.present = body.first() == Some(&1);
                    state.greeted = true;
                    state.news = true;
                }
                ANSWER => state.answer = Some(Ok(body)),
                REFUSAL => state.answer = Some(Err(refusal(&body))),
                _ => break,
            }
            drop(state);
            self.changed.notify_all();
        }
        self.lose_peer();
    }

    fn lose_peer(&self) {
        locked(&self.state).gone = true;
        self.changed.notify_all();
    }
}

fn refusal(body: &[u8]) -> Failure {
    match body.first() {
        Some(&REFUSED_FOR_NO_TAG) => Failure::NoTag,
        _ => Failure::Unsupported,
    }
}

fn write_frame(stream: &mut UnixStream, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(body);
    stream.write_all(&frame)
}

fn read_frame(stream: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > FRAME_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    let body = frame.split_off(1);
    Ok((frame[0], body))
}

/// A poisoned lock means a thread of this library panicked; the state is still the last word of the peer.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
