//! What does the authority tell us by itself, and is it still there?
//!
//! One stream at a time. When certificate or roots change, the next one is dialled while the present one
//! is still heard, and takes over once it is up; only a root that is trusted no more ends it at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use protocol::time::Millis;
use protocol::wire::push::{KEEP_ALIVE_S, STATE_EVENT, TerminalState};
use protocol::wire::upkeep::Upkeep;
use tokio::sync::{mpsc, watch};

use super::client::Greeting;
use super::failure::CallError;
use super::line::{Footing, Line, Standing};
use crate::backoff::Backoff;
use crate::sse::{Frame, FrameTooLong, Parser};
use crate::state::State;

/// A stream that is silent for this long is dead: two keep-alives and some patience.
pub const SILENCE_MAX: Duration = Duration::from_secs(2 * KEEP_ALIVE_S + 5);

/// How long one stream may take another's place without a word.
pub const UNTOLD_MAX: Duration = Duration::from_secs(2);

/// What the stream tells the driver.
#[derive(Debug)]
pub enum Pushed {
    /// A stream is up that was asked for at this count of ticks.
    Connected {
        asked: Millis,
    },
    State(Box<TerminalState>),
    /// The stream says nothing but that it is there.
    Alive,
    /// No stream is heard until the next one is up, and nothing has failed.
    Left,
    Lost(CallError),
}

/// What the stream tells the upkeep; absolute, so that only the last word counts.
#[derive(Debug, Clone, Default)]
pub struct Noticed {
    /// The last frame's.
    pub told: Upkeep,
    /// The footing under which the stream came up last.
    pub up_under: Option<u64>,
    /// The footing whose certificate was refused last, and how; none once a stream is up.
    pub refused: Option<(u64, CallError)>,
    /// The footing under which a server answered last that leads to no trusted root; none once a stream
    /// is up.
    pub stranger_under: Option<u64>,
}

/// Keeps a stream open for ever.
pub struct Follower {
    pub line: Arc<Line>,
    pub state: Arc<State>,
    /// The last revision that was heard.
    pub last: Option<String>,
    pub heard: mpsc::Sender<Pushed>,
    pub noticed: Arc<watch::Sender<Noticed>>,
    /// The same for every stream of this process.
    pub instance: String,
}

/// One open stream.
struct Stream {
    number: u64,
    asked: Millis,
    doubts: watch::Receiver<()>,
    parts: BoxStream<'static, reqwest::Result<Bytes>>,
    parser: Parser,
}

/// Why nobody listens to a stream any more.
enum End {
    Lost(CallError),
    /// Another stream is wanted; this one may be heard until it is up.
    Moved(Option<Stream>),
    /// What it says may be old: another one is asked for, and nobody is heard until then.
    Doubted,
    /// The agent stops.
    NobodyHears,
}

impl Follower {
    /// Ends when nobody hears any more.
    pub async fn follow(mut self) {
        let mut backoff = Backoff::default();
        let mut old = None;
        loop {
            let footing = self.line.now();
            let (error, pause) = match self.dial(&footing, &mut old).await {
                Ok(stream) => {
                    // What it still says is older than the new one's answer.
                    old = None;
                    match self.take_over(&footing, stream, &mut backoff).await {
                        End::NobodyHears => return,
                        End::Moved(stream) => {
                            old = stream;
                            continue;
                        }
                        End::Doubted => {
                            self.tell_left().await;
                            continue;
                        }
                        // Whoever ended it may have ended those of a whole fleet.
                        End::Lost(error) => (error, backoff.lost()),
                    }
                }
                Err(error) => {
                    self.note(&footing, &error);
                    (error, backoff.pause())
                }
            };
            if old.is_none() && self.lost(&footing, error).await.is_err() {
                return;
            }
            self.pause(&footing, &mut old, pause).await;
        }
    }

    /// Opens a stream, and hears the old one out meanwhile.
    async fn dial(&self, footing: &Footing, old: &mut Option<Stream>) -> Result<Stream, CallError> {
        let greeting = Greeting {
            last: self.last.clone(),
            trust_sequence: footing.trust.sequence(),
            checkpoint: self.state.checkpoint().ok().flatten(),
            instance: self.instance.clone(),
        };
        let (asked, doubts) = (self.line.ticks_ms(), self.line.doubts());
        let opening = footing.client.events(&greeting);
        let response = self.beside(old, footing, opening).await?;
        Ok(Stream {
            number: footing.number,
            asked,
            doubts,
            parts: response.bytes_stream().boxed(),
            parser: Parser::default(),
        })
    }

    async fn take_over(&mut self, footing: &Footing, stream: Stream, backoff: &mut Backoff) -> End {
        self.line.prove(footing.number);
        self.noticed.send_modify(|noticed| {
            noticed.up_under = Some(footing.number);
            noticed.refused = None;
            noticed.stranger_under = None;
        });
        let connected = Pushed::Connected {
            asked: stream.asked,
        };
        if self.heard.send(connected).await.is_err() {
            return End::NobodyHears;
        }
        self.listen(stream, backoff).await
    }

