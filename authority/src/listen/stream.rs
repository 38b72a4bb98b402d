//! How is a push stream written, once its connection carries nothing else?
//!
//! hyper keeps two buffers of 8 kB for whatever a connection may bring next, and a stream brings nothing
//! more. So the connection is taken out of hyper's hands when the stream begins: head and frames are written
//! here, in chunks (RFC 9112, 7.1), and a terminal that only listens costs its TLS session and little
//! besides.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::{CONNECTION, DATE, TRANSFER_ENCODING};
use http::response::Parts;
use protocol::time::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::http::events;
use crate::services::push::{Frame, SLOW_READER, Subscription};

/// For the end of the stream and the close of its TLS.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The way of an answer from the request to the connection.
#[derive(Default)]
pub(super) struct Handover {
    given: Mutex<Option<Given>>,
    told: Notify,
}

/// An answer that streams.
pub(super) struct Given {
    pub(super) head: Parts,
    pub(super) subscription: Subscription,
    pub(super) at: Timestamp,
}

/// Where frames come from.
pub(super) trait Source {
    /// None when the stream is over.
    fn next(&mut self) -> impl Future<Output = Option<Frame>> + Send;

    /// Returns once nothing may be written any more.
    fn over(&self) -> impl Future<Output = ()> + Send;
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By us, in order.
    Over,
    /// The reader has gone.
    Gone,
    /// The reader takes nothing.
    Slow,
    /// The reader says something more, which nobody would answer.
    Talks,
}

impl Handover {
    /// The connection is asked to go on with this; whoever gives waits for ever then.
    pub(super) async fn give<T>(&self, given: Given) -> T {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(given);
        self.told.notify_one();
        std::future::pending().await
    }

    pub(super) async fn taken(&self) -> Given {
        loop {
            self.told.notified().await;
            let given = self
                .given
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(given) = given {
                return given;
            }
        }
    }
}

impl Source for Subscription {
    fn next(&mut self) -> impl Future<Output = Option<Frame>> + Send {
        Subscription::next(self)
    }

    fn over(&self) -> impl Future<Output = ()> + Send {
        Subscription::over(self)
    }
}

/// Writes the answer until its stream is over, or nobody reads it.
pub(super) async fn run<S>(io: S, given: Given) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = head_of(&given.head, given.at);
    let mut subscription = given.subscription;
    let end = pour(io, head, &mut subscription, SLOW_READER).await;
    if end == End::Slow {
        subscription.was_slow();
    }
    end
}

async fn pour<S, F>(mut io: S, head: String, frames: &mut F, patience: Duration) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Source,
{
    let mut bytes = head.into_bytes();
    loop {
        let written = tokio::select! {
            // What can be written at once is: a stream that was over when it began ends in order.
            biased;
            written = timeout(patience, write(&mut io, &bytes)) => written,
            () = frames.over() => return End::Over,
        };
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Gone,
            Err(_) => return End::Slow,
        }
        // Minutes may pass until the next frame.
        drop(bytes);
        let next = tokio::select! {
            next = frames.next() => next,
            end = reader(&mut io) => return end,
        };
        let Some(frame) = next else { break };
        bytes = chunk(&events::text(&frame));
    }
    // Whoever does not hear it finds the connection closed.
    let _ = timeout(FAREWELL_TIMEOUT, farewell(&mut io)).await;
    End::Over
}

