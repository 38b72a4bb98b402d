//! Who does what on a token's way, and what goes on without being asked?

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::time::Timestamp;
use tokio::time::MissedTickBehavior;

use super::approvals::Approvals;
use super::changes::Change;
use super::charges::Charges;
use super::checkpoints::Checkpoints;
use super::claims::Claims;
use super::crls::Crls;
use super::epoch_keys::EpochKeys;
use super::followers::Followers;
use super::passkeys::Passkeys;
use super::payments::Payments;
use super::places::Places;
use super::profiles::{self, Profiles};
use super::push::Push;
use super::rails::{RailError, Rails};
use super::receipts::Receipts;
use super::reconciliation::Reconciler;
use super::refunds::Refunds;
use super::relying_party::RelyingParty;
use super::reports::Reports;
use super::schedules::Schedules;
use super::sessions::Sessions;
use super::settlements::Settlements;
use super::shoppers::Shoppers;
use super::sign_in::{ProviderError, SignIn};
use super::sms::{Sms, SmsError};
use super::sources::Sources;
use super::step_up::StepUp;
use super::sweeps::Sweeps;
use super::webhooks::{Webhooks, WebhooksError};
use super::{Failure, neighbours, refunds, retention, rotation, tag_fleet, timelines, wallet};
use crate::app::App;
use crate::store::{Chore, unhurried};

