//! Which keys do a terminal's hours have?
//!
//! ```text
//! epochs ──▶ seed version and pace in force (store) ──▶ kept here? ──▶ one HMAC batch per version (HSM)
//! ```
//! Only hours that people pay in are kept: what memory can lose is the loaded hours of the loaded
//! terminals, never a seed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hsm::{BATCH_MAX, Priority};
use protocol::derive::{EpochId, EpochKey, epoch_key_input};
use protocol::ids::TerminalId;
use protocol::live::{LoadedEpoch, candidates, epochs_needed};
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::turn::TurnCause;

use super::{Failure, pacing, seeds};
use crate::app::App;
use crate::store::{Pace, Seed};

/// Terminals whose keys are kept; the one loaded first goes first.
pub const TERMINALS_KEPT_MAX: usize = 20_000;
/// Hours kept of one terminal: the present one and its neighbours, under two seed versions.
const EPOCHS_KEPT_MAX: usize = 6;

/// Loads epoch keys, and keeps those of the present.
pub struct EpochKeys {
    app: Arc<App>,
    kept: Mutex<Kept>,
}

impl EpochKeys {
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            kept: Mutex::default(),
        }
    }

    /// The keys that judge a token at `now`; hours before the terminal's first seed have none.
    pub async fn present(
        &self,
        terminal: TerminalId,
        now: Timestamp,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let epochs = epochs_needed(terminal, now);
        let loaded = self.load(terminal, &epochs, Priority::Payment).await?;
        self.kept().keep(terminal, self.app.generation, &loaded);
        Ok(loaded)
    }

    /// The keys of hours that a schedule tells; they are not kept here.
    pub async fn for_schedule(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        self.load(terminal, epochs, Priority::Renewal).await
    }

    /// The windows that move at `now` because of `cause`: the one function that says so.
    pub async fn moved(
        &self,
        terminal: TerminalId,
        now: Timestamp,
        cause: TurnCause,
    ) -> Result<Vec<WindowId>, Failure> {
        let loaded = self.present(terminal, now).await?;
        let acceptable = candidates(terminal, now, &loaded, &Channel::ALL);
        Ok(cause.moves(acceptable.into_iter().map(|candidate| candidate.id)))
    }

    /// After a ban.
    pub fn forget(&self, terminal: TerminalId) {
        self.kept().forget(terminal);
    }

    /// After bans that may have been missed.
    pub fn forget_all(&self) {
        *self.kept() = Kept::default();
    }

    /// How many terminals have keys here now.
    pub fn terminals_kept(&self) -> usize {
        self.kept().of.len()
    }

    async fn load(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
        priority: Priority,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let paces = self.app.store.paces(terminal).await?;
        let mut loaded = Vec::with_capacity(epochs.len());
        for (seed, epochs) in self.seeds(terminal, epochs).await? {
            let (mut known, lacking) = self.split(terminal, seed.version, &epochs, &paces);
            loaded.append(&mut known);
            for part in lacking.chunks(BATCH_MAX) {
                loaded.append(&mut self.derive(&seed, part, &paces, priority).await?);
            }
        }
        loaded.sort_by_key(|entry| entry.epoch);
        Ok(loaded)
    }

    /// Each seed version in force, with its epochs.
    async fn seeds(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
    ) -> Result<Vec<(Seed, Vec<u32>)>, Failure> {
        if let Some(seed) = self.only_seed(terminal, epochs).await? {
            return Ok(vec![(seed, epochs.to_vec())]);
        }
        let mut found: Vec<(Seed, Vec<u32>)> = Vec::new();
        for epoch in epochs {
            let Some(seed) = self.app.store.seed_for(terminal, *epoch).await? else {
                continue;
            };
            match found.iter_mut().find(|(s, _)| s.version == seed.version) {
                Some((_, of_seed)) => of_seed.push(*epoch),
                None => found.push((seed, vec![*epoch])),
            }
        }
        Ok(found)
    }

    /// The seed of all of them, if it is one: versions only rise, so what is in force at both ends is
    /// in force in between. `epochs` rise.
    async fn only_seed(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
    ) -> Result<Option<Seed>, Failure> {
        let (Some(first), Some(last)) = (epochs.first(), epochs.last()) else {
            return Ok(None);
        };
        let store = &self.app.store;
        let seed = store.seed_for(terminal, *first).await?;
        if first == last {
            return Ok(seed);
        }
        let at_the_end = store.seed_for(terminal, *last).await?;
        let same = seed.as_ref().map(|it| it.version) == at_the_end.map(|it| it.version);
        Ok(seed.filter(|_| same))
    }

    fn split(
        &self,
        terminal: TerminalId,
        version: u32,
        epochs: &[u32],
        paces: &[Pace],
    ) -> (Vec<LoadedEpoch>, Vec<u32>) {
        let kept = self.kept();
        let mut known = Vec::new();
        let mut lacking = Vec::new();
        for epoch in epochs {
            match kept.find(&self.id(terminal, version, *epoch)) {
                Some(key) => known.push(LoadedEpoch {
                    version,
                    epoch: *epoch,
                    key,
                    policy: pacing::policy_of(&self.app.config.policy, paces, *epoch),
                }),
                None => lacking.push(*epoch),
            }
        }
        (known, lacking)
    }

    async fn derive(
        &self,
        seed: &Seed,
        epochs: &[u32],
        paces: &[Pace],
        priority: Priority,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        if !seeds::is_for(&seed.sealed, seed.terminal, seed.version) {
            let detail = format!("the seed of {} is sealed for another row", seed.terminal);
            return Err(hsm::HsmError::NotOurKey { detail }.into());
        }
        let input = |epoch: &u32| epoch_key_input(&self.id(seed.terminal, seed.version, *epoch));
        let messages = epochs.iter().map(input).collect();
        let macs = self
            .app
            .hsm
            .hmac_batch(&seed.keys, &seed.sealed, messages, priority)
            .await?;
        let entry = |(epoch, mac): (&u32, &hsm::Mac)| LoadedEpoch {
            version: seed.version,
            epoch: *epoch,
            key: EpochKey::from_bytes(mac.0),
            policy: pacing::policy_of(&self.app.config.policy, paces, *epoch),
        };
        Ok(epochs.iter().zip(&macs).map(entry).collect())
    }

    fn id(&self, terminal: TerminalId, version: u32, epoch: u32) -> EpochId {
        EpochId {
            generation: self.app.generation,
            terminal,
            version,
            epoch,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys of the present, per terminal, and in which order terminals came.
#[derive(Default)]
struct Kept {
    of: HashMap<TerminalId, Vec<(EpochId, EpochKey)>>,
    order: VecDeque<TerminalId>,
}

impl Kept {
    fn find(&self, id: &EpochId) -> Option<EpochKey> {
        let of_terminal = self.of.get(&id.terminal)?;
        let entry = of_terminal.iter().find(|(known, _)| known == id)?;
        Some(entry.1.clone())
    }

    /// Replaces what was kept of this terminal.
    fn keep(&mut self, terminal: TerminalId, generation: u32, loaded: &[LoadedEpoch]) {
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

    fn forget(&mut self, terminal: TerminalId) {
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
