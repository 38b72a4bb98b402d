//! How does an approval on an outside rail become a payment, or certainly none?
//!
//! ```text
//! store.pay ─▶ intent, committed ─▶ rail.authorise ─▶ committed ─▶ rail.capture ─▶ committed: paid
//!                                        │ no answer                   │ no answer
//!                                        └──────▶ reconcile: query, again, and after a named time: reverse
//! ```
//! Every arrow into the database is one transaction, and every call carries the intent's own random key, so
//! whoever finds an intent open (after a crash, a time-out, a lost answer) asks again and does no harm.

mod ask;
mod gone;
mod lanes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use protocol::charge::Approved;
use protocol::ids::PaymentId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};
use protocol::token::WindowId;
use protocol::turn::TurnCause;
use tracing::Instrument;

use self::gone::Gone;
use self::lanes::Lanes;
use super::epoch_keys::EpochKeys;
use super::push::Push;
use super::rails::Rails;
use super::{Failure, claim_span};
use crate::app::App;
use crate::store::{Intent, IntentState, IntentStep, Reason, TerminalStatus};

/// How long an approval waits for its rail before it answers that the payment is pending.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// When to ask again about a payment that is pending, in seconds.
pub const PENDING_RETRY_S: u32 = 2;
/// How long a rail may leave a payment in doubt before it is taken back: neither shopper nor till waits
/// longer than this.
pub const DOUBT_MAX_MS: Millis = 60_000;
/// From one call without an answer to the next: doubled each time, up to the second.
pub const BACK_OFF_FIRST_MS: Millis = 1_000;
pub const BACK_OFF_MAX_MS: Millis = 300_000;
/// The same while a claim waits for it, so that a rail is asked several times before it is in doubt for
/// too long, however often this process starts.
pub const BACK_OFF_HELD_MAX_MS: Millis = DOUBT_MAX_MS / 4;
/// Intents of one rail taken up at a time, and how many of them are asked about at once.
pub const RECONCILE_BATCH: u32 = 64;
pub const RECONCILE_AT_ONCE: usize = 8;
/// An intent that is open for so long is an operator's business.
pub const OVERDUE_MS: Millis = 3_600_000;

/// Carries intents on.
pub struct Payments {
    app: Arc<App>,
    epoch_keys: Arc<EpochKeys>,
    push: Arc<Push>,
    rails: Rails,
    lanes: Lanes,
    /// When this process began to ask: a rail that was not asked for an hour was not silent for an hour.
    since: Timestamp,
    /// When an operator was told last of a rail that left the configuration.
    gone: Gone,
}

impl Payments {
    pub fn new(
        app: Arc<App>,
        epoch_keys: Arc<EpochKeys>,
        push: Arc<Push>,
        rails: Rails,
    ) -> Arc<Self> {
        let since = app.clock.now();
        Arc::new(Self {
            app,
            epoch_keys,
            push,
            rails,
            lanes: Lanes::default(),
            since,
            gone: Gone::default(),
        })
    }

    pub fn rails(&self) -> &Rails {
        &self.rails
    }

    /// [`follow`](Self::follow) for an intent that was committed a moment ago: nobody can have sent it yet, so
    /// without its rail it is declined.
    pub async fn begin(self: &Arc<Self>, intent: &Intent) -> Result<Intent, Failure> {
        if self.rails.get(&intent.rail).is_some() {
            return self.follow(intent.payment).await;
        }
        let reason = Reason::AccountUnknown;
        self.commit(intent, IntentStep::Declined { reason }).await
    }

    /// Asks the rail of an intent, if nobody has yet; answers how it stands once that is certain, or when
    /// patience ends. The asking goes on either way.
    pub async fn follow(self: &Arc<Self>, payment: PaymentId) -> Result<Intent, Failure> {
        let payments = self.clone();
        let following = async move {
            let _lane = payments.lanes.enter(payment).await;
            let intent = payments.as_it_stands(payment).await?;
            match intent.tries {
                0 => payments.carry(payment).await,
                // Whoever reconciles knows when to ask again.
                _ => Ok(intent),
            }
        };
        let following = tokio::spawn(following.instrument(tracing::Span::current()));
        match tokio::time::timeout(PATIENCE, following).await {
            Ok(Ok(followed)) => followed,
            Ok(Err(_panicked)) => Err(ProblemType::Internal.into()),
            Err(_) => self.as_it_stands(payment).await,
        }
    }

