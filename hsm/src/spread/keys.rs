//! Which HSM token of a spread holds which key?
//!
//! A key is believed where it was seen first: where it was made, or on the first HSM token listed that has
//! it. Another one counts as a holder only once it has shown the same key ([`Witness`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::witness::Standing;
use crate::{KeyKind, KeyLabel};

pub(super) struct Keys(Mutex<State>);

struct State {
    known: BTreeMap<KeyLabel, KeyKind>,
    /// Public halves as the caller's books have them.
    told: BTreeMap<KeyLabel, [u8; 65]>,
    /// Of each member.
    standings: Vec<BTreeMap<KeyLabel, Standing>>,
}

impl Keys {
    pub(super) fn new(members: usize) -> Self {
        Self(Mutex::new(State {
            known: BTreeMap::new(),
            told: BTreeMap::new(),
            standings: vec![BTreeMap::new(); members],
        }))
    }

    /// Believed here, unless it is known from somewhere; answers whether it was not.
    pub(super) fn learn(&self, label: &KeyLabel, kind: KeyKind, member: usize) -> bool {
        let mut state = self.state();
        if state.known.contains_key(label) {
            return false;
        }
        state.known.insert(label.clone(), kind);
        state.standings[member].insert(label.clone(), Standing::Holds);
        true
    }

    /// Answers whether that is news.
    pub(super) fn tell(&self, label: &KeyLabel, point: &[u8; 65]) -> bool {
        self.state().told.insert(label.clone(), *point) != Some(*point)
    }

    pub(super) fn told(&self, label: &KeyLabel) -> Option<[u8; 65]> {
        self.state().told.get(label).copied()
    }

    /// Told of, and seen nowhere so far.
    pub(super) fn unmet(&self) -> Vec<KeyLabel> {
        let state = self.state();
        let unmet = state
            .told
            .keys()
            .filter(|it| !state.known.contains_key(*it));
        unmet.cloned().collect()
    }

    pub(super) fn note(&self, label: &KeyLabel, member: usize, standing: Standing) {
        let mut state = self.state();
        if state.known.contains_key(label) {
            state.standings[member].insert(label.clone(), standing);
        }
    }

    pub(super) fn forget(&self, label: &KeyLabel) {
        let mut state = self.state();
        state.known.remove(label);
        state.told.remove(label);
        for standings in &mut state.standings {
            standings.remove(label);
        }
    }

    pub(super) fn known(&self) -> Vec<(KeyLabel, KeyKind)> {
        let state = self.state();
        let known = state.known.iter();
        known.map(|(label, kind)| (label.clone(), *kind)).collect()
    }

    /// A key of this kind that is held where `beside` is: what a witness needs for a pair.
    pub(super) fn partner(&self, beside: &KeyLabel, wanted: KeyKind) -> Option<KeyLabel> {
        let state = self.state();
        let together = |label: &KeyLabel| {
            let mut members = state.standings.iter();
            members.any(|it| holds(it, beside) && holds(it, label))
        };
        let of_kind = state.known.iter().filter(|(_, kind)| **kind == wanted);
        let mut labels = of_kind.map(|(label, _)| label);
        labels.find(|label| together(label)).cloned()
    }

    pub(super) fn is_known(&self, labels: &[KeyLabel]) -> bool {
        let state = self.state();
        labels.iter().all(|label| state.known.contains_key(label))
    }

    pub(super) fn holds_all(&self, member: usize, labels: &[KeyLabel]) -> bool {
        let state = self.state();
        let standings = &state.standings[member];
        labels.iter().all(|label| holds(standings, label))
    }

    /// Members that hold it, in their order.
    pub(super) fn holders(&self, label: &KeyLabel) -> Vec<usize> {
        let state = self.state();
        let members = state.standings.iter().enumerate();
        let holders = members.filter(|(_, it)| holds(it, label));
        holders.map(|(member, _)| member).collect()
    }

    /// Labels that this member lacks, gives to another key, or was never seen to hold.
    pub(super) fn amiss(&self, member: usize) -> Vec<(KeyLabel, Standing)> {
        let state = self.state();
        let known = state.known.keys();
        let standings = known.map(|label| (label, state.standing(member, label)));
        let amiss = standings.filter(|(_, standing)| *standing != Standing::Holds);
        amiss.map(|(label, it)| (label.clone(), it)).collect()
    }

    pub(super) fn is_amiss(&self, member: usize) -> bool {
        let state = self.state();
        let mut known = state.known.keys();
        known.any(|label| state.standing(member, label) != Standing::Holds)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn standing(&self, member: usize, label: &KeyLabel) -> Standing {
        let standing = self.standings[member].get(label);
        standing.copied().unwrap_or(Standing::Unseen)
    }
}

fn holds(standings: &BTreeMap<KeyLabel, Standing>, label: &KeyLabel) -> bool {
    standings.get(label) == Some(&Standing::Holds)
}
