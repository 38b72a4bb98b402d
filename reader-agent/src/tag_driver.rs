//! Does the tag hold the token of the moment, and does the authority hear of it?

use std::sync::Arc;
use std::time::Duration;

use protocol::ndef;
use protocol::time::{Millis, Timestamp};
use protocol::wear::TagWear;
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TerminalEvent};
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::Clock;
use crate::core::Board;
use crate::ids;
use crate::metrics::Metrics;
use crate::reader::TagEvent;
use crate::rotation::{Face, Shows};
use crate::shown::Shown;
use crate::state::{State, StateError, TagVisited};
use crate::tag_plan::{Arrived, TagPlan, TagStep};
use crate::tag_writer::{TagFailure, TagVisit, TagWriter};

/// How long the tag may take to be blanked when the agent stops.
pub const BLANK_DEADLINE: Duration = Duration::from_secs(5);

/// Most bytes of a reason in a report: the authority refuses a whole batch for a longer one, for ever.
const REASON_MAX: usize = 256;

/// What is told of a tag that was written by somebody else.
const ALTERED: &str = "the tag did not hold what was last written on it: somebody wrote on it, and it \
    is repaired; see who can reach it, and give it a password (m2key-agent tag personalise)";

/// What the driver works with.
pub struct TagDriver {
    pub writer: Arc<dyn TagWriter>,
    pub events: mpsc::Receiver<TagEvent>,
    pub board: watch::Receiver<Board>,
    pub state: Arc<State>,
    pub clock: Arc<Clock>,
    pub metrics: Arc<Metrics>,
    /// Rung when a report waits.
    pub reports: Arc<Notify>,
    pub stop: watch::Receiver<bool>,
}

/// What was on the tag before, so that taps are told for the right window.
#[derive(Default)]
pub struct Memory {
    plan: TagPlan,
    last: Option<SeenWindow>,
    told: Option<&'static str>,
    paid: Option<protocol::ids::ClaimId>,
}

impl Memory {
    /// When a write that failed is tried again, in the clock's milliseconds.
    pub fn next_try(&self) -> Option<Millis> {
        self.plan.poll_timeout()
    }
}

impl TagDriver {
    /// Writes until told to stop, then blanks: a tag nobody tends would go stale.
    pub async fn run(mut self) {
        let mut memory = Memory::default();
        while !*self.stop.borrow() {
            self.step(&mut memory).await;
            self.wait(&mut memory).await;
        }
        self.end(&mut memory).await;
    }

    /// The tag holds nothing, and the next run knows it.
    pub async fn end(&self, memory: &mut Memory) {
        match tokio::time::timeout(BLANK_DEADLINE, self.writer.blank()).await {
            Ok(Ok(visit)) => {
                // Without its counter on the disk this is no end in good order.
                if self.record(&visit, memory.last.take(), None) {
                    self.leave(&visit);
                }
            }
            Ok(Err(failure)) => tracing::warn!(kind = failure.kind, "{failure}"),
            Err(_) => {
                tracing::warn!(
                    "the tag was not blanked in time; its token expires with its window"
                );
            }
        }
    }

    /// So that the next run knows whether somebody wrote on it meanwhile.
    fn leave(&self, visit: &TagVisit) {
        if let Err(error) = self.state.keep_left_on_tag(&visit.left) {
            tracing::error!(
                hint = error.hint(),
                "what is on the tag was not kept: {error}"
            );
        }
    }

    /// Writes if the tag does not hold what it should.
    pub async fn step(&mut self, memory: &mut Memory) {
        let (wanted, paid) = {
            let board = self.board.borrow_and_update();
            (board.faces.nfc.clone(), paid(&board.shown))
        };
        if paid.is_some() && memory.paid != paid {
            memory.plan.paid();
            memory.paid = paid;
        }
        if self.is_over(&wanted) {
            return;
        }
        let Some(step) = memory.plan.poll(&wanted, self.clock.ticks_ms()) else {
            return;
        };
        match self.carry_out(&step).await {
            Ok(visit) => self.visited(memory, &step, &wanted, &visit),
            Err(failure) => {
                // What the visit itself saw arrive is older than its failure.
                while let Ok(event) = self.events.try_recv() {
                    self.heard(memory, &event);
                }
                self.failed(memory, &failure);
            }
        }
    }

    /// After a sleep, reader and tag may be there before the board has looked at the clock; it does so at
    /// once, and a token whose window is over is not written before.
    fn is_over(&self, wanted: &Shows) -> bool {
        let closes = wanted.as_ref().ok().map(|face| face.closes);
        closes
            .zip(self.clock.now())
            .is_some_and(|(closes, now)| closes <= now)
    }

    async fn wait(&mut self, memory: &mut Memory) {
        let now = self.clock.ticks_ms();
        let retry = memory.plan.poll_timeout().map(|t| (t - now).max(1) as u64);
        let pause = Duration::from_millis(retry.unwrap_or(u64::from(u32::MAX)));
        tokio::select! {
            _ = self.stop.changed() => {}
            _ = self.board.changed() => {}
            _ = tokio::time::sleep(pause) => {}
            Some(event) = self.events.recv() => self.heard(memory, &event),
        }
    }

    async fn carry_out(&self, step: &TagStep) -> Result<TagVisit, TagFailure> {
        match step {
            TagStep::Blank => self.writer.blank().await,
            TagStep::Show(face) => match ndef::uri_message(face.text()) {
                Ok(message) => self.writer.show(message).await,
                Err(error) => Err(TagFailure {
                    kind: "link",
                    reason: format!("the link does not fit on a tag: {error}"),
                    may_have_worn: false,
                }),
            },
        }
    }

