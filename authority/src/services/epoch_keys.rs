//! Which keys do a terminal's hours have?
//!
//! ```text
//! epochs ──▶ seed version and pace in force (store) ──▶ kept here? ──▶ one HMAC batch per version (HSM)
//! ```
//! Kept are hours of terminals in use ([`super::kept_keys`]): what memory can lose is the loaded hours of
//! the loaded terminals, never a seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hsm::{BATCH_MAX, Priority};
use protocol::derive::{EpochId, EpochKey, epoch_key_input};
use protocol::ids::TerminalId;
use protocol::live::{LoadedEpoch, candidates, epochs_needed};
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::turn::TurnCause;

use super::kept_keys::Kept;
use super::{Failure, pacing, seeds};
use crate::app::App;
use crate::store::{Pace, Seed};

/// Hours of one batch that nobody waits for: so long a payment may wait for it, on a slow HSM.
pub const RENEWAL_BATCH_MAX: usize = 32;
/// Terminals whose next hours are loaded in one go, one after the other.
pub const PREFETCH_MAX: usize = 1_000;

/// Loads epoch keys, and keeps those of terminals in use.
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
        let generation = self.app.generation;
        self.kept().use_now(terminal, now, generation, &loaded);
        Ok(loaded)
    }

    /// Loads the next hours of terminals in use before they begin, and forgets terminals that are not in use
    /// any longer; answers how many terminals. Payments go before, and the rest waits for the next time
    /// if the HSM has no room.
    pub async fn prefetch(&self, now: Timestamp) -> Result<usize, Failure> {
        self.kept().forget_idle(now);
        let due = self.kept().due(now, PREFETCH_MAX);
        for (terminal, epochs) in &due {
            self.for_schedule(*terminal, epochs).await?;
        }
        Ok(due.len())
    }

    /// The keys of hours that are still to come; kept if the terminal is in use.
    pub async fn for_schedule(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let loaded = self.load(terminal, epochs, Priority::Renewal).await?;
        let generation = self.app.generation;
        self.kept().keep_ahead(terminal, generation, &loaded);
        Ok(loaded)
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
        self.kept().len()
    }

    async fn load(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
        priority: Priority,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let batch_max = match priority {
            Priority::Payment => BATCH_MAX,
            Priority::Renewal => RENEWAL_BATCH_MAX,
        };
        let paces = self.app.store.paces(terminal).await?;
        let mut loaded = Vec::with_capacity(epochs.len());
        for (seed, epochs) in self.seeds(terminal, epochs).await? {
            let (mut known, lacking) = self.split(terminal, seed.version, &epochs, &paces);
            loaded.append(&mut known);
            for part in lacking.chunks(batch_max) {
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
