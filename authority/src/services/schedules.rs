//! Which tokens may this terminal show, and until when?

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use hsm::Priority;
use pki::SpiffeId;
use protocol::ids::TerminalId;
use protocol::live::LoadedEpoch;
use protocol::problem::{Problem, ProblemType};
use protocol::schedule::{EpochCheck, ScheduleClaims, validity};
use protocol::time::Timestamp;
use protocol::window::EpochClock;
use protocol::wire::schedules::{EpochKeyEntry, ScheduleQuery, ScheduleResponse};

use super::epoch_keys::EpochKeys;
use super::{Failure, keyring};
use crate::app::App;

/// Issues schedules, and remembers who has one that this process stands by.
pub struct Schedules {
    app: Arc<App>,
    epoch_keys: Arc<EpochKeys>,
    /// The seed version of each terminal's last schedule. Not who may show what: only who is asked
    /// to fetch again, because policy or version may have changed since the process began.
    current: Mutex<HashMap<TerminalId, u32>>,
}

impl Schedules {
    pub fn new(app: Arc<App>, epoch_keys: Arc<EpochKeys>) -> Self {
        Self {
            app,
            epoch_keys,
            current: Mutex::default(),
        }
    }

    /// A schedule for this terminal; the route asks for it with the terminal of the certificate only.
    pub async fn issue(
        &self,
        terminal: TerminalId,
        query: &ScheduleQuery,
        now: Timestamp,
    ) -> Result<ScheduleResponse, Failure> {
        let issued = self.issue_to(terminal, query.after, now).await;
        let outcome = super::outcome(&issued, "issued");
        let counter = &self.app.metrics.schedules;
        counter.with_label_values(&[outcome]).inc();
        issued
    }

    /// Should this terminal fetch a schedule now?
    pub fn is_due(&self, terminal: TerminalId, version: u32) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.get(&terminal) != Some(&version)
    }

    /// After a ban.
    pub fn forget(&self, terminal: TerminalId) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.remove(&terminal);
    }

    async fn issue_to(
        &self,
        terminal: TerminalId,
        after: Option<u32>,
        now: Timestamp,
    ) -> Result<ScheduleResponse, Failure> {
        let present = EpochClock::of(terminal).epoch_at(now);
        let horizon = present.saturating_add(self.app.config.schedule.horizon_epochs);
        let epochs: Vec<u32> = wanted(present, horizon, after)?.collect();
        let keys = self.epoch_keys.for_schedule(terminal, &epochs).await?;
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return Err(ProblemType::TerminalRefused.into());
        };
        let sequence = self
            .app
            .store
            .record_schedule(terminal, first.epoch, last.epoch, now)
            .await?
            .ok_or(ProblemType::TerminalRefused)?;
        let claims = self.claims(terminal, sequence, &keys, now)?;
        let ring = self.app.keyring();
        let schedule =
            keyring::sign(&self.app.hsm, ring.schedule(), &claims, Priority::Renewal).await?;
        if first.epoch <= present {
            self.remember(terminal, first.version);
        }
        tracing::info!(%terminal, sequence, first = first.epoch, last = last.epoch, "schedule issued");
        Ok(ScheduleResponse {
            schedule,
            epoch_keys: keys.into_iter().map(entry).collect(),
        })
    }

    fn claims(
        &self,
        terminal: TerminalId,
        sequence: u64,
        keys: &[LoadedEpoch],
        now: Timestamp,
    ) -> Result<ScheduleClaims, Failure> {
        let check = |it: &LoadedEpoch| EpochCheck::new(it.epoch, it.version, &it.key);
        let epochs: Vec<EpochCheck> = keys.iter().map(check).collect();
        let (valid_from, valid_until) = validity(terminal, &epochs).ok_or(ProblemType::Internal)?;
        let config = &self.app.config;
        Ok(ScheduleClaims {
            iss: self.app.issuer_uri(),
            sub: SpiffeId::Terminal(terminal).uri(&config.trust.domain),
            iat: now.secs(),
            terminal,
            generation: self.app.generation,
            sequence,
            valid_from,
            valid_until,
            policy: *config.policy.get(),
            link_host: config.public.link_host.as_str().to_owned(),
            epochs,
        })
    }

    fn remember(&self, terminal: TerminalId, version: u32) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.insert(terminal, version);
    }
}

/// From the present epoch, or the one after `after`, to the horizon; never a past one.
fn wanted(present: u32, horizon: u32, after: Option<u32>) -> Result<RangeInclusive<u32>, Failure> {
    let first = after.map_or(present, |after| after.saturating_add(1).max(present));
    if first > horizon {
        let detail = format!("epoch {first} is past {horizon}");
        return Err(Problem::new(ProblemType::EpochOutOfHorizon)
            .with_detail(detail)
            .into());
    }
    Ok(first..=horizon)
}

fn entry(loaded: LoadedEpoch) -> EpochKeyEntry {
    EpochKeyEntry {
        epoch: loaded.epoch,
        version: loaded.version,
        key: loaded.key,
    }
}