    /// Until the stream ends, or there is another footing.
    async fn listen(&mut self, mut stream: Stream, backoff: &mut Backoff) -> End {
        let (mut changes, number) = (self.line.changes(), stream.number);
        let mut doubts = stream.doubts.clone();
        loop {
            let frames = tokio::select! {
                moved = changes.wait_for(|held| held.number != number) => {
                    let goes_on = moved.is_ok_and(|held| held.goes_on_from <= number);
                    return End::Moved(goes_on.then_some(stream));
                }
                Ok(()) = doubts.changed() => {
                    return End::Doubted;
                }
                frames = stream.next() => frames,
            };
            let frames = match frames {
                Ok(frames) => frames,
                Err(error) => return End::Lost(error),
            };
            if frames.is_empty() && self.heard.send(Pushed::Alive).await.is_err() {
                return End::NobodyHears;
            }
            for frame in frames {
                if let Err(end) = self.deliver(frame).await {
                    return end;
                }
                backoff.reset();
            }
        }
    }

    /// Carries `work` out while frames of the old stream are still delivered.
    async fn beside<T>(
        &self,
        old: &mut Option<Stream>,
        footing: &Footing,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            if old
                .as_ref()
                .is_some_and(|it| it.number < footing.goes_on_from)
            {
                *old = None;
            }
            let Some(stream) = old else {
                return self.alone(work).await;
            };
            let frames = tokio::select! {
                done = &mut work => return done,
                frames = stream.next() => frames,
            };
            match frames {
                // If nobody hears any more, the next stream ends the same way.
                Ok(frames) if frames.is_empty() => {
                    let _ = self.heard.send(Pushed::Alive).await;
                }
                Ok(frames) => {
                    for frame in frames {
                        let _ = self.send(frame).await;
                    }
                }
                Err(_) => *old = None,
            }
        }
    }

    /// Nobody is heard meanwhile. A change that takes a moment is none for who looks at the screen.
    async fn alone<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> T {
        match tokio::time::timeout(UNTOLD_MAX, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.tell_left().await;
                work.await
            }
        }
    }

    /// Waits, but not longer than until there is another footing.
    async fn pause(&self, footing: &Footing, old: &mut Option<Stream>, pause: Duration) {
        let mut changes = self.line.changes();
        let moved = changes.wait_for(|held| held.number != footing.number);
        let waited = async {
            // Either is a reason to dial again.
            let _ = tokio::time::timeout(pause, moved).await;
        };
        self.beside(old, footing, waited).await;
    }

    /// Nobody is heard until the next stream is up; if nobody hears any more, that one tells.
    async fn tell_left(&self) {
        let _ = self.heard.send(Pushed::Left).await;
    }

    async fn deliver(&mut self, frame: Frame) -> Result<(), End> {
        let id = frame.id.clone();
        self.send(frame).await?;
        self.last = id.or(self.last.take());
        Ok(())
    }

    async fn send(&self, frame: Frame) -> Result<(), End> {
        let state: TerminalState = serde_json::from_str(&frame.data)
            .map_err(|error| End::Lost(CallError::answer(error)))?;
        self.noticed
            .send_modify(|noticed| noticed.told = state.upkeep.clone());
        let sent = self.heard.send(Pushed::State(Box::new(state))).await;
        sent.map_err(|_| End::NobodyHears)
    }

    fn note(&self, footing: &Footing, error: &CallError) {
        self.noticed.send_modify(|noticed| {
            if error.is_about_certificate() {
                noticed.refused = Some((footing.number, error.clone()));
            }
            if matches!(error, CallError::ForeignServer { .. }) {
                noticed.stranger_under = Some(footing.number);
            }
        });
    }

    /// Tells the driver; a certificate on trial that is refused is no refusal of this terminal.
    async fn lost(&self, footing: &Footing, error: CallError) -> Result<(), ()> {
        let on_trial = footing.standing == Standing::OnTrial && error.is_about_certificate();
        let error = match on_trial {
            true => CallError::Unreachable {
                detail: "the renewed certificate is not taken".into(),
            },
            false => error,
        };
        self.heard.send(Pushed::Lost(error)).await.map_err(|_| ())
    }
}

impl Stream {
    /// The next frames of state; what is dropped while it waits loses nothing.
    async fn next(&mut self) -> Result<Vec<Frame>, CallError> {
        let gone = |detail: &str| CallError::Unreachable {
            detail: detail.into(),
        };
        let part = match tokio::time::timeout(SILENCE_MAX, self.parts.next()).await {
            Err(_) => return Err(gone("the push stream fell silent")),
            Ok(None) => return Err(gone("the authority closed the push stream")),
            Ok(Some(Err(error))) => return Err(CallError::of(&error)),
            Ok(Some(Ok(part))) => part,
        };
        let frames = self.parser.feed(&part);
        let mut frames =
            frames.map_err(|FrameTooLong| CallError::answer("a push frame is too long"))?;
        frames.retain(|frame| frame.event == STATE_EVENT);
        Ok(frames)
    }
}

#[cfg(test)]
mod tests;