    /// Takes up what is due on every rail, once; answers how many intents came to an end.
    pub async fn reconcile(&self, now: Timestamp) -> Result<usize, Failure> {
        let rails = self.rails.names();
        let rails = rails.map(|rail| self.reconcile_rail(rail, now));
        let ended = futures_util::future::join_all(rails).await;
        let gone = self.reconcile_gone(now).await;
        ended.into_iter().chain([gone]).sum()
    }

    /// Takes up what is due on rails that left the configuration, and counts what is open on any.
    pub async fn reconcile_gone(&self, now: Timestamp) -> Result<usize, Failure> {
        let mut ended = 0;
        for (rail, open) in self.left_open().await? {
            self.gone.tell(&rail, open, now);
            ended += self.reconcile_rail(&rail, now).await?;
        }
        self.count().await?;
        Ok(ended)
    }

    /// Rails that are not in the configuration, with how many intents are open there.
    async fn left_open(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let mut open = BTreeMap::new();
        for count in self.app.store.count_open_intents().await? {
            if self.rails.get(&count.rail).is_none() {
                *open.entry(count.rail).or_default() += count.count;
            }
        }
        Ok(open)
    }

    /// Takes up what is due on this rail; answers how many intents came to an end.
    ///
    /// Each rail has its own batch: one that is down keeps no other from its own.
    pub async fn reconcile_rail(&self, rail: &str, now: Timestamp) -> Result<usize, Failure> {
        let (store, rail) = (&self.app.store, rail.to_owned());
        let due = store.intents_due(rail, now, RECONCILE_BATCH).await?;
        let taking_up = futures_util::stream::iter(due)
            .map(|intent| async move {
                let span = claim_span(intent.approved.claimed().claim);
                self.take_up(intent.payment).instrument(span).await
            })
            .buffer_unordered(RECONCILE_AT_ONCE);
        Ok(taking_up
            .filter(|ended| std::future::ready(*ended))
            .count()
            .await)
    }

    /// True if it came to an end. What fails is due again.
    async fn take_up(&self, payment: PaymentId) -> bool {
        let Some(_lane) = self.lanes.try_enter(payment) else {
            return false;
        };
        match self.carry(payment).await {
            Ok(intent) => !intent.state.is_open(),
            Err(why) => {
                tracing::warn!(%payment, error = %why, "an intent is still open");
                false
            }
        }
    }

    /// Asks, commits, asks on; until it is over or a call stays without an answer.
    async fn carry(&self, payment: PaymentId) -> Result<Intent, Failure> {
        loop {
            let intent = self.as_it_stands(payment).await?;
            if !intent.state.is_open() {
                return Ok(intent);
            }
            let step = self.ask(&intent).await?;
            let unanswered = matches!(step, IntentStep::Unanswered { .. });
            let stepped = self.commit(&intent, step).await?;
            if unanswered {
                return Ok(stepped);
            }
        }
    }

    async fn commit(&self, intent: &Intent, step: IntentStep) -> Result<Intent, Failure> {
        let now = self.app.clock.now();
        let stepped = self.app.store.step_intent(intent.payment, step, now);
        let stepped = stepped.await?.ok_or_else(vanished)?;
        if stepped.state != intent.state {
            tracing::info!(payment = %intent.payment, rail = intent.rail,
                from = %intent.state, to = %stepped.state, "intent");
            let labels = [intent.rail.as_str(), stepped.state.name()];
            self.app.metrics.intents.with_label_values(&labels).inc();
            self.push.changed(intent.approved.claimed().terminal);
        }
        Ok(stepped)
    }