/// Returns once all of it is on its way.
async fn write<S: AsyncWrite + Unpin>(io: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

/// Returns once the reader does anything but listen.
async fn reader<S: AsyncRead + Unpin>(io: &mut S) -> End {
    match io.read(&mut [0; 16]).await {
        Ok(0) | Err(_) => End::Gone,
        Ok(_) => End::Talks,
    }
}

async fn farewell<S: AsyncWrite + Unpin>(io: &mut S) -> std::io::Result<()> {
    io.write_all(b"0\r\n\r\n").await?;
    io.shutdown().await
}

fn head_of(head: &Parts, at: Timestamp) -> String {
    let status = head.status;
    let reason = status.canonical_reason().unwrap_or_default();
    let since = Duration::from_millis(at.ms().max(0).unsigned_abs());
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    let mut text = format!(
        "HTTP/1.1 {} {reason}\r\n{DATE}: {date}\r\n{TRANSFER_ENCODING}: chunked\r\n{CONNECTION}: close\r\n",
        status.as_u16()
    );
    for (name, value) in &head.headers {
        if let Ok(value) = value.to_str() {
            // Writing to a text cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text.push_str("\r\n");
    text
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_chunk_of_its_length() {
        assert_eq!(chunk(":\n\n"), b"3\r\n:\n\n\r\n");
        let long = "x".repeat(300);
        let bytes = chunk(&long);
        assert!(bytes.starts_with(b"12c\r\nxxx") && bytes.ends_with(b"x\r\n"));
    }

    const NEVER: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_millis(1);

    /// So many signs of life, and then nothing more.
    struct Signs {
        left: usize,
        ends: bool,
        is_over: bool,
    }

    impl Source for Signs {
        async fn next(&mut self) -> Option<Frame> {
            match (self.left, self.ends) {
                (0, true) => None,
                (0, false) => std::future::pending().await,
                _ => {
                    self.left -= 1;
                    Some(Frame::KeepAlive)
                }
            }
        }

        async fn over(&self) {
            if !self.is_over {
                std::future::pending::<()>().await;
            }
        }
    }

    fn signs(left: usize, ends: bool) -> Signs {
        Signs {
            left,
            ends,
            is_over: false,
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_over_ends_with_the_last_chunk() {
        let (mut reader, io) = tokio::io::duplex(1_024);
        let end = pour(io, "head".into(), &mut signs(2, true), NEVER).await;
        let mut read = String::new();
        assert!(reader.read_to_string(&mut read).await.is_ok());
        assert_eq!(end, End::Over);
        assert_eq!(read, "head3\r\n:\n\n\r\n3\r\n:\n\n\r\n0\r\n\r\n");
    }

    /// As a drain has it: asked for before, answered after.
    #[tokio::test]
    async fn a_stream_that_was_over_before_it_began_has_its_head_and_its_end() {
        let mut over = Signs {
            is_over: true,
            ..signs(0, true)
        };
        // More often than a coin falls on one side.
        for _ in 0..32 {
            let (mut reader, io) = tokio::io::duplex(1_024);
            let end = pour(io, "head".into(), &mut over, NEVER).await;
            let mut read = String::new();
            assert!(reader.read_to_string(&mut read).await.is_ok());
            assert_eq!((end, read.as_str()), (End::Over, "head0\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_cut_and_holds_one_frame() {
        let (_reader, io) = tokio::io::duplex(16);
        let mut many = signs(1_000, true);
        assert_eq!(pour(io, String::new(), &mut many, SOON).await, End::Slow);
        let taken = 1_000 - many.left;
        assert!(taken <= 3, "{taken} frames of 8 bytes for 16");
    }

    #[tokio::test]
    async fn a_ban_ends_a_stream_also_while_its_reader_takes_nothing() {
        let (_reader, io) = tokio::io::duplex(4);
        let mut banned = Signs {
            is_over: true,
            ..signs(9, false)
        };
        let end = pour(io, "a head".into(), &mut banned, NEVER).await;
        assert_eq!(end, End::Over);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_or_says_something_more_is_no_reader() {
        let (mut reader, io) = tokio::io::duplex(1_024);
        assert!(reader.write_all(b"GET / HTTP/1.1").await.is_ok());
        let end = pour(io, String::new(), &mut signs(0, false), NEVER).await;
        assert_eq!(end, End::Talks);
        let (reader, io) = tokio::io::duplex(1_024);
        drop(reader);
        let end = pour(io, String::new(), &mut signs(0, false), NEVER).await;
        assert_eq!(end, End::Gone);
    }

    #[test]
    fn the_head_says_what_the_route_said_and_how_the_body_comes() {
        let response = http::Response::builder()
            .header("content-type", "text/event-stream")
            .body(())
            .unwrap_or_default();
        let (head, ()) = response.into_parts();
        let text = head_of(&head, Timestamp::from_ms(784_111_777_000));
        let expected = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ntransfer-encoding: chunked\r\n\
                        connection: close\r\ncontent-type: text/event-stream\r\n\r\n";
        assert_eq!(text, expected);
    }
}
