//! Which epoch keys does this process hold, and how does it come by the others?
//!
//! One HMAC in the HSM per terminal and epoch; a renewal or a claim asks only for what is missing.
//! What is held is bounded, wiped when it goes, and an hour of a terminal each.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hsm::{Hsm, Priority};
use protocol::derive::{EpochId, EpochKey, epoch_key_input};
use protocol::ids::TerminalId;
use protocol::live::LoadedEpoch;
use protocol::problem::ProblemType;

use super::{Failure, seeds};
use crate::store::{Seed, Store};

/// Most epoch keys held at a time: some 10 MB.
pub const EPOCH_KEYS_MAX: usize = 100_000;

type Name = (TerminalId, u32, u32);

/// The epoch keys of this process.
pub struct EpochKeys {
    hsm: Arc<dyn Hsm>,
    store: Arc<dyn Store>,
    generation: u32,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: HashMap<Name, EpochKey>,
    /// Oldest first.
    order: VecDeque<Name>,
}

impl EpochKeys {
    pub fn new(hsm: Arc<dyn Hsm>, store: Arc<dyn Store>, generation: u32) -> Self {
        Self {
            hsm,
            store,
            generation,
            held: Mutex::default(),
        }
    }

    /// The keys of these epochs, in the same order, each under the seed version in force then.
    pub async fn load(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
        priority: Priority,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let mut loaded = Vec::with_capacity(epochs.len());
        let mut missing: Vec<(Seed, Vec<u32>)> = Vec::new();
        for epoch in epochs {
            let seed = self.seed(terminal, *epoch).await?;
            match self.held().keys.get(&(terminal, seed.version, *epoch)) {
                Some(key) => loaded.push(of(&seed, *epoch, key.clone())),
                None => note_missing(&mut missing, seed, *epoch),
            }
        }
        for (seed, epochs) in missing {
            loaded.extend(self.derive(&seed, &epochs, priority).await?);
        }
        loaded.sort_by_key(|entry| entry.epoch);
        Ok(loaded)
    }

    /// Drops every key of a terminal: it is banned.
    pub fn forget(&self, terminal: TerminalId) {
        let mut held = self.held();
        held.keys.retain(|name, _| name.0 != terminal);
        held.order.retain(|name| name.0 != terminal);
    }

    async fn seed(&self, terminal: TerminalId, epoch: u32) -> Result<Seed, Failure> {
        let seed = self.store.seed_for(terminal, epoch).await?;
        let seed = seed.ok_or(ProblemType::TerminalRefused)?;
        if seeds::is_for(&seed.sealed, terminal, seed.version) {
            return Ok(seed);
        }
        tracing::error!(%terminal, version = seed.version, "a sealed seed belongs elsewhere");
        Err(ProblemType::TerminalRefused.into())
    }

    async fn derive(
        &self,
        seed: &Seed,
        epochs: &[u32],
        priority: Priority,
    ) -> Result<Vec<LoadedEpoch>, Failure> {
        let id = |epoch: &u32| EpochId {
            generation: self.generation,
            terminal: seed.terminal,
            version: seed.version,
            epoch: *epoch,
        };
        let inputs = epochs
            .iter()
            .map(|epoch| epoch_key_input(&id(epoch)))
            .collect();
        let macs = self
            .hsm
            .hmac_batch(&seed.keys, &seed.sealed, inputs, priority)
            .await?;
        let keys = macs.iter().map(|mac| EpochKey::from_bytes(mac.0));
        let loaded: Vec<_> = epochs
            .iter()
            .zip(keys)
            .map(|(e, key)| of(seed, *e, key))
            .collect();
        self.held().keep(seed, &loaded);
        Ok(loaded)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn keep(&mut self, seed: &Seed, loaded: &[LoadedEpoch]) {
        for entry in loaded {
            let name = (seed.terminal, entry.version, entry.epoch);
            if self.keys.insert(name, entry.key.clone()).is_none() {
                self.order.push_back(name);
            }
        }
        while self.keys.len() > EPOCH_KEYS_MAX {
            match self.order.pop_front() {
                Some(oldest) => self.keys.remove(&oldest),
                None => break,
            };
        }
    }
}

fn of(seed: &Seed, epoch: u32, key: EpochKey) -> LoadedEpoch {
    LoadedEpoch {
        version: seed.version,
        epoch,
        key,
    }
}

fn note_missing(missing: &mut Vec<(Seed, Vec<u32>)>, seed: Seed, epoch: u32) {
    match missing
        .iter_mut()
        .find(|(known, _)| known.version == seed.version)
    {
        Some((_, epochs)) => epochs.push(epoch),
        None => missing.push((seed, vec![epoch])),
    }
}
