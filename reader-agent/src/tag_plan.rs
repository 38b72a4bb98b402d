//! When is the tag written, and when is it left dead so that nobody can wear it out?
//!
//! At every boundary, and after a spend on it. Spends that came to nothing (a token burnt, no payment
//! after it) have a budget per hour; past it the tag is blanked until the next boundary.

use std::collections::VecDeque;

use protocol::time::Millis;
use protocol::token::WindowId;

use crate::rotation::{Face, Shows};

/// Writes per hour for spends that no payment followed.
pub const FRUITLESS_WRITES_MAX: usize = 30;
const HOUR_MS: Millis = 3_600_000;
/// Between two tries at a tag that could not be written, at first and at most.
pub const RETRY_FIRST_MS: Millis = 1_000;
pub const RETRY_LONGEST_MS: Millis = 60_000;

/// What to do with the tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagStep {
    Show(Face),
    Blank,
}

/// Decides; `tag_driver.rs` writes. Times are steady milliseconds.
#[derive(Default)]
pub struct TagPlan {
    on_tag: OnTag,
    /// The last token written: a spend counts, and a dead tag stays dead, whatever comes between.
    last: Option<Face>,
    dead: Option<WindowId>,
    fruitless: VecDeque<Millis>,
    /// In a row, at this tag.
    failures: u32,
    not_before: Option<Millis>,
    /// The tag that arrived last.
    tag: Option<Vec<u8>>,
    /// The last try may have cost it a cycle.
    has_worn: bool,
    /// An arrival made a try come sooner, and it failed as well: until then the next one does not.
    owed: Option<Millis>,
}

/// What came back to the reader, or the reader itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived<'a> {
    Tag { uid: &'a [u8] },
    Reader,
}

#[derive(Default, Debug, Clone, PartialEq, Eq)]
enum OnTag {
    /// Just started, a failed write, or another tag.
    #[default]
    Unknown,
    Nothing,
    Face(Face),
}

impl TagPlan {
    /// The next step, if the tag does not hold what it should.
    pub fn poll(&mut self, wanted: &Shows, now: Millis) -> Option<TagStep> {
        if self.not_before.is_some_and(|t| now < t) {
            return None;
        }
        match (wanted, &self.on_tag) {
            (Err(_), OnTag::Nothing) => None,
            (Err(_), _) => Some(TagStep::Blank),
            (Ok(face), OnTag::Face(held)) if held.is_token_of(face) => None,
            (Ok(face), on_tag) if self.dead == Some(face.window) => {
                (*on_tag != OnTag::Nothing).then_some(TagStep::Blank)
            }
            (Ok(face), _) if self.is_spend(face) => Some(self.after_spend(face.clone(), now)),
            (Ok(face), _) => Some(TagStep::Show(face.clone())),
        }
    }

