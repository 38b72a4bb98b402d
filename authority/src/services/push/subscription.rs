//! One terminal listens: what does it hear next?

use std::sync::Arc;

use protocol::ids::TerminalId;
use protocol::wire::upkeep::Upkeep;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, watch};

use super::streams::{self, Displaced, Entered};
use super::{FRAMES_MAX, Frame, KEEP_ALIVE, Push, QUIET_MAX, SLOW_READER, Under};
use crate::services::bans::Watch;
use crate::store::News;

/// An open stream; it is over when this is dropped.
pub struct Subscription {
    hub: Arc<Push>,
    terminal: TerminalId,
    number: u64,
    wake: watch::Receiver<()>,
    bans: Arc<Watch>,
    stage: Stage,
    /// Signs of life in a row.
    quiet: u32,
}

enum Stage {
    /// Nothing was said yet.
    Begun {
        certificate: String,
        displaced: Option<Displaced>,
    },
    Under {
        under: Under,
        sent: Option<Sent>,
    },
}

/// What tells one state from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    revision: u64,
    schedule_due: bool,
    upkeep: Upkeep,
    round: u64,
}

impl Subscription {
    pub(super) fn begin(
        hub: Arc<Push>,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<String>,
    ) -> Self {
        // As it came in a header: whatever becomes of it, here or at other nodes, is bounded from here on.
        let instance = instance.filter(|it| streams::counts(it));
        // Before the first look: a ban after it is heard, one before it is seen.
        let bans = hub.app.bans.watch(Some(terminal), None);
        let now = hub.app.clock.now();
        let entered = hub
            .streams()
            .enter(terminal, certificate, instance.clone(), now);
        let Entered {
            number,
            woken,
            displaced,
        } = entered;
        let certificate = certificate.to_owned();
        hub.app.store.call(&[News::Opened {
            terminal,
            certificate: certificate.clone(),
            instance,
        }]);
        hub.app.metrics.push_streams.inc();
        Self {
            hub,
            terminal,
            number,
            wake: woken,
            bans: Arc::new(bans),
            stage: Stage::Begun {
                certificate,
                displaced,
            },
            // Streams that began together look at different times.
            quiet: (number % u64::from(QUIET_MAX)) as u32,
        }
    }

    /// The next frame, as soon as there is one; none when the stream is over. Whoever does not wait for its
    /// end drops the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        let over = self.over();
        tokio::select! {
            biased;
            () = over => None,
            frame = self.frame() => frame,
        }
    }

    /// Returns once nothing may be said any more, whatever was to be said.
    pub fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let (hub, bans) = (self.hub.clone(), self.bans.clone());
        async move {
            let app = &hub.app;
            tokio::select! {
                _ = bans.until_cut() => {}
                () = app.draining() => {}
                () = app.fence.until_fenced() => {}
                () = app.neighbours.until_closed() => {}
            }
        }
    }

    /// Drops the stream of whoever takes no frame for [`SLOW_READER`].
    pub fn into_channel(mut self) -> mpsc::Receiver<Frame> {
        let (frames, reader) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(async move {
            let over = self.over();
            tokio::select! {
                () = self.pump(frames) => {}
                () = over => {}
            }
        });
        reader
    }

    async fn pump(&mut self, frames: mpsc::Sender<Frame>) {
        loop {
            let next = tokio::select! {
                next = self.frame() => next,
                () = frames.closed() => None,
            };
            let Some(frame) = next else { return };
            match frames.send_timeout(frame, SLOW_READER).await {
                Ok(()) => {}
                Err(SendTimeoutError::Timeout(_)) => return self.hub.was_slow(self.terminal),
                Err(SendTimeoutError::Closed(_)) => return,
            }
        }
    }

    /// The stream was ended because its reader does not read.
    pub fn was_slow(&self) {
        self.hub.was_slow(self.terminal);
    }

    async fn frame(&mut self) -> Option<Frame> {
        match &self.stage {
            Stage::Begun { .. } => self.first().await,
            Stage::Under { .. } => self.wait().await,
        }
    }

    async fn first(&mut self) -> Option<Frame> {
        if let Stage::Begun {
            certificate,
            displaced,
        } = &mut self.stage
        {
            let (serial, displaced) = (std::mem::take(certificate), displaced.take());
            let under = self.hub.arrived(self.terminal, serial, displaced).await;
            self.stage = Stage::Under { under, sent: None };
        }
        self.look().await
    }

    async fn wait(&mut self) -> Option<Frame> {
        tokio::select! {
            woken = self.wake.changed() => woken.ok()?,
            () = tokio::time::sleep(KEEP_ALIVE) => {
                self.quiet += 1;
                if self.quiet < QUIET_MAX && !self.is_past_its_end() {
                    return Some(Frame::KeepAlive);
                }
            }
        }
        self.look().await
    }

    /// By the clock alone: the look that follows judges.
    fn is_past_its_end(&self) -> bool {
        let Stage::Under { under, .. } = &self.stage else {
            return false;
        };
        let now = self.hub.app.clock.now();
        under.not_after.is_none_or(|not_after| not_after < now)
    }

    /// The state if it is new, else a sign of life; none for a terminal that may not know, or under a
    /// certificate that has ended or was revoked: whatever became of the announcement, it is over then.
    async fn look(&mut self) -> Option<Frame> {
        let (hub, terminal) = (self.hub.clone(), self.terminal);
        let Stage::Under { under, sent } = &mut self.stage else {
            return None;
        };
        self.quiet = 0;
        self.wake.borrow_and_update();
        let (_, round) = hub.app.fence.checkpoint();
        let state = match hub.state(terminal, under).await {
            Ok(state) => state?,
            Err(why) => {
                tracing::warn!(%terminal, error = %why, "a stream ends because it cannot look");
                return None;
            }
        };
        hub.streams().tell(terminal, self.number, state.revision);
        let now_sent = Sent {
            revision: state.revision,
            schedule_due: state.schedule_due,
            upkeep: Upkeep {
                // A new one comes every second; `round` says when it is worth a frame of its own. How many
                // listen is not worth one.
                checkpoint: None,
                spread_ms: 0,
                ..state.upkeep.clone()
            },
            round,
        };
        if sent.as_ref() == Some(&now_sent) {
            return Some(Frame::KeepAlive);
        }
        *sent = Some(now_sent);
        hub.app.metrics.push_frames.inc();
        Some(Frame::State(Box::new(state)))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.hub.streams().leave(self.terminal, self.number) {
            self.hub.app.store.call(&[News::Closed(self.terminal)]);
        }
        self.hub.app.metrics.push_streams.dec();
    }
}
