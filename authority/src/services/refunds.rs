//! How does a shopper get money back, to the account that paid and nowhere else?
//!
//! ```text
//! certificate + PIN ─▶ store.refund ─▶ (outside rail ─▶ its answer) ─▶ receipt (HSM) ─▶ answer
//!                          └── the same id again: the same refund, the same receipt
//! ```

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use hsm::Priority;
use protocol::ids::{ReceiptId, TerminalId};
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::Payee;
use protocol::refund::RefundClaims;
use protocol::time::{Millis, Timestamp};
use protocol::wire::refunds::{REASON_MAX, RefundRequest, RefundResponse, RefundStage};

use super::rails::{self, Answer, Rails};
use super::{Failure, days, keyring, pins};
use crate::app::App;
use crate::ids;
use crate::store::{
    NewRefund, RailKey, Refund, RefundAsker, RefundOutcome, RefundState, RefundStep,
};

/// Receipts of refunds taken up at a time.
pub const RESUME_BATCH: u32 = 64;
/// Refunds of one rail taken up at a time, and how many of them it is asked about at once.
const RECONCILE_BATCH: u32 = 64;
const RECONCILE_AT_ONCE: usize = 8;
/// From a call without an answer to the next; twice as long each time.
const RETRY_FIRST_MS: Millis = 1_000;
/// The longest of these waits: a refund stays asked until its rail has said which.
const RETRY_MAX_MS: Millis = 15 * 60_000;
/// When money was given back but its receipt cannot be signed yet, in seconds.
const RECEIPT_RETRY_S: u32 = 2;

/// What is asked for, whoever asks.
#[derive(Debug, Clone)]
pub struct Asked {
    pub refund: protocol::ids::RefundId,
    pub charge: protocol::ids::ChargeId,
    pub amount: protocol::money::Money,
    pub reason: Option<String>,
}

/// Gives money back on whichever rail it was paid.
pub struct Refunds {
    app: Arc<App>,
    rails: Rails,
}

impl Refunds {
    pub fn new(app: Arc<App>, rails: Rails) -> Self {
        Self { app, rails }
    }

    /// What a till asks for, through its terminal, with the merchant's PIN.
    pub async fn by_till(
        &self,
        terminal: TerminalId,
        request: RefundRequest,
        now: Timestamp,
    ) -> Result<RefundResponse, Failure> {
        let app = &self.app;
        let asking = async {
            check_reason(request.reason.as_deref())?;
            let known = app.store.terminal(terminal).await?;
            let merchant = known.ok_or(ProblemType::TerminalRefused)?.merchant;
            pins::check(app, merchant, request.pin, now).await?;
            let asked = Asked {
                refund: request.refund,
                charge: request.charge,
                amount: request.amount,
                reason: request.reason,
            };
            let refund = take(app, asked, RefundAsker::Terminal(terminal), now).await?;
            let refund = self.ask_rail(refund).await?;
            answer(app, refund, now).await
        };
        counted(app, asking.await)
    }

    /// Asks every outside rail once about what it left open; answers how much came to an end.
    pub async fn reconcile(&self, now: Timestamp) -> Result<usize, Failure> {
        let rails = self.rails.names();
        let rails = rails.map(|rail| self.reconcile_rail(rail, now));
        let ended = join_all(rails).await;
        let gone = self.reconcile_gone(now).await;
        ended.into_iter().chain([gone]).sum()
    }

    /// The rails that may be asked, each on its own.
    pub fn rails(&self) -> &Rails {
        &self.rails
    }

    /// What is open on rails that left the configuration stays so, and the log says it.
    pub async fn reconcile_gone(&self, now: Timestamp) -> Result<usize, Failure> {
        let mut ended = 0;
        for rail in self.app.store.rails_that_owe_refunds().await? {
            if self.rails.get(&rail).is_none() {
                ended += self.reconcile_rail(&rail, now).await?;
            }
        }
        Ok(ended)
    }

    /// Asks this rail about what it left open; answers how much came to an end.
    ///
    /// Each rail has its own batch: one that is down keeps no other from its own.
    pub async fn reconcile_rail(&self, rail: &str, now: Timestamp) -> Result<usize, Failure> {
        let (store, rail) = (&self.app.store, rail.to_owned());
        let due = store.refunds_due(rail, now, RECONCILE_BATCH).await?;
        let asked = futures_util::stream::iter(due)
            .map(|refund| self.take_up(refund))
            .buffer_unordered(RECONCILE_AT_ONCE);
        Ok(asked
            .filter(|ended| std::future::ready(*ended))
            .count()
            .await)
    }

