//! Does whoever is at the other end get on with it?
//!
//! hyper has one limit for "the next request", idle time included. This looks at the bytes on their way to
//! it and tells a client that rests between two requests from one that dribbles a head.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{FIRST_REQUEST_TIMEOUT, HEAD_TIMEOUT};
use crate::clock::Stopwatch;

/// What was seen of one HTTP/1 connection.
pub(super) struct Seen {
    watch: Stopwatch,
    /// When the head that is arriving began, in milliseconds of the watch and one more; 0: none is.
    head_began: AtomicU64,
    /// A request is under way: what is read is its body.
    busy: AtomicBool,
    /// Whether there was a request at all.
    asked: AtomicBool,
    /// Not everything that was to be written has been taken by the transport.
    stalled: AtomicBool,
}

/// A stream whose bytes are looked at.
pub(super) struct Watched<S> {
    io: S,
    seen: std::sync::Arc<Seen>,
}

impl Seen {
    pub(super) fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            watch: Stopwatch::start(),
            head_began: AtomicU64::default(),
            busy: AtomicBool::default(),
            asked: AtomicBool::default(),
            stalled: AtomicBool::default(),
        })
    }

    /// A whole head has arrived.
    pub(super) fn request_begins(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
        self.head_began.store(0, Ordering::Relaxed);
    }

    /// What is read from now on belongs to the next head.
    pub(super) fn request_ends(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Returns when no request came in time. hyper waits for ever for the first bytes, which tell HTTP/1
    /// from 2, and for an HTTP/2 preface: whoever sends nothing would keep a place of the listener.
    pub(super) async fn never_asks(&self) {
        tokio::time::sleep(FIRST_REQUEST_TIMEOUT).await;
        if self.asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Returns, with the reason, once an HTTP/1 client takes too long to ask.
    pub(super) async fn too_slow(&self) -> &'static str {
        tokio::time::sleep(FIRST_REQUEST_TIMEOUT).await;
        if !self.asked.load(Ordering::Relaxed) {
            return match self.head_began.load(Ordering::Relaxed) {
                0 => "no-request",
                _ => "slow-head",
            };
        }
        while !self.dribbles() {
            tokio::time::sleep(HEAD_TIMEOUT / 2).await;
        }
        "slow-head"
    }

    fn dribbles(&self) -> bool {
        let began = self.head_began.load(Ordering::Relaxed);
        began != 0 && Duration::from_millis(self.now_ms() - began) >= HEAD_TIMEOUT
    }

    fn now_ms(&self) -> u64 {
        (self.watch.seconds() * 1_000.0) as u64 + 1
    }

    fn read(&self, bytes: usize) {
        let begins = bytes > 0
            && !self.busy.load(Ordering::Relaxed)
            && self.head_began.load(Ordering::Relaxed) == 0;
        if begins {
            self.head_began.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn wrote(&self, wanted: usize, taken: &Poll<std::io::Result<usize>>) {
        let all = matches!(taken, Poll::Ready(Ok(taken)) if *taken == wanted);
        self.stalled.store(!all, Ordering::Relaxed);
    }
}

impl<S> Watched<S> {
    pub(super) fn new(io: S, seen: std::sync::Arc<Seen>) -> Self {
        Self { io, seen }
    }

    pub(super) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(context, buffer);
        this.seen.read(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let taken = Pin::new(&mut this.io).poll_write(context, bytes);
        this.seen.wrote(bytes.len(), &taken);
        taken
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        let taken = Pin::new(&mut this.io).poll_write_vectored(context, bytes);
        let wanted = bytes.iter().map(|part| part.len()).sum();
        this.seen.wrote(wanted, &taken);
        taken
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
