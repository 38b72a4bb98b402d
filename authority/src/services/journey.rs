//! Who does what on a token's way, and what goes on without being asked?

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use protocol::time::Timestamp;
use tokio::time::MissedTickBehavior;

use super::Failure;
use super::approvals::Approvals;
use super::charges::Charges;
use super::checkpoints::Checkpoints;
use super::claims::Claims;
use super::epoch_keys::EpochKeys;
use super::followers::Followers;
use super::push::Push;
use super::receipts::Receipts;
use super::reports::Reports;
use super::schedules::Schedules;
use super::sign_in::{ProviderError, SignIn};
use super::sweeps::Sweeps;
use crate::app::App;

/// How often overdue claims and charges are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often receipts are taken up that could not be signed.
const RESUME_EVERY: Duration = Duration::from_secs(2);
/// How often the audit chains are bound by a signature, if they have moved.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// The services of a token's journey.
pub struct Journey {
    pub app: Arc<App>,
    pub epoch_keys: Arc<EpochKeys>,
    pub schedules: Arc<Schedules>,
    pub push: Arc<Push>,
    pub sign_in: SignIn,
    pub claims: Claims,
    pub approvals: Approvals,
    pub receipts: Arc<Receipts>,
    pub charges: Charges,
    pub reports: Reports,
    pub followers: Followers,
    sweeps: Sweeps,
    checkpoints: Checkpoints,
}

impl Journey {
    pub fn new(app: &Arc<App>) -> Result<Arc<Self>, ProviderError> {
        let epoch_keys = Arc::new(EpochKeys::new(app.clone()));
        let schedules = Arc::new(Schedules::new(app.clone(), epoch_keys.clone()));
        let push = Arc::new(Push::new(app.clone(), schedules.clone()));
        let receipts = Arc::new(Receipts::new(app.clone(), push.clone()));
        let (keys, hub) = (|| epoch_keys.clone(), || push.clone());
        Ok(Arc::new(Self {
            app: app.clone(),
            sign_in: SignIn::new(app.clone())?,
            claims: Claims::new(app.clone(), keys(), hub()),
            approvals: Approvals::new(app.clone(), keys(), receipts.clone(), hub()),
            charges: Charges::new(app.clone(), keys(), hub()),
            reports: Reports::new(app.clone()),
            followers: Followers::new(app.clone()),
            sweeps: Sweeps::new(app.clone(), keys(), hub()),
            checkpoints: Checkpoints::new(app.clone()),
            epoch_keys,
            schedules,
            push,
            receipts,
        }))
    }

    /// What goes on without being asked, until the drain starts.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(
            self.every(SWEEP_EVERY, "sweep", |now| self.sweep(now)),
            self.every(RESUME_EVERY, "resume receipts", |now| self.resume(now)),
            self.every(CHECKPOINT_EVERY, "checkpoint", |now| self.checkpoint(now)),
            self.hear_bans(),
        );
    }

    /// Releases and ends what is overdue; answers how much.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, Failure> {
        self.sweeps.sweep(now).await
    }

    /// Signs receipts that are due; answers how many.
    pub async fn resume(&self, now: Timestamp) -> Result<usize, Failure> {
        self.receipts.resume(now).await
    }

    /// Binds the audit chains if they have moved; answers how many checkpoints that took.
    pub async fn checkpoint(&self, now: Timestamp) -> Result<usize, Failure> {
        Ok(usize::from(self.checkpoints.take(now).await?))
    }

    async fn every<W, F>(&self, period: Duration, what: &str, work: W)
    where
        W: Fn(Timestamp) -> F,
        F: Future<Output = Result<usize, Failure>>,
    {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.app.draining() => return,
            }
            if let Err(why) = work(self.app.clock.now()).await {
                tracing::warn!(what, error = %why, "background work failed, and is tried again");
            }
        }
    }

    async fn hear_bans(&self) {
        let mut bans = self.app.bans.listen();
        loop {
            tokio::select! {
                banned = bans.next() => match banned {
                    Some(terminal) => {
                        self.epoch_keys.forget(terminal);
                        self.schedules.forget(terminal);
                    }
                    None => self.epoch_keys.forget_all(),
                },
                () = self.app.draining() => return,
            }
        }
    }
}
