//! What did the keys of this HSM token answer when they were seen first, and which of them answer otherwise now?
//!
//! One for all sessions of an HSM token, since that is what outlives a session. It is told the time.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use p256::ecdsa::VerifyingKey;
use subtle::ConstantTimeEq;

use super::session::Part;
use crate::KeyLabel;

/// Between two looks at whether a key that was another one is the right one again.
pub(crate) const FOREIGN_PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Answers(Mutex<State>);

/// What a secret key answered first.
#[derive(Clone)]
pub(crate) struct Answer {
    /// Of a sealing key: the seed whose mac the answer is.
    pub(crate) blob: Option<Vec<u8>>,
    pub(crate) answer: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Same {
    Yes,
    No,
}

#[derive(Default)]
struct State {
    points: HashMap<KeyLabel, Point>,
    answers: HashMap<(Part, KeyLabel), Answer>,
    /// Other keys than before.
    foreign: BTreeSet<(KeyLabel, Part)>,
    looked_at: Option<Instant>,
}

struct Point {
    bytes: [u8; 65],
    /// None of one that is no point of the curve: nothing verifies under it.
    key: Option<VerifyingKey>,
    /// Somebody's books say so, whatever an HSM token shows.
    told: bool,
}

impl Answers {
    pub(crate) fn answer(&self, part: Part, label: &KeyLabel) -> Option<Answer> {
        let state = self.state();
        state.answers.get(&(part, label.clone())).cloned()
    }

    /// Whoever was first is believed, and answered.
    pub(crate) fn learn(&self, part: Part, label: &KeyLabel, first: Answer) -> Answer {
        let mut state = self.state();
        let known = state.answers.entry((part, label.clone()));
        known.or_insert(first).clone()
    }

    pub(crate) fn verifying_key(&self, label: &KeyLabel) -> Option<VerifyingKey> {
        self.state().points.get(label)?.key
    }

    /// The same as was seen or told before; the first one is believed.
    pub(crate) fn learn_point(&self, label: &KeyLabel, point: &[u8; 65]) -> Same {
        let mut state = self.state();
        let known = state.points.entry(label.clone());
        let known = known.or_insert_with(|| Point::new(point, false));
        Same::from(known.bytes == *point)
    }

    /// Answers whether something else was believed so far.
    pub(crate) fn tell_point(&self, label: &KeyLabel, point: &[u8; 65]) -> bool {
        let mut state = self.state();
        if let Some(known) = state.points.get_mut(label)
            && known.bytes == *point
        {
            known.told = true;
            return false;
        }
        let told = Point::new(point, true);
        state.points.insert(label.clone(), told).is_some()
    }

    pub(crate) fn note(&self, part: Part, label: &KeyLabel, same: Same) {
        let mut state = self.state();
        let key = (label.clone(), part);
        let news = match same {
            Same::Yes => state.foreign.remove(&key),
            Same::No => state.foreign.insert(key),
        };
        drop(state);
        match same {
            Same::Yes if news => tracing::info!(label = label.0, "the right key is there again"),
            Same::No if news => {
                tracing::error!(label = label.0, "another key than before has this label");
            }
            Same::Yes | Same::No => {}
        }
    }

    /// The key was destroyed, or made anew. Answers whether anything was believed.
    pub(crate) fn forget(&self, label: &KeyLabel) -> bool {
        let believed = self.disown(label);
        let told = self.state().points.remove(label).is_some();
        believed || told
    }

    /// Somebody else knows better what to believe of this label. Answers whether anything was believed.
    pub(crate) fn disown(&self, label: &KeyLabel) -> bool {
        let mut state = self.state();
        let before = state.answers.len() + state.points.len();
        state.answers.retain(|(_, of), _| of != label);
        state.foreign.retain(|(of, _)| of != label);
        if state.points.get(label).is_some_and(|it| !it.told) {
            state.points.remove(label);
        }
        state.answers.len() + state.points.len() != before
    }

    /// Labels that other keys have than before.
    pub(crate) fn foreign(&self) -> BTreeSet<KeyLabel> {
        let state = self.state();
        state.foreign.iter().map(|(it, _)| it.clone()).collect()
    }

    /// Whom to look at once more; now and then, while there is anybody.
    pub(crate) fn poll_foreign(&self, now: Instant) -> Vec<(KeyLabel, Part)> {
        let mut state = self.state();
        let rests = state.looked_at.is_some_and(|at| now < at + FOREIGN_PAUSE);
        if state.foreign.is_empty() || rests {
            return Vec::new();
        }
        state.looked_at = Some(now);
        state.foreign.iter().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    pub(crate) fn compare(&self, answer: &[u8]) -> Same {
        Same::from(bool::from(self.answer.as_slice().ct_eq(answer)))
    }
}

impl Point {
    fn new(bytes: &[u8; 65], told: bool) -> Self {
        Self {
            bytes: *bytes,
            key: VerifyingKey::from_sec1_bytes(bytes).ok(),
            told,
        }
    }
}

impl From<bool> for Same {
    fn from(same: bool) -> Self {
        match same {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> KeyLabel {
        KeyLabel("k".into())
    }

    fn answer(byte: u8) -> Answer {
        Answer {
            blob: None,
            answer: vec![byte; 32],
        }
    }

    #[test]
    fn what_was_answered_first_is_believed_until_the_key_is_gone() {
        let answers = Answers::default();
        answers.learn(Part::Binding, &label(), answer(1));
        let known = answers.learn(Part::Binding, &label(), answer(2));
        assert_eq!(known.compare(&[1; 32]), Same::Yes);
        assert_eq!(known.compare(&[2; 32]), Same::No);
        assert_eq!(known.compare(&[1; 16]), Same::No);
        answers.forget(&label());
        assert!(answers.answer(Part::Binding, &label()).is_none());
    }

    #[test]
    fn what_was_told_outlives_what_was_seen() {
        let answers = Answers::default();
        assert_eq!(answers.learn_point(&label(), &[4; 65]), Same::Yes);
        assert!(answers.tell_point(&label(), &[5; 65]), "another one");
        assert!(!answers.tell_point(&label(), &[5; 65]), "it is known");
        answers.disown(&label());
        assert_eq!(answers.learn_point(&label(), &[4; 65]), Same::No);
        answers.forget(&label());
        assert_eq!(answers.learn_point(&label(), &[4; 65]), Same::Yes);
    }

    #[test]
    fn another_key_is_looked_at_now_and_then_until_it_is_the_right_one() {
        let (answers, now) = (Answers::default(), crate::clock::now());
        assert!(answers.poll_foreign(now).is_empty());
        answers.note(Part::Cmac, &label(), Same::No);
        assert_eq!(answers.foreign(), BTreeSet::from([label()]));
        assert_eq!(answers.poll_foreign(now), [(label(), Part::Cmac)]);
        assert!(answers.poll_foreign(now).is_empty());
        assert_eq!(answers.poll_foreign(now + FOREIGN_PAUSE).len(), 1);
        answers.note(Part::Binding, &label(), Same::Yes);
        assert_eq!(answers.foreign().len(), 1, "of another part");
        answers.note(Part::Cmac, &label(), Same::Yes);
        assert!(answers.poll_foreign(now + FOREIGN_PAUSE * 9).is_empty());
    }
}
