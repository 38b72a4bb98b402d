//! Which keys do a terminal's hours have?
//!
//! ```text
//! epochs ──▶ seeds and paces in force (store, one look) ──▶ kept here? ──▶ one HMAC batch per version (HSM)
//! ```
//! Kept are hours of terminals in use ([`super::kept_keys`]): what memory can lose is the loaded hours of
//! the loaded terminals, never a seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hsm::{BATCH_MAX, Priority};
use protocol::derive::{EpochId, EpochKey, epoch_key_input};
use protocol::ids::TerminalId;
use protocol::live::{LoadedEpoch, candidates, epochs_needed};
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::turn::TurnCause;
use protocol::window::{Behind, EpochClock};

use super::kept_keys::Kept;
use super::{Failure, pacing, seeds};
use crate::app::App;
use crate::store::{Judging, Pace, Seed, TerminalStatus};

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

    /// The keys that judge a token at `now`; hours before the terminal's first seed have none. A terminal that
    /// is not known, or banned, is refused before the HSM hears of it.
    pub async fn of_active(
        &self,
        terminal: TerminalId,
        now: Timestamp,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let epochs = epochs_needed(terminal, now);
        let judging = self.app.store.judging(terminal, epochs).await?;
        let judging = judging.ok_or(ProblemType::TokenUnknown)?;
        if judging.terminal.status != TerminalStatus::Active {
            self.forget(terminal);
            return Err(ProblemType::TerminalRefused.into());
        }
        self.use_now(&judging, now).await
    }

    /// The same of any terminal; none of one that is not known.
    pub async fn present(
        &self,
        terminal: TerminalId,
        now: Timestamp,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let epochs = epochs_needed(terminal, now);
        match self.app.store.judging(terminal, epochs).await? {
            Some(judging) => self.use_now(&judging, now).await,
            None => Ok(Vec::new()),
        }
    }

    /// Loads the next hours of terminals in use before they begin, where there is room for all of them, and forgets
    /// terminals that are not in use any longer; answers how many terminals. Payments go before, and the rest waits
    /// for the next time if the HSM has no room.
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
        let Some(judging) = self.app.store.judging(terminal, epochs.to_vec()).await? else {
            return Ok(Vec::new());
        };
        let loaded = self.load(&judging, Priority::Renewal).await?;
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
        self.kept().forget_all();
    }

    /// How many terminals have keys here now.
    pub fn terminals_kept(&self) -> usize {
        self.kept().len()
    }

    async fn use_now(
        &self,
        judging: &Judging,
        now: Timestamp,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let mut loaded = self.load(judging, Priority::Payment).await?;
        let (terminal, generation) = (judging.terminal.id, self.app.generation);
        let clock = EpochClock::of(terminal);
        for hour in &mut loaded {
            for channel in Channel::ALL {
                let mut behind = hour.behind;
                behind.follow(hour.windows(channel, &clock), now);
                hour.behind = behind;
            }
        }
        self.kept().use_now(terminal, now, generation, &loaded);
        Ok(loaded)
    }

    async fn load(
        &self,
        judging: &Judging,
        priority: Priority,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let batch_max = match priority {
            Priority::Payment => BATCH_MAX,
            Priority::Renewal => RENEWAL_BATCH_MAX,
        };
        let (terminal, paces) = (judging.terminal.id, &judging.paces);
        let mut loaded = Vec::new();
        for (seed, epochs) in &judging.seeds {
            let (mut known, lacking) = self.split(terminal, seed.version, epochs, paces);
            loaded.append(&mut known);
            for part in lacking.chunks(batch_max) {
                loaded.append(&mut self.derive(seed, part, paces, priority).await?);
            }
        }
        loaded.sort_by_key(|entry| entry.epoch);
        Ok(loaded)
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
            let policy = pacing::policy_of(&self.app.config.policy, paces, *epoch);
            match kept.find(&self.id(terminal, version, *epoch), policy) {
                Some(hour) => known.push(hour),
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
            behind: Behind::default(),
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
