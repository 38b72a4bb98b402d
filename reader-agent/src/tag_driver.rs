//! Does the tag hold the token of the moment, and does the authority hear of it?

use std::sync::Arc;
use std::time::Duration;

use protocol::ndef;
use protocol::time::Timestamp;
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TerminalEvent};
use tokio::sync::{Notify, mpsc, watch};

use crate::clock::Clock;
use crate::core::Board;
use crate::ids;
use crate::metrics::Metrics;
use crate::reader::TagEvent;
use crate::rotation::{Face, Shows};
use crate::shown::Shown;
use crate::state::{State, TagVisited};
use crate::tag_plan::{TagPlan, TagStep};
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
struct Memory {
    plan: TagPlan,
    last: Option<SeenWindow>,
    told: Option<&'static str>,
    paid: Option<protocol::ids::ClaimId>,
}

impl TagDriver {
    /// Writes until told to stop, then blanks: a tag nobody tends would go stale.
    pub async fn run(mut self) {
        let mut memory = Memory::default();
        while !*self.stop.borrow() {
            self.step(&mut memory).await;
            self.wait(&mut memory).await;
        }
        match tokio::time::timeout(BLANK_DEADLINE, self.writer.blank()).await {
            Ok(Ok(visit)) => self.leave(&visit),
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

    async fn step(&mut self, memory: &mut Memory) {
        let (wanted, paid) = {
            let board = self.board.borrow_and_update();
            (board.faces.nfc.clone(), paid(&board.shown))
        };
        if paid.is_some() && memory.paid != paid {
            memory.plan.paid();
            memory.paid = paid;
        }
        let Some(step) = memory.plan.poll(&wanted, self.clock.ticks_ms()) else {
            return;
        };
        match self.carry_out(&step).await {
            Ok(visit) => self.visited(memory, &step, &wanted, &visit),
            Err(failure) => self.failed(memory, &failure),
        }
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
                }),
            },
        }
    }

    fn visited(&self, memory: &mut Memory, step: &TagStep, wanted: &Shows, visit: &TagVisit) {
        memory.plan.done(step, wanted, self.clock.ticks_ms());
        memory.told = None;
        let at = self.clock.now_or_wall();
        let written = match step {
            TagStep::Show(face) => Some(seen(face)),
            TagStep::Blank => None,
        };
        let before = std::mem::replace(&mut memory.last, written);
        self.metrics.tag_visited(visit);
        if visit.was_altered {
            self.metrics.tag_failed("altered");
            tracing::warn!(tag = visit.uid, "{ALTERED}");
        }
        tracing::debug!(tag = visit.uid, pages = visit.pages, "tag written");
        let events = events_of(visit, before, written, at);
        let visited = TagVisited {
            uid: &visit.uid,
            pages: visit.pages,
            counter: visit.counter,
            at,
        };
        match self.state.tag_visited(&visited, &events) {
            Ok(()) => self.reports.notify_one(),
            Err(error) => {
                self.metrics.storage_failed();
                tracing::error!(
                    hint = error.hint(),
                    "a visit to the tag was not kept: {error}"
                );
            }
        }
    }

    fn failed(&self, memory: &mut Memory, failure: &TagFailure) {
        memory.plan.failed(self.clock.ticks_ms());
        if failure.kind == "superseded" {
            return;
        }
        self.metrics.tag_failed(failure.kind);
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
        match self.state.push(&event) {
            Ok(()) => self.reports.notify_one(),
            Err(error) => tracing::error!(hint = error.hint(), "a report was not kept: {error}"),
        }
    }

    fn heard(&self, memory: &mut Memory, event: &TagEvent) {
        tracing::debug!(?event, "reader");
        match event {
            TagEvent::ReaderArrived { .. }
            | TagEvent::ReaderReady
            | TagEvent::TagArrived { .. }
            | TagEvent::PcscdBack => memory.plan.arrived(),
            TagEvent::ReaderGone
            | TagEvent::TagRemoved
            | TagEvent::TagRefused(_)
            | TagEvent::PcscdAbsent => {}
        }
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
mod tests {
    use super::*;
    use crate::tag::{LeftOn, TagError};

    #[test]
    fn a_tag_that_somebody_wrote_on_is_reported_and_its_taps_are_not_lost() {
        let visit = TagVisit {
            uid: "04A1".into(),
            pages: 3,
            taps: Some(2),
            counter_found: Some(8),
            counter: Some(9),
            was_altered: true,
            left: LeftOn::new(&[4, 0xA1], &[]),
        };
        let events = events_of(&visit, None, None, Timestamp::from_ms(0));
        let seen: Vec<Seen> = events.into_iter().map(|event| event.what).collect();
        assert!(matches!(seen[0], Seen::Tap { count: 2, .. }));
        assert!(matches!(&seen[1], Seen::TagFailed { reason } if reason.contains("wrote on it")));
        assert!(ALTERED.len() <= REASON_MAX);
    }

    #[test]
    fn the_counter_of_a_visit_is_told_once_and_by_what_was_written() {
        let visit = TagVisit {
            uid: "04A1".into(),
            pages: 3,
            taps: Some(2),
            counter_found: Some(8),
            counter: Some(9),
            was_altered: false,
            left: LeftOn::new(&[4, 0xA1], &[]),
        };
        let window = SeenWindow {
            channel: protocol::token::Channel::Nfc,
            version: 1,
            epoch: 2,
            window: 3,
            turn: 0,
        };
        let told = |written| {
            let events = events_of(&visit, None, written, Timestamp::from_ms(0));
            let counter = |event: TerminalEvent| match event.what {
                Seen::Tap { counter, .. } | Seen::TagWritten { counter, .. } => counter,
                Seen::TagFailed { .. } => None,
            };
            events.into_iter().map(counter).collect::<Vec<_>>()
        };
        let both = Some(TagCounter {
            found: Some(8),
            left: 9,
        });
        assert_eq!(told(Some(window)), [None, both]);
        assert_eq!(told(None), [both]);
    }

    #[test]
    fn a_reason_of_any_length_fits_into_a_report() {
        let wanted = Some("ü".repeat(300));
        let long = TagError::NoReader { wanted }.to_string();
        assert!(long.len() > REASON_MAX);
        let short = shortened(&long);
        assert!((REASON_MAX - 1..=REASON_MAX).contains(&short.len()));
        assert!(long.starts_with(&short));
        assert_eq!(shortened("no tag"), "no tag");
    }
}
