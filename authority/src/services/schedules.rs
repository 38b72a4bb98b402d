//! Which tokens may this terminal show, and until when?

use std::collections::HashSet;
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
use tokio::sync::Semaphore;

use super::epoch_keys::EpochKeys;
use super::keyring::SigningKey;
use super::{Failure, keyring, pacing};
use crate::app::App;
use crate::store::{NewSchedule, Pace, Pacing, Scheduled, Terminal};

/// Seeds are replaced one at a time and seldom: more than two in a row is something else.
const DERIVATIONS_MAX: u32 = 3;

/// Schedules under way at once; one more is refused as busy, so that a fleet that renews together leaves
/// store and HSM to payments.
pub const SCHEDULES_MAX: usize = 64;
/// When who was refused so may ask again; terminals draw a while of their own on top of it.
const SCHEDULES_RETRY_S: u32 = 2;

/// What a terminal draws its windows by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// It would refuse a schedule that tells paces.
    PolicyAlone,
    Paces,
}

/// Whether a terminal is asked to fetch a schedule, and how soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    No,
    /// What it holds is void.
    Now,
    /// What it holds is good, as far as is known; so it is for everybody after a restart, and they take
    /// turns.
    Spread,
}

/// Issues schedules, and remembers who has one that this process stands by.
pub struct Schedules {
    app: Arc<App>,
    epoch_keys: Arc<EpochKeys>,
    /// Who got a whole schedule of this process. Not who may show what: only who is asked to fetch
    /// again, because the policy may have changed before the process began.
    current: Mutex<HashSet<TerminalId>>,
    under_way: Semaphore,
}

impl Schedules {
    pub fn new(app: Arc<App>, epoch_keys: Arc<EpochKeys>) -> Self {
        Self {
            app,
            epoch_keys,
            current: Mutex::default(),
            under_way: Semaphore::new(SCHEDULES_MAX),
        }
    }

    /// A schedule for this terminal; the route asks for it with the terminal of the certificate only.
    pub async fn issue(
        &self,
        terminal: TerminalId,
        query: &ScheduleQuery,
        now: Timestamp,
    ) -> Result<ScheduleResponse, Failure> {
        self.issue_as(terminal, query, Follows::PolicyAlone, now)
            .await
    }

    /// The same, for a terminal that says what it follows.
    pub async fn issue_as(
        &self,
        terminal: TerminalId,
        query: &ScheduleQuery,
        follows: Follows,
        now: Timestamp,
    ) -> Result<ScheduleResponse, Failure> {
        let issued = match self.under_way.try_acquire() {
            Ok(_place) => self.issue_to(terminal, query.after, follows, now).await,
            Err(_) => Err(too_many()),
        };
        let outcome = super::outcome(&issued, "issued");
        let counter = &self.app.metrics.schedules;
        counter.with_label_values(&[outcome]).inc();
        issued
    }

    /// Should this terminal fetch a schedule?
    pub fn due(&self, terminal: &Terminal) -> Due {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match (terminal.refetch, current.contains(&terminal.id)) {
            (true, _) => Due::Now,
            (false, false) => Due::Spread,
            (false, true) => Due::No,
        }
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
        follows: Follows,
        now: Timestamp,
    ) -> Result<ScheduleResponse, Failure> {
        let present = EpochClock::of(terminal).epoch_at(now);
        let horizon = present.saturating_add(self.app.config.schedule.horizon_epochs);
        let epochs: Vec<u32> = wanted(present, horizon, after)?.collect();
        let ring = self.app.keyring();
        let (sequence, paces, keys) = self
            .take_sequence(terminal, &epochs, present, follows, ring.schedule(), now)
            .await?;
        let claims = self.claims(terminal, sequence, &keys, &paces, now)?;
        let schedule =
            keyring::sign(&self.app.hsm, ring.schedule(), &claims, Priority::Renewal).await?;
        if epochs.first() == Some(&present) {
            self.remember(terminal);
        }
        let (first, last) = (epochs.first(), epochs.last());
        tracing::info!(%terminal, sequence, first, last, "schedule issued");
        Ok(ScheduleResponse {
            schedule,
            epoch_keys: keys.into_iter().map(entry).collect(),
        })
    }

    /// Keys are derived before the transaction that counts them as issued; a seed that was replaced in
    /// between has them derived again.
    async fn take_sequence(
        &self,
        terminal: TerminalId,
        epochs: &[u32],
        present: u32,
        follows: Follows,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<(u64, Vec<Pace>, Vec<LoadedEpoch>), Failure> {
        let pacing = self.pacing(terminal, follows, now).await?;
        for _ in 0..DERIVATIONS_MAX {
            let keys = self.epoch_keys.for_schedule(terminal, epochs).await?;
            let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
                return Err(ProblemType::TerminalRefused.into());
            };
            let schedule = NewSchedule {
                terminal,
                first: (first.epoch, first.version),
                last: (last.epoch, last.version),
                whole: first.epoch <= present,
                pacing,
                kid: key.kid.clone(),
                at: now,
            };
            match self.app.store.record_schedule(schedule).await? {
                Scheduled::Under { sequence, paces } => return Ok((sequence, paces, keys)),
                Scheduled::Refused => return Err(ProblemType::TerminalRefused.into()),
                Scheduled::SeedMoved => {}
            }
        }
        Err(ProblemType::Busy.into())
    }

    /// How slow this terminal's nfc channel is to be from the first epoch on that was never told.
    async fn pacing(
        &self,
        terminal: TerminalId,
        follows: Follows,
        now: Timestamp,
    ) -> Result<Pacing, Failure> {
        if follows == Follows::PolicyAlone {
            return Ok(Pacing::Ended);
        }
        let (store, config) = (&self.app.store, &self.app.config);
        let tag = store.worn_tag(terminal).await?;
        let held = store.paces(terminal).await?;
        let held = held.last().and_then(|pace| pace.windows);
        let nfc = &config.policy.get().nfc;
        let windows = pacing::windows(tag.as_ref(), held, nfc, &config.wear, now);
        Ok(Pacing::Set(windows))
    }

    fn claims(
        &self,
        terminal: TerminalId,
        sequence: u64,
        keys: &[LoadedEpoch],
        paces: &[Pace],
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
            nfc_paces: pacing::told(&config.policy, paces, keys.iter().map(|it| it.epoch)),
            link_host: config.public.link_host.as_str().to_owned(),
            epochs,
        })
    }

    fn remember(&self, terminal: TerminalId) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.insert(terminal);
    }
}

fn too_many() -> Failure {
    let busy = Problem::new(ProblemType::Busy);
    busy.with_retry_after(SCHEDULES_RETRY_S).into()
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