    /// When to poll again although nothing new was heard.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.not_before
    }

    pub fn done(&mut self, step: &TagStep, wanted: &Shows, now: Millis) {
        self.forgive();
        self.on_tag = match step {
            TagStep::Show(face) => {
                if self.is_spend(face) {
                    self.fruitless.push_back(now);
                }
                self.last = Some(face.clone());
                OnTag::Face(face.clone())
            }
            TagStep::Blank => {
                self.dead = wanted.as_ref().ok().map(|face| face.window).or(self.dead);
                OnTag::Nothing
            }
        };
    }

    /// The write failed: what is on the tag is not known, and the next try waits longer.
    pub fn failed(&mut self, now: Millis, may_have_worn: bool) {
        let pause = RETRY_FIRST_MS << self.failures.min(6);
        self.failures += 1;
        let from = self.owed.map_or(now, |owed| owed.max(now));
        self.not_before = Some(from + pause.min(RETRY_LONGEST_MS));
        self.has_worn = may_have_worn;
        self.on_tag = OnTag::Unknown;
    }

    /// A tag or a reader arrived: what lies there may be anything, and it is tried at once. A tag that lies
    /// badly arrives after every write that failed: it gets no more tries for that than the back-off has.
    pub fn arrived(&mut self, what: Arrived<'_>, now: Millis) {
        self.on_tag = OnTag::Unknown;
        match what {
            Arrived::Tag { uid } if self.tag.as_deref() != Some(uid) => {
                self.tag = Some(uid.to_vec());
                self.forgive();
            }
            _ if !self.has_worn => self.not_before = None,
            _ if self.owed.is_none_or(|owed| owed <= now) => self.owed = self.not_before.take(),
            _ => {}
        }
    }

    fn forgive(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.has_worn = false;
        self.owed = None;
    }

    /// A payment followed: that spend came to something.
    pub fn paid(&mut self) {
        self.fruitless.pop_back();
    }

    /// Another token of the window that was written last.
    fn is_spend(&self, face: &Face) -> bool {
        let same_window = |last: &&Face| last.window == face.window;
        let last = self.last.as_ref().filter(same_window);
        last.is_some_and(|last| !last.is_token_of(face))
    }

    fn after_spend(&mut self, face: Face, now: Millis) -> TagStep {
        while self.fruitless.front().is_some_and(|t| *t + HOUR_MS <= now) {
            self.fruitless.pop_front();
        }
        if self.fruitless.len() < FRUITLESS_WRITES_MAX {
            TagStep::Show(face)
        } else {
            TagStep::Blank
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::Blank;
    use crate::testing::nfc_face;

    const OWN: Arrived<'_> = Arrived::Tag { uid: &[4, 1] };
    const OTHER: Arrived<'_> = Arrived::Tag { uid: &[4, 2] };

    fn step(plan: &mut TagPlan, wanted: &Shows, now: Millis) -> Option<TagStep> {
        let step = plan.poll(wanted, now)?;
        plan.done(&step, wanted, now);
        Some(step)
    }

    #[test]
    fn the_tag_is_written_once_per_token_and_blanked_without_one() {
        let mut plan = TagPlan::default();
        let face = Ok(nfc_face(0, 0));
        assert!(matches!(step(&mut plan, &face, 0), Some(TagStep::Show(_))));
        assert_eq!(step(&mut plan, &face, 1), None);
        let none = Err(Blank::NoSchedule);
        assert_eq!(step(&mut plan, &none, 2), Some(TagStep::Blank));
        assert_eq!(step(&mut plan, &none, 3), None);
        assert!(matches!(step(&mut plan, &face, 4), Some(TagStep::Show(_))));
    }

    #[test]
    fn burning_tokens_kills_the_tag_only_until_the_boundary() {
        let mut plan = TagPlan::default();
        let burnt = |turn: usize| Ok(nfc_face(0, turn as u16));
        for turn in 0..=FRUITLESS_WRITES_MAX {
            let step = step(&mut plan, &burnt(turn), turn as Millis);
            assert!(matches!(step, Some(TagStep::Show(_))), "{turn}");
        }
        let next = FRUITLESS_WRITES_MAX + 1;
        assert_eq!(step(&mut plan, &burnt(next), 100), Some(TagStep::Blank));
        assert_eq!(step(&mut plan, &burnt(next + 1), 101), None);
        let boundary = Ok(nfc_face(1, 0));
        assert!(matches!(
            step(&mut plan, &boundary, 102),
            Some(TagStep::Show(_))
        ));
    }

    #[test]
    fn a_tag_that_is_moved_or_fails_in_between_has_no_more_writes_and_stays_dead() {
        type Disturb = fn(&mut TagPlan);
        let disturbances: [Disturb; 2] = [
            |plan| plan.arrived(OWN, 0),
            |plan| {
                plan.failed(0, true);
                plan.not_before = None;
            },
        ];
        for disturb in disturbances {
            let mut plan = TagPlan::default();
            let mut shown = 0;
            for turn in 0..100 {
                let face = Ok(nfc_face(0, turn));
                if let Some(TagStep::Show(_)) = step(&mut plan, &face, 0) {
                    shown += 1;
                }
                disturb(&mut plan);
            }
            assert_eq!(shown, FRUITLESS_WRITES_MAX + 1);
            let none = Err(Blank::NoSchedule);
            assert_eq!(step(&mut plan, &none, 1), Some(TagStep::Blank));
            assert_eq!(step(&mut plan, &Ok(nfc_face(0, 100)), 1), None);
            let boundary = Ok(nfc_face(1, 0));
            assert!(matches!(
                step(&mut plan, &boundary, 1),
                Some(TagStep::Show(_))
            ));
        }
    }

    #[test]
    fn spends_that_were_paid_cost_nothing_and_old_ones_are_forgotten() {
        let mut plan = TagPlan::default();
        for turn in 0..200 {
            let face = Ok(nfc_face(0, turn));
            let step = step(&mut plan, &face, Millis::from(turn));
            assert!(matches!(step, Some(TagStep::Show(_))), "{turn}");
            plan.paid();
        }
        for turn in 200..300 {
            let face = Ok(nfc_face(0, turn));
            let now = Millis::from(turn) * HOUR_MS / 20;
            assert!(matches!(
                step(&mut plan, &face, now),
                Some(TagStep::Show(_))
            ));
        }
    }

    #[test]
    fn a_tag_that_refuses_is_tried_again_later_and_an_arriving_one_at_once() {
        let mut plan = TagPlan::default();
        let face = Ok(nfc_face(0, 0));
        assert!(plan.poll(&face, 0).is_some());
        plan.failed(0, true);
        assert_eq!(plan.poll(&face, RETRY_FIRST_MS - 1), None);
        assert!(plan.poll(&face, RETRY_FIRST_MS).is_some());
        plan.failed(RETRY_FIRST_MS, true);
        plan.arrived(OWN, RETRY_FIRST_MS);
        assert!(plan.poll(&face, RETRY_FIRST_MS).is_some());
    }

    /// Plays a day of a tag that is there again a moment after every try; how many tries.
    fn tries_of_a_day(arrives: Arrived<'_>, may_have_worn: bool) -> usize {
        let mut plan = TagPlan::default();
        let face = Ok(nfc_face(0, 0));
        plan.arrived(OWN, 0);
        let mut tries = 0;
        for now in (0..24 * HOUR_MS).step_by(500) {
            if plan.poll(&face, now).is_some() {
                plan.failed(now, may_have_worn);
                tries += 1;
            } else {
                plan.arrived(arrives, now);
            }
        }
        tries
    }

    #[test]
    fn a_tag_that_lies_badly_and_arrives_after_every_failure_is_not_worn_out_by_it() {
        let minutes = 24 * 60;
        for arrives in [OWN, Arrived::Reader] {
            let tries = tries_of_a_day(arrives, true);
            assert!((minutes..minutes + 20).contains(&tries), "{tries}");
        }
        // A reader that is not there wears nothing, and what comes back is tried at once.
        assert!(tries_of_a_day(Arrived::Reader, false) > 50 * minutes);
    }

    #[test]
    fn a_tag_that_is_put_back_is_tried_at_once_and_another_one_begins_anew() {
        let mut plan = TagPlan::default();
        let face = Ok(nfc_face(0, 0));
        plan.arrived(OWN, 0);
        for n in 0..20 {
            plan.failed(n, true);
        }
        plan.arrived(OWN, 20);
        assert!(plan.poll(&face, 20).is_some());
        plan.failed(20, true);
        plan.arrived(OWN, 21);
        assert_eq!(plan.poll(&face, 21), None);
        plan.arrived(OTHER, 22);
        assert!(plan.poll(&face, 22).is_some());
        plan.failed(22, true);
        assert!(plan.poll(&face, 22 + RETRY_FIRST_MS).is_some());
    }
}