    fn visited(&self, memory: &mut Memory, step: &TagStep, wanted: &Shows, visit: &TagVisit) {
        memory.plan.done(step, wanted, self.clock.ticks_ms());
        memory.told = None;
        let written = match step {
            TagStep::Show(face) => Some(seen(face)),
            TagStep::Blank => None,
        };
        let before = std::mem::replace(&mut memory.last, written);
        self.record(visit, before, written);
    }

    /// Wear, taps and counter of a visit, for this run and the next; whether they are on the disk.
    fn record(
        &self,
        visit: &TagVisit,
        before: Option<SeenWindow>,
        written: Option<SeenWindow>,
    ) -> bool {
        let at = self.clock.now_or_wall();
        self.metrics.tag_visited(visit);
        self.metrics.tag_in_order(true);
        if visit.was_altered {
            self.metrics.tag_failed("altered");
            tracing::warn!(tag = visit.uid, "{ALTERED}");
        }
        tracing::debug!(tag = visit.uid, pages = visit.pages, "tag written");
        let wear = self.wear(&visit.uid);
        let events = events_of(visit, before, written, wear, at);
        let visited = TagVisited {
            uid: &visit.uid,
            counter: visit.counter,
            at,
        };
        let kept = self.state.tag_visited(&visited, &events);
        if let Err(error) = &kept {
            self.metrics.storage_failed();
            log_unkept("a visit to the tag", error);
        }
        self.reports.notify_one();
        kept.is_ok()
    }

    /// As it was counted before the visit touched the tag.
    fn wear(&self, uid: &str) -> Option<TagWear> {
        let nfc = self.board.borrow().nfc;
        let counted = self.state.tag(uid).inspect_err(|error| {
            tracing::error!(hint = error.hint(), "wear is not known: {error}");
        });
        let wear = counted.ok().flatten()?.wear(nfc.as_ref());
        self.metrics
            .tag_wear(&wear, wear.lasts(self.clock.now_or_wall()));
        Some(wear)
    }

    fn failed(&self, memory: &mut Memory, failure: &TagFailure) {
        let now = self.clock.ticks_ms();
        memory.plan.failed(now, failure.may_have_worn);
        if failure.kind == "superseded" {
            return;
        }
        self.metrics.tag_failed(failure.kind);
        self.metrics.tag_in_order(false);
        // The same trouble again is told once, or a missing tag would fill the outbox.
        if memory.told.replace(failure.kind) == Some(failure.kind) {
            return;
        }
        tracing::warn!(kind = failure.kind, "{failure}");
        let at = self.clock.now_or_wall();
        let event = event(
            at,
            Seen::TagFailed {
                reason: shortened(&failure.reason),
            },
        );
        if let Err(error) = self.state.push(&event) {
            log_unkept("a report", &error);
        }
        self.reports.notify_one();
    }

    /// Reader and tag have something to say.
    pub fn heard(&self, memory: &mut Memory, event: &TagEvent) {
        tracing::debug!(?event, "reader");
        let now = self.clock.ticks_ms();
        match event {
            TagEvent::TagArrived { uid } => memory.plan.arrived(Arrived::Tag { uid }, now),
            TagEvent::ReaderArrived { .. } | TagEvent::ReaderReady | TagEvent::PcscdBack => {
                memory.plan.arrived(Arrived::Reader, now);
            }
            TagEvent::ReaderGone
            | TagEvent::TagRemoved
            | TagEvent::TagRefused(_)
            | TagEvent::PcscdAbsent => self.metrics.tag_in_order(false),
        }
    }
}

fn log_unkept(what: &str, error: &StateError) {
    let hint = error.hint();
    match error {
        StateError::DiskFull => tracing::warn!(hint, "{what} waits in memory: {error}"),
        _ => tracing::error!(hint, "{what} was not kept: {error}"),
    }
}

fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_MAX)].to_owned()
}

fn paid(shown: &Shown) -> Option<protocol::ids::ClaimId> {
    match shown {
        Shown::Paid(paid) => Some(paid.claim),
        _ => None,
    }
}

fn events_of(
    visit: &TagVisit,
    before: Option<SeenWindow>,
    written: Option<SeenWindow>,
    wear: Option<TagWear>,
    at: Timestamp,
) -> Vec<TerminalEvent> {
    let counter = visit.counter.map(|left| TagCounter {
        found: visit.counter_found,
        left,
    });
    let tap = visit
        .taps
        .filter(|count| *count > 0)
        .map(|count| Seen::Tap {
            tag_uid: visit.uid.clone(),
            count,
            window: before,
            // Once for each visit.
            counter: counter.filter(|_| written.is_none()),
        });
    let altered = visit.was_altered.then(|| Seen::TagFailed {
        reason: ALTERED.into(),
    });
    let written = written.map(|window| Seen::TagWritten {
        tag_uid: visit.uid.clone(),
        pages: visit.pages,
        window,
        signs: visit.signs,
        wear,
        counter,
    });
    let seen = [tap, altered, written].into_iter().flatten();
    seen.map(|what| event(at, what)).collect()
}

fn event(at: Timestamp, what: Seen) -> TerminalEvent {
    TerminalEvent {
        id: ids::event_id(at),
        at,
        what,
    }
}

fn seen(face: &Face) -> SeenWindow {
    SeenWindow {
        channel: face.window.channel,
        version: face.window.version,
        epoch: face.window.epoch,
        window: face.window.window,
        turn: face.turn,
    }
}

#[cfg(test)]
mod tests;
