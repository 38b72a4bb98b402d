//! Which epoch keys does this process remember?

use std::collections::{HashMap, VecDeque};

use protocol::derive::{EpochId, EpochKey};
use protocol::ids::TerminalId;
use protocol::live::LoadedEpoch;

/// Terminals whose keys are kept; the one loaded first goes first.
pub const TERMINALS_KEPT_MAX: usize = 20_000;
/// Hours kept of one terminal: the present one and its neighbours, under two seed versions.
const EPOCHS_KEPT_MAX: usize = 6;

/// The keys of the present, per terminal, and in which order terminals came.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) of: HashMap<TerminalId, Vec<(EpochId, EpochKey)>>,
    order: VecDeque<TerminalId>,
}

impl Kept {
    pub(super) fn find(&self, id: &EpochId) -> Option<EpochKey> {
        let of_terminal = self.of.get(&id.terminal)?;
        let entry = of_terminal.iter().find(|(known, _)| known == id)?;
        Some(entry.1.clone())
    }

    /// Replaces what was kept of this terminal.
    pub(super) fn keep(&mut self, terminal: TerminalId, generation: u32, loaded: &[LoadedEpoch]) {
        if loaded.is_empty() {
            return;
        }
        let entry = |it: &LoadedEpoch| {
            let id = EpochId {
                generation,
                terminal,
                version: it.version,
                epoch: it.epoch,
            };
            (id, it.key.clone())
        };
        let entries = loaded.iter().rev().take(EPOCHS_KEPT_MAX).map(entry);
        if self.of.insert(terminal, entries.collect()).is_none() {
            self.order.push_back(terminal);
        }
        while self.of.len() > TERMINALS_KEPT_MAX {
            match self.order.pop_front() {
                Some(first) => self.of.remove(&first),
                None => return,
            };
        }
    }

    pub(super) fn forget(&mut self, terminal: TerminalId) {
        if self.of.remove(&terminal).is_some() {
            self.order.retain(|known| *known != terminal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::window::Policy;

    fn terminal(number: u32) -> TerminalId {
        TerminalId::from_number(number).expect("below the limit")
    }

    fn hour(epoch: u32) -> LoadedEpoch {
        LoadedEpoch {
            version: 1,
            epoch,
            key: EpochKey::from_bytes([7; 32]),
            policy: Policy::default().check().expect("it is sound"),
        }
    }

    #[test]
    fn keys_are_kept_of_a_bounded_number_of_terminals() {
        let mut kept = Kept::default();
        for number in 0..TERMINALS_KEPT_MAX as u32 + 10 {
            kept.keep(terminal(number), 1, &[hour(5)]);
        }
        assert_eq!(kept.of.len(), TERMINALS_KEPT_MAX);
        assert_eq!(kept.order.len(), TERMINALS_KEPT_MAX);
        assert!(!kept.of.contains_key(&terminal(0)));
    }

    #[test]
    fn a_forgotten_terminal_has_no_keys_and_another_generation_has_none_of_these() {
        let mut kept = Kept::default();
        kept.keep(terminal(1), 1, &[hour(5)]);
        let id = |generation| EpochId {
            generation,
            terminal: terminal(1),
            version: 1,
            epoch: 5,
        };
        assert!(kept.find(&id(1)).is_some());
        assert!(kept.find(&id(2)).is_none());
        kept.forget(terminal(1));
        assert!(kept.find(&id(1)).is_none());
        assert!(kept.order.is_empty());
    }
}
