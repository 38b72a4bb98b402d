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
    /// Of each member.
    standings: Vec<BTreeMap<KeyLabel, Standing>>,
}

impl Keys {
    pub(super) fn new(members: usize) -> Self {
        Self(Mutex::new(State {
            known: BTreeMap::new(),
            standings: vec![BTreeMap::new(); members],
        }))
    }

    /// Believed here, unless it is known from somewhere.
    pub(super) fn learn(&self, label: &KeyLabel, kind: KeyKind, member: usize) {
        let mut state = self.state();
        if state.known.contains_key(label) {
            return;
        }
        state.known.insert(label.clone(), kind);
        state.standings[member].insert(label.clone(), Standing::Holds);
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

    /// Labels that this member was seen to lack, or to give to another key.
    pub(super) fn amiss(&self, member: usize) -> Vec<(KeyLabel, Standing)> {
        let state = self.state();
        let standings = state.standings[member].iter();
        let amiss = standings.filter(|(_, standing)| **standing != Standing::Holds);
        amiss.map(|(label, it)| (label.clone(), *it)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds(standings: &BTreeMap<KeyLabel, Standing>, label: &KeyLabel) -> bool {
    standings.get(label) == Some(&Standing::Holds)
}
