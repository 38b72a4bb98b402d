//! What does the authority tell us by itself, and is it still there?

use std::time::Duration;

use futures_util::StreamExt;
use protocol::wire::push::{KEEP_ALIVE_S, STATE_EVENT, TerminalState};
use tokio::sync::mpsc;

use super::client::AuthorityClient;
use super::failure::CallError;
use crate::backoff::Backoff;

/// A stream that is silent for this long is dead: two keep-alives and some patience.
pub const SILENCE_MAX: Duration = Duration::from_secs(2 * KEEP_ALIVE_S + 5);
/// Largest frame that is read, in bytes.
pub const FRAME_MAX: usize = 262_144;

/// What the stream tells the driver.
#[derive(Debug)]
pub enum Pushed {
    Connected,
    State(Box<TerminalState>),
    Lost(CallError),
}

/// Follows the stream for ever; ends when nobody listens any more.
pub async fn follow(client: AuthorityClient, revision: Option<u64>, heard: mpsc::Sender<Pushed>) {
    let mut backoff = Backoff::default();
    let mut last = revision.map(|r| r.to_string());
    loop {
        let error = match client.events(last.as_deref()).await {
            Ok(response) => listen(response, &mut last, &mut backoff, &heard).await,
            Err(error) => error,
        };
        if heard.send(Pushed::Lost(error)).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// One connection, until it ends.
async fn listen(
    response: reqwest::Response,
    last: &mut Option<String>,
    backoff: &mut Backoff,
    heard: &mpsc::Sender<Pushed>,
) -> CallError {
    let gone = |detail: &str| CallError::Unreachable {
        detail: detail.into(),
    };
    if heard.send(Pushed::Connected).await.is_err() {
        return gone("nobody listens");
    }
    let mut parser = Parser::default();
    let mut parts = response.bytes_stream();
    loop {
        let part = match tokio::time::timeout(SILENCE_MAX, parts.next()).await {
            Err(_) => return gone("the push stream fell silent"),
            Ok(None) => return gone("the authority closed the push stream"),
            Ok(Some(Err(error))) => return CallError::of(&error),
            Ok(Some(Ok(part))) => part,
        };
        let frames = match parser.feed(&part) {
            Ok(frames) => frames,
            Err(FrameTooLong) => return CallError::answer("a push frame is too long"),
        };
        for frame in frames.into_iter().filter(|f| f.event == STATE_EVENT) {
            match serde_json::from_str(&frame.data) {
                Ok(state) => {
                    backoff.reset();
                    *last = frame.id.or(last.take());
                    if heard.send(Pushed::State(Box::new(state))).await.is_err() {
                        return gone("nobody listens");
                    }
                }
                Err(error) => return CallError::answer(error),
            }
        }
    }
}

/// One event of the stream (HTML, section 9.2.6).
#[derive(Debug, Default, PartialEq, Eq)]
struct Frame {
    id: Option<String>,
    event: String,
    data: String,
}

#[derive(Debug, PartialEq, Eq)]
struct FrameTooLong;

/// Bytes in, whole frames out, however the bytes are cut.
#[derive(Default)]
struct Parser {
    pending: Vec<u8>,
    frame: Frame,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, FrameTooLong> {
        self.pending.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            frames.extend(self.line(line.trim_end_matches(['\n', '\r'])));
        }
        if self.pending.len() + self.frame.data.len() > FRAME_MAX {
            return Err(FrameTooLong);
        }
        Ok(frames)
    }

    fn line(&mut self, line: &str) -> Option<Frame> {
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return (!frame.data.is_empty()).then_some(frame);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.frame.id = Some(value.to_owned()),
            "event" => self.frame.event = value.to_owned(),
            "data" => {
                if !self.frame.data.is_empty() {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b": hello\n\nid: 7\nevent: state\ndata: {\"a\":\ndata: 1}\n\n:\n\nevent:other\r\ndata:x\r\n\r\n";

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let whole = Parser::default().feed(STREAM);
        for cut in 0..STREAM.len() {
            let mut parser = Parser::default();
            let mut frames = parser.feed(&STREAM[..cut]).unwrap();
            frames.extend(parser.feed(&STREAM[cut..]).unwrap());
            assert_eq!(Ok(frames), whole, "cut at {cut}");
        }
        let frames = whole.unwrap();
        assert_eq!(frames[0].id.as_deref(), Some("7"));
        assert_eq!(frames[0].data, "{\"a\":\n1}");
        assert_eq!(frames[1].event, "other");
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut parser = Parser::default();
        let fed = (0..FRAME_MAX)
            .step_by(4096)
            .map(|_| parser.feed(&[b'x'; 4096]));
        assert!(fed.into_iter().any(|r| r == Err(FrameTooLong)) || parser.feed(b"x").is_err());
    }
}