/// How often overdue claims and charges are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often receipts are taken up that could not be signed.
const RESUME_EVERY: Duration = Duration::from_secs(2);
/// How often outside rails are asked about what they left open.
const RECONCILE_EVERY: Duration = Duration::from_secs(1);
/// How often what is too old to matter is deleted.
const FORGET_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked whom to tell.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for business days that are over.
const SETTLE_EVERY: Duration = Duration::from_secs(60);
/// How often certificates are counted for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(300);
/// How often sign-ins that are over are forgotten.
const FORGET_SIGN_INS_EVERY: Duration = Duration::from_secs(60);
/// How often the issuing CAs are looked at, so that terminals are told to renew when theirs changes.
const ISSUING_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a stream was not told of something: a few hundred in one read.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(10);
/// How often reads of tags are compared with claims.
const TAPS_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether the database asks to be compared: nothing is served until then.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked what may be deleted, and whether days to come have their place.
const RETAIN_EVERY: Duration = Duration::from_secs(300);
/// How often the audit chains are bound by a signature, if they have moved.
const PREFETCH_EVERY: Duration = Duration::from_secs(30);
/// The same for checkpoints of the audit.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// Why the services cannot start: the configuration names somebody who cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Rail(#[from] RailError),
    #[error(transparent)]
    Sms(#[from] SmsError),
    #[error(transparent)]
    Webhooks(#[from] WebhooksError),
}

/// The services of a token's journey.
pub struct Journey {
    pub app: Arc<App>,
    pub epoch_keys: Arc<EpochKeys>,
    pub schedules: Arc<Schedules>,
    pub push: Arc<Push>,
    pub sign_in: SignIn,
    pub sessions: Sessions,
    pub relying_party: RelyingParty,
    pub profiles: Profiles,
    pub passkeys: Passkeys,
    pub shoppers: Shoppers,
    pub step_up: Arc<StepUp>,
    pub sources: Sources,
    pub claims: Arc<Claims>,
    pub approvals: Arc<Approvals>,
    pub payments: Arc<Payments>,
    pub receipts: Arc<Receipts>,
    pub charges: Charges,
    pub reports: Reports,
    pub followers: Followers,
    pub crls: Arc<Crls>,
    /// None: nobody pays by SMS.
    pub sms: Option<Sms>,
    pub refunds: Refunds,
    settlements: Settlements,
    pub webhooks: Arc<Webhooks>,
    sweeps: Sweeps,
    pub places: Arc<Places>,
    taps: Reconciler,
    checkpoints: Checkpoints,
}

impl Journey {
    pub fn new(app: &Arc<App>) -> Result<Arc<Self>, StartError> {
        Self::with_rails(app, Rails::configured(app)?)
    }

    /// With rails of the caller's own; tests bring theirs.
    pub fn with_rails(app: &Arc<App>, rails: Rails) -> Result<Arc<Self>, StartError> {
        let epoch_keys = Arc::new(EpochKeys::new(app.clone()));
        let schedules = Arc::new(Schedules::new(app.clone(), epoch_keys.clone()));
        let push = Arc::new(Push::new(app.clone(), schedules.clone()));
        let receipts = Arc::new(Receipts::new(app.clone(), push.clone()));
        let (keys, hub) = (|| epoch_keys.clone(), || push.clone());
        let payments = Payments::new(app.clone(), keys(), hub(), rails.clone());
        let step_up = Arc::new(StepUp::new(app.clone()));
        let claims = Arc::new(Claims::new(app.clone(), keys(), hub()));
        let places = Arc::new(Places::default());
        let approvals = Arc::new(Approvals::new(
            app.clone(),
            keys(),
            receipts.clone(),
            payments.clone(),
            step_up.clone(),
            hub(),
        ));
        Ok(Arc::new(Self {
            app: app.clone(),
            sign_in: SignIn::new(app.clone())?,
            sms: Sms::open(app, &claims, &approvals)?,
            sessions: Sessions::new(app.clone()),
            profiles: Profiles::new(app.clone()),
            relying_party: RelyingParty::new(app.clone(), hub())?,
            passkeys: Passkeys::new(app.clone()),
            shoppers: Shoppers::new(app.clone()),
            sources: Sources::default(),
            claims,
            approvals,
            step_up,
            payments,
            charges: Charges::new(app.clone(), keys(), hub()),
            reports: Reports::new(app.clone()),
            followers: Followers::new(app.clone()),
            crls: Arc::new(Crls::new(app.clone())),
            refunds: Refunds::new(app.clone(), rails),
            settlements: Settlements::new(app.clone()),
            webhooks: Webhooks::new(app.clone())?,
            sweeps: Sweeps::new(app.clone(), keys(), hub()),
            taps: Reconciler::new(app.clone(), places.clone()),
            places,
            checkpoints: Checkpoints::new(app.clone()),
            epoch_keys,
            schedules,
            push,
            receipts,
        }))
    }

    /// What goes on without being asked, until the drain starts, or the fence goes up: then all of it is
    /// dropped where it stands, as a power cut would.
    pub async fn run(self: Arc<Self>) {
        tokio::select! {
            // First, so that a fenced start begins nothing.
            biased;
            () = self.app.fence.until_fenced() => {}
            () = unhurried(self.background()) => {}
        }
    }

    async fn background(&self) {
        tokio::join!(
            self.lead(Chore::Overdue, SWEEP_EVERY, |now| self.sweep(now)),
            self.lead(Chore::Receipts, RESUME_EVERY, |now| self.resume(now)),
            self.reconcile_for_ever(),
            self.every(PREFETCH_EVERY, "load next hours", |now| self.prefetch(now)),
            self.lead(Chore::Forgetting, FORGET_EVERY, |now| self.forget(now)),
            self.lead(Chore::Webhooks, TELL_EVERY, |now| self.tell(now)),
            self.lead(Chore::Settlements, SETTLE_EVERY, |now| self.settle(now)),
            self.lead(Chore::Taps, TAPS_EVERY, |now| self.reconcile_taps(now)),
            self.every(CHECKPOINT_EVERY, "checkpoint", |now| self.checkpoint(now)),
            self.every(COMPARE_EVERY, "compare the database", |_| timelines::look(
                &self.app
            )),
            self.lead(Chore::Forgetting, RETAIN_EVERY, |now| self.retain(now)),
            self.every(COUNT_EVERY, "count certificates", |now| self.count(now)),
            self.every(COUNT_EVERY, "count tags", |now| tag_fleet::measure(
                &self.app, now
            )),
            self.lead(Chore::Forgetting, FORGET_SIGN_INS_EVERY, |now| self
                .forget_sign_ins(now)),
            self.every(ISSUING_EVERY, "issuing CAs", |_| self.look_at_issuing()),
            self.every(LOOK_AROUND_EVERY, "look around", |_| self
                .push
                .look_around()),
            self.crls.run(),
            self.hear_bans(),
            self.hear_changes(),
            neighbours::run(self),
            self.text(),
            rotation::run(&self.app),
        );
    }

    /// Releases and ends what is overdue; answers how much.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, Failure> {
        self.sweeps.sweep(now).await
    }

    /// Signs receipts that are due; answers how many.
    pub async fn resume(&self, now: Timestamp) -> Result<usize, Failure> {
        Ok(self.receipts.resume(now).await? + refunds::resume(&self.app, now).await?)
    }

    /// Loads the next hours of terminals in use; answers of how many.
    pub async fn prefetch(&self, now: Timestamp) -> Result<usize, Failure> {
        self.epoch_keys.prefetch(now).await
    }

    /// Begins to tell merchants what happened; answers how many merchants.
    pub async fn tell(&self, now: Timestamp) -> Result<usize, Failure> {
        Ok(self.webhooks.begin(now).await?.len())
    }

    /// Closes business days that are over; answers how many.
    pub async fn settle(&self, now: Timestamp) -> Result<usize, Failure> {
        self.settlements.close_due(now).await
    }

    /// Asks outside rails about what they left open; answers how much came to an end.
    pub async fn reconcile(&self, now: Timestamp) -> Result<usize, Failure> {
        self.payments.reconcile(now).await
    }

    /// Compares reads of tags with claims, where they are due; answers how many links and days.
    pub async fn reconcile_taps(&self, now: Timestamp) -> Result<usize, Failure> {
        self.taps.run(now).await
    }

    /// Deletes proofs and requests that are too old to matter; answers how many.
    pub async fn forget(&self, now: Timestamp) -> Result<usize, Failure> {
        Ok(self.sign_in.forget(now).await? + wallet::forget(&self.app, now).await?)
    }

    /// Deletes what is behind the fence of epochs, and makes places for the days to come; answers how many
    /// steps.
    pub async fn retain(&self, now: Timestamp) -> Result<usize, Failure> {
        retention::run(&self.app, now).await
    }

    /// Binds the audit chains if they have moved; answers how many checkpoints that took.
    pub async fn checkpoint(&self, now: Timestamp) -> Result<usize, Failure> {
        Ok(usize::from(self.checkpoints.take(now).await?))
    }

    /// Forgets sign-ins that are over, and ends those of providers that are gone; answers how many rows.
    pub async fn forget_sign_ins(&self, now: Timestamp) -> Result<usize, Failure> {
        let ended = self.relying_party.end_of_others(now).await?;
        Ok(
            ended
                + self.relying_party.forget(now).await?
                + profiles::forget(&self.app, now).await?,
        )
    }

    /// Counts what is in force; answers how much.
    pub async fn count(&self, now: Timestamp) -> Result<usize, Failure> {
        let mut all = 0;
        for found in self.app.store.certificates_in_force(now).await? {
            let kind = [found.kind];
            let metrics = &self.app.metrics;
            let number = i64::try_from(found.certificates).unwrap_or(i64::MAX);
            metrics
                .certificates_in_force
                .with_label_values(&kind)
                .set(number);
            let ends = found.first_end.map_or(0, Timestamp::secs);
            metrics
                .certificates_first_end
                .with_label_values(&kind)
                .set(ends);
            all += usize::try_from(found.certificates).unwrap_or(usize::MAX);
        }
        Ok(all)
    }

    /// Tells terminals to renew whose issuing CA is no longer the active one.
    pub async fn look_at_issuing(&self) -> Result<usize, Failure> {
        Ok(self.push.look_at_issuing())
    }

    /// The same, on the one node that does this chore at the moment.
    async fn lead<W, F>(&self, chore: Chore, period: Duration, work: W)
    where
        W: Fn(Timestamp) -> F,
        F: Future<Output = Result<usize, Failure>>,
    {
        let store = &self.app.store;
        self.every(period, chore.name(), |now| {
            let begun = store.leads(chore).then(|| work(now));
            async move {
                match begun {
                    Some(work) => work.await,
                    None => Ok(0),
                }
            }
        })
        .await;
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

    /// Loops for each rail, so that one that hangs holds up no other.
    async fn reconcile_for_ever(&self) {
        let payments = &self.payments;
        let rails = payments.rails().names().map(|rail| {
            self.lead(Chore::Rails, RECONCILE_EVERY, move |now| {
                payments.reconcile_rail(rail, now)
            })
        });
        let gone = self.lead(Chore::Rails, RECONCILE_EVERY, |now| {
            payments.reconcile_gone(now)
        });
        let refunds = &self.refunds;
        let refunding = refunds.rails().names().map(|rail| {
            self.lead(Chore::Rails, RECONCILE_EVERY, move |now| {
                refunds.reconcile_rail(rail, now)
            })
        });
        let refunds_gone = self.lead(Chore::Rails, RECONCILE_EVERY, |now| {
            refunds.reconcile_gone(now)
        });
        tokio::join!(join_all(rails), gone, join_all(refunding), refunds_gone);
    }

    async fn text(&self) {
        if let Some(sms) = &self.sms {
            sms.run().await;
        }
    }

    async fn hear_changes(&self) {
        let mut changes = self.app.changes.listen();
        loop {
            tokio::select! {
                change = changes.next() => self.follow(&change),
                () = self.app.draining() => return,
            }
        }
    }

    /// Terminals hear of it, and what was loaded of old seeds is forgotten.
    pub fn follow(&self, change: &Change) {
        match change {
            Change::Terminals(terminals) => {
                for terminal in terminals.iter() {
                    self.epoch_keys.forget(*terminal);
                    self.push.changed(*terminal);
                }
            }
            Change::Keys => {
                self.push.all_changed();
            }
            Change::All => {
                self.epoch_keys.forget_all();
                self.push.all_changed();
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