    /// True if it came to an end. What fails is due again.
    async fn take_up(&self, refund: Refund) -> bool {
        let id = refund.id;
        match self.ask_rail(refund).await {
            Ok(refund) => refund.state != RefundState::Asked,
            Err(why) => {
                tracing::warn!(refund = %id, error = %why, "a refund is still open");
                false
            }
        }
    }

    /// One call of the rail under the refund's own key: the same key again is the same refund there, so
    /// a call without an answer is simply made again.
    async fn ask_rail(&self, refund: Refund) -> Result<Refund, Failure> {
        if refund.state != RefundState::Asked {
            return Ok(refund);
        }
        let step = match self.call(&refund).await? {
            Answer::Done { reference } => RefundStep::Refunded { reference },
            Answer::Declined { reason } => RefundStep::Declined {
                reason: reason.to_string(),
            },
            Answer::Unknown { why } => {
                tracing::warn!(refund = %refund.id, why, "a refund is unknown, and asked for again");
                let next_at = self.app.clock.now() + retry_after_ms(refund.tries);
                RefundStep::Unanswered { next_at }
            }
        };
        let (store, now) = (&self.app.store, self.app.clock.now());
        let stepped = store.step_refund(refund.id, step, now).await?;
        Ok(stepped.ok_or(ProblemType::Internal)?)
    }

    async fn call(&self, refund: &Refund) -> Result<Answer, Failure> {
        let Some(rail) = self.rails.get(&refund.payment.rail) else {
            let why = format!("the rail {:?} is not configured", refund.payment.rail);
            return Ok(Answer::Unknown { why });
        };
        let intent = self.app.store.intent(refund.payment.id).await?;
        let intent = intent.ok_or(ProblemType::Internal)?;
        let order = rails::Refund {
            key: RailKey(refund.movement),
            of: intent.key,
            account: intent.rail_account,
            amount: refund.amount,
        };
        Ok(rail.refund(&order).await)
    }
}

/// Twice as long each time, up to [`RETRY_MAX_MS`].
fn retry_after_ms(tries: u32) -> Millis {
    (RETRY_FIRST_MS << tries.min(16)).min(RETRY_MAX_MS)
}

/// What an operator asks for: no PIN, the same limits. An outside rail is asked in the background.
pub async fn by_operator(
    app: &App,
    operator: &str,
    asked: Asked,
    now: Timestamp,
) -> Result<RefundResponse, Failure> {
    let asking = async {
        check_reason(asked.reason.as_deref())?;
        let refund = take(app, asked, RefundAsker::Operator(operator.into()), now).await?;
        answer(app, refund, now).await
    };
    counted(app, asking.await)
}

/// Signs receipts that are due, oldest first; answers how many are stored now.
pub async fn resume(app: &App, now: Timestamp) -> Result<usize, Failure> {
    let mut stored = 0;
    for refund in app.store.refund_receipts_due(RESUME_BATCH).await? {
        match receipt_of(app, &refund, now).await {
            Ok(_) => stored += 1,
            Err(why) => {
                tracing::warn!(refund = %refund.id, error = %why, "a refund's receipt is still due");
            }
        }
    }
    Ok(stored)
}

/// Commits that it is asked for; on the built-in ledger that is all.
async fn take(
    app: &App,
    asked: Asked,
    asker: RefundAsker,
    now: Timestamp,
) -> Result<Refund, Failure> {
    let charge = app.store.charge(asked.charge).await?;
    let charge = charge.ok_or(ProblemType::ChargeUnknown)?;
    let terminal = app.store.terminal(charge.terminal).await?;
    let merchant = terminal.ok_or(ProblemType::Internal)?.merchant;
    let terms = app.store.terms(merchant).await?;
    let refund = NewRefund {
        id: asked.refund,
        charge: asked.charge,
        amount: asked.amount,
        reason: asked.reason,
        asker,
        movement: ids::fresh(now, ReceiptId::from_parts).0,
        receipt: ids::fresh(now, ReceiptId::from_parts),
        day: days::zone_of(app, &terms).day_of(now)?.day,
        day_max_minor: app.config.books.refund_day_max_minor,
        at: now,
    };
    let refund = given(app.store.refund(refund).await?)?;
    tracing::info!(refund = %refund.id, amount = %refund.amount, "refund");
    Ok(refund)
}