    async fn as_it_stands(&self, payment: PaymentId) -> Result<Intent, Failure> {
        let intent = self.app.store.intent(payment).await?;
        intent.ok_or_else(vanished)
    }

    /// The windows that move on when this is paid. A banned terminal has none that anybody takes.
    async fn moved(&self, approved: &Approved, now: Timestamp) -> Result<Vec<WindowId>, Failure> {
        let id = approved.claimed().terminal;
        let terminal = self.app.store.terminal(id).await?;
        if terminal.is_none_or(|terminal| terminal.status != TerminalStatus::Active) {
            return Ok(Vec::new());
        }
        let cause = TurnCause::ChargeEnded;
        self.epoch_keys.moved(id, now, cause).await
    }

    /// Shows how many are open, and since when.
    async fn count(&self) -> Result<(), Failure> {
        let counts = self.app.store.count_open_intents().await?;
        let now = self.app.clock.now();
        let metrics = &self.app.metrics;
        metrics.intents_open.reset();
        let mut oldest = None;
        for count in counts {
            let labels = [count.rail.as_str(), count.state.name()];
            let number = i64::try_from(count.count).unwrap_or(i64::MAX);
            metrics.intents_open.with_label_values(&labels).set(number);
            oldest =
                Some(oldest.map_or(count.oldest, |oldest: Timestamp| oldest.min(count.oldest)));
        }
        let age_ms = oldest.map_or(0, |oldest| (now - oldest).max(0));
        metrics.intent_oldest_seconds.set(age_ms / 1_000);
        Ok(())
    }
}

/// What the shopper is told of an intent that led to no payment.
pub fn refusal(intent: &Intent) -> Failure {
    let declined = |why: &str| {
        Problem::new(ProblemType::RailDeclined)
            .with_detail(why)
            .into()
    };
    match intent.reason.unwrap_or(Reason::Refused) {
        Reason::FundsShort => declined("the account does not hold enough"),
        Reason::OverLimit => declined("a limit of the account is reached"),
        Reason::AccountUnknown => declined("the account is not known there"),
        Reason::AccountClosed => declined("the account is closed"),
        Reason::Refused => declined("whoever keeps the account gives no reason"),
        Reason::Silent => ProblemType::RailSilent.into(),
        Reason::Cancelled => ProblemType::ClaimOver.into(),
    }
}

/// How long to wait after so many calls without an answer.
fn back_off_ms(tries: u32) -> Millis {
    let doubled = BACK_OFF_FIRST_MS
        .checked_shl(tries)
        .unwrap_or(BACK_OFF_MAX_MS);
    doubled.clamp(BACK_OFF_FIRST_MS, BACK_OFF_MAX_MS)
}

/// When to ask again about an intent after a call without an answer.
fn again_at(intent: &Intent, now: Timestamp) -> Timestamp {
    let most = match intent.state.holds_claim() {
        true => BACK_OFF_HELD_MAX_MS,
        false => BACK_OFF_MAX_MS,
    };
    now + back_off_ms(intent.tries).min(most)
}

fn vanished() -> Failure {
    ProblemType::Internal.into()
}

impl Intent {
    /// Nobody but the rail can say any more whether money moved.
    ///
    /// Time in which nobody asked does not count: after a start the rail has all of [`DOUBT_MAX_MS`] again.
    pub fn is_in_doubt(&self, asked_since: Timestamp, now: Timestamp) -> bool {
        let since = self.doubted_since().max(asked_since);
        self.state.holds_claim() && now - since >= DOUBT_MAX_MS
    }

    fn doubted_since(&self) -> Timestamp {
        match self.state {
            IntentState::Capturing => self.changed_at,
            _ => self.started_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_not_answer_is_asked_less_and_less_often_but_for_ever() {
        let waits: Vec<_> = (0..12).map(back_off_ms).collect();
        assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(waits[11], BACK_OFF_MAX_MS);
        assert_eq!(back_off_ms(u32::MAX), BACK_OFF_MAX_MS);
        assert!(waits.is_sorted());
    }
}