async fn answer(app: &App, refund: Refund, now: Timestamp) -> Result<RefundResponse, Failure> {
    let stage = match &refund.state {
        RefundState::Asked => RefundStage::Asked,
        RefundState::Declined { reason, .. } => RefundStage::Declined {
            reason: reason.clone(),
        },
        RefundState::Refunded { .. } => RefundStage::Refunded {
            receipt_id: refund.receipt,
            receipt: receipt_of(app, &refund, now)
                .await
                .map_err(come_back_for_the_receipt)?,
        },
    };
    Ok(RefundResponse {
        refund: refund.id,
        charge: refund.payment.approved.claimed().charge,
        payment: refund.payment.id,
        amount: refund.amount,
        stage,
    })
}

/// The money has moved: whatever hinders the receipt passes, and the same request answers it.
fn come_back_for_the_receipt(why: Failure) -> Failure {
    tracing::warn!(error = %why, "refunded, and its receipt is due");
    Problem::new(ProblemType::Busy)
        .with_detail("it is given back; ask again for the receipt")
        .with_retry_after(RECEIPT_RETRY_S)
        .into()
}

/// The receipt of a refund: the stored one, or signed and stored now.
async fn receipt_of(app: &App, refund: &Refund, now: Timestamp) -> Result<String, Failure> {
    if let Some(stored) = &refund.receipt_jws {
        return Ok(stored.clone());
    }
    let claims = claims_of(refund, app.issuer_uri()).ok_or(ProblemType::Internal)?;
    let keys = app.keyring();
    let jws = keyring::sign(&app.hsm, keys.receipt(), &claims, Priority::Payment).await?;
    let store = &app.store;
    Ok(store.store_refund_receipt(refund.id, jws, now).await?)
}

/// None for a refund that is not given back.
fn claims_of(refund: &Refund, iss: String) -> Option<RefundClaims> {
    let RefundState::Refunded { at, rail_reference } = &refund.state else {
        return None;
    };
    let (payment, claimed) = (&refund.payment, refund.payment.approved.claimed());
    Some(RefundClaims {
        iss,
        sub: payment.pseudonym.clone(),
        jti: refund.receipt.to_string(),
        iat: at.secs(),
        receipt: refund.receipt,
        refund: refund.id,
        payment: payment.id,
        payment_receipt: payment.receipt,
        charge: claimed.charge,
        reference: claimed.reference.clone(),
        terminal: match refund.asker {
            RefundAsker::Terminal(id) => Some(id),
            RefundAsker::Operator(_) => None,
        },
        payee: Payee {
            id: claimed.payee,
            name: payment.payee_name.clone(),
        },
        amount: refund.amount,
        paid: payment.approved.amount(),
        reason: refund.reason.clone(),
        rail: payment.rail.clone(),
        rail_reference: rail_reference.clone(),
    })
}

fn given(outcome: RefundOutcome) -> Result<Refund, Failure> {
    let refused = |problem, detail: String| Err(Problem::new(problem).with_detail(detail).into());
    match outcome {
        RefundOutcome::Refunded(refund)
        | RefundOutcome::Asked(refund)
        | RefundOutcome::Already(refund) => Ok(*refund),
        RefundOutcome::Differs => Err(ProblemType::RefundDiffers.into()),
        RefundOutcome::ChargeUnknown => Err(ProblemType::ChargeUnknown.into()),
        RefundOutcome::Unpaid => Err(ProblemType::ChargeUnpaid.into()),
        RefundOutcome::Currency => refused(
            ProblemType::MalformedRequest,
            "it was paid in another currency".into(),
        ),
        RefundOutcome::PayerGone => Err(ProblemType::PayerGone.into()),
        RefundOutcome::TooMuch { left_minor } => refused(
            ProblemType::RefundTooMuch,
            format!("{left_minor} minor units are left"),
        ),
        RefundOutcome::OverCap { left_minor } => refused(
            ProblemType::RefundCap,
            format!("{left_minor} minor units are left of this day"),
        ),
        RefundOutcome::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
    }
}

fn check_reason(reason: Option<&str>) -> Result<(), Failure> {
    let reason = reason.unwrap_or_default();
    if reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
        let rule = format!("a reason has at most {REASON_MAX} bytes and no control characters");
        return Err(Problem::new(ProblemType::MalformedRequest)
            .with_detail(rule)
            .into());
    }
    Ok(())
}

fn counted<T>(app: &App, asked: Result<T, Failure>) -> Result<T, Failure> {
    let outcome = super::outcome(&asked, "refunded");
    app.metrics.refunds.with_label_values(&[outcome]).inc();
    asked
}
