//! Has the shopper agreed to this amount for this payee, and is it paid?
//!
//! ```text
//! cookie + access token ─▶ Claimed ─▶ Approved ─▶ store.pay ─▶ receipt (HSM) ─▶ answer
//!                                        │           └─▶ intent ─▶ payments.rs ─┘ (an outside rail)
//!                                        └── the same again: the same receipt, byte for byte
//! ```

use std::sync::Arc;

use protocol::charge::{Approval, ApprovalRefusal, Approved};
use protocol::ids::{ClaimId, PaymentId, ReceiptId};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::token::WindowId;
use protocol::turn::TurnCause;
use protocol::wire::claims::{ApprovalRequest, ApprovalResponse, ClaimState};

use super::epoch_keys::EpochKeys;
use super::payments::{self, Payments};
use super::phone::{OwnClaim, PhoneCookie};
use super::push::Push;
use super::receipts::Receipts;
use super::sign_in::SignedIn;
use super::step_up::{self, StepUp};
use super::{Failure, phone};
use crate::app::App;
use crate::clock::Stopwatch;
use crate::ids;
use crate::store::{Barred, Intent, IntentState, Pay, PayOutcome, Payment, RailKey, Strength};

/// When a payment is made but its receipt cannot be signed yet, in seconds.
pub const RECEIPT_RETRY_S: u32 = 2;

/// Who agreed to what.
struct Agreed<'a> {
    by: &'a SignedIn,
    to: &'a ApprovalRequest,
    /// The wallet's own key signed it.
    signed: bool,
}

impl<'a> Agreed<'a> {
    fn said(by: &'a SignedIn, to: &'a ApprovalRequest) -> Self {
        Self {
            by,
            to,
            signed: false,
        }
    }
}

/// Carries out approvals.
pub struct Approvals {
    app: Arc<App>,
    epoch_keys: Arc<EpochKeys>,
    receipts: Arc<Receipts>,
    payments: Arc<Payments>,
    step_up: Arc<StepUp>,
    push: Arc<Push>,
}

/// What an approval answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// Paid. The bytes of the answer: the same for the same approval, now and later.
    Receipt(Vec<u8>),
    /// An outside rail has not answered yet: the same approval again, a little later, hears of it.
    Pending(PaymentId),
}

impl Approvals {
    pub fn new(
        app: Arc<App>,
        epoch_keys: Arc<EpochKeys>,
        receipts: Arc<Receipts>,
        payments: Arc<Payments>,
        step_up: Arc<StepUp>,
        push: Arc<Push>,
    ) -> Self {
        Self {
            app,
            epoch_keys,
            receipts,
            payments,
            step_up,
            push,
        }
    }

    /// Carries out what the shopper agreed to, once; the same approval again answers the same.
    pub async fn approve(
        &self,
        claim: ClaimId,
        cookie: Option<&PhoneCookie>,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<Answered, Failure> {
        crate::logging::follow_claim(claim);
        let own = phone::find(&*self.app.store, claim, cookie).await;
        self.answered(own, &Agreed::said(signed_in, request), now)
            .await
    }

    /// The same for a claim that a wallet made with an approval that its key signed, which was verified.
    pub(super) async fn approve_signed(
        &self,
        own: OwnClaim,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<Answered, Failure> {
        let agreed = Agreed {
            signed: true,
            ..Agreed::said(signed_in, request)
        };
        self.answered(Ok(own), &agreed, now).await
    }

    async fn answered(
        &self,
        own: Result<OwnClaim, Failure>,
        agreed: &Agreed<'_>,
        now: Timestamp,
    ) -> Result<Answered, Failure> {
        let approving = async {
            let payment = self.carry_out(own?, agreed, now).await?;
            self.answer(payment, now).await
        };
        let answered = approving.await;
        let good = match &answered {
            Ok(Answered::Pending(_)) => "pending",
            _ => "paid",
        };
        let outcome = super::outcome(&answered, good);
        let counter = &self.app.metrics.payments;
        counter.with_label_values(&[outcome]).inc();
        answered
    }

    async fn carry_out(
        &self,
        own: OwnClaim,
        agreed: &Agreed<'_>,
        now: Timestamp,
    ) -> Result<Carried, Failure> {
        let (signed_in, request) = (agreed.by, agreed.to);
        let record = own.record();
        let claim = record.claimed.claim;
        // A claim is paid in the transaction of its payment.
        let earlier = match record.state {
            ClaimState::Paid => self.app.store.payment_of(claim).await?,
            ClaimState::Held | ClaimState::Released => None,
        };
        let (approved, moved) = match earlier {
            Some(payment) => {
                let approved = agrees(payment.approved, request)?;
                let (moved, strength) = (Vec::new(), Strength::SignedIn);
                return self
                    .pay(approved, signed_in, request, moved, strength, now)
                    .await;
            }
            None if record.paying || record.state != ClaimState::Held => {
                return self.asked_before(claim, signed_in, request).await;
            }
            None => self.first_time(own, request, now).await?,
        };
        let step_up = &self.step_up;
        let strength = match agreed.signed && StepUp::is_strong_and_young(signed_in, now) {
            true => Strength::Wallet,
            false => step_up.strength(&approved, signed_in, request, now).await?,
        };
        self.pay(approved, signed_in, request, moved, strength, now)
            .await
    }

    /// With the receipt of a payment, which may have to be signed first.
    async fn answer(&self, carried: Carried, now: Timestamp) -> Result<Answered, Failure> {
        let payment = match carried {
            Carried::Paid(payment) => payment,
            Carried::Pending(payment) => return Ok(Answered::Pending(payment)),
        };
        let receipt = self.receipts.of(&payment, now).await;
        // The till hears of it either way: paid, or that the receipt is still due.
        self.push.changed(payment.approved.claimed().terminal);
        let receipt = receipt.map_err(|why| later(&why))?;
        Ok(Answered::Receipt(answer(&payment, receipt)))
    }

    /// The claim waits for a rail, or is over: whoever asked the rail hears what it said.
    async fn asked_before(
        &self,
        claim: ClaimId,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
    ) -> Result<Carried, Failure> {
        let (store, over) = (&self.app.store, ProblemType::ClaimOver);
        let intents = store.intents_of(claim).await?;
        let intent = intents.into_iter().last().ok_or(over)?;
        let person = signed_in.person().clone();
        if !store.is_intent_of(intent.payment, person).await? {
            return Err(over.into());
        }
        agrees(intent.approved, request)?;
        let intent = self.payments.follow(intent.payment).await?;
        self.outcome_of(&intent).await
    }

    async fn outcome_of(&self, intent: &Intent) -> Result<Carried, Failure> {
        match intent.state {
            IntentState::Authorising | IntentState::Capturing => {
                Ok(Carried::Pending(intent.payment))
            }
            IntentState::Paid => {
                let claim = intent.approved.claimed().claim;
                let payment = self.app.store.payment_of(claim).await?;
                let payment = payment.ok_or(ProblemType::Internal)?;
                Ok(Carried::Paid(Box::new(payment)))
            }
            IntentState::Declined | IntentState::Reversing | IntentState::Reversed => {
                Err(payments::refusal(intent))
            }
        }
    }

    async fn first_time(
        &self,
        own: OwnClaim,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<(Approved, Vec<WindowId>), Failure> {
        let record = own.record();
        let approval = Approval {
            amount: request.amount,
            payee: request.payee,
        };
        let approved = record.claimed.clone().approve(&approval, now);
        let approved = approved.map_err(|refusal| Failure::from(problem_of(refusal)))?;
        let terminal = record.claimed.terminal;
        let cause = TurnCause::ChargeEnded;
        let moved = self.epoch_keys.moved(terminal, now, cause).await?;
        Ok((approved, moved))
    }

    async fn pay(
        &self,
        approved: Approved,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        moved: Vec<WindowId>,
        strength: Strength,
        now: Timestamp,
    ) -> Result<Carried, Failure> {
        let shown = strength.clone();
        let rules = self.step_up.rules(&approved);
        let pay = Pay {
            payment: ids::fresh(now, PaymentId::from_parts),
            receipt: ids::fresh(now, ReceiptId::from_parts),
            approved,
            strength,
            rules,
            person: signed_in.person().clone(),
            account: request.account,
            key: RailKey::from_random(ids::random()),
            at: now,
            moved,
        };
        let writing = Stopwatch::start();
        let outcome = self.app.store.pay(pay).await?;
        let seconds = writing.seconds();
        self.app.metrics.store_write_seconds.observe(seconds);
        match outcome {
            PayOutcome::Paid(payment) => {
                tracing::info!(payment = %payment.id, "paid");
                Ok(Carried::Paid(payment))
            }
            PayOutcome::Already(payment) => Ok(Carried::Paid(payment)),
            PayOutcome::Begun(intent) => {
                agrees(intent.approved.clone(), request)?;
                let intent = self.payments.begin(&intent).await?;
                self.outcome_of(&intent).await
            }
            PayOutcome::Asked(intent) => {
                agrees(intent.approved, request)?;
                let intent = self.payments.follow(intent.payment).await?;
                self.outcome_of(&intent).await
            }
            PayOutcome::ClaimOver => Err(ProblemType::ClaimOver.into()),
            PayOutcome::NoAccount => Err(ProblemType::NoAccount.into()),
            PayOutcome::FundsShort => Err(ProblemType::FundsShort.into()),
            PayOutcome::Barred(why) => {
                if why == Barred::PasskeyRefused {
                    let step_up = &self.step_up;
                    step_up.note_if_regressed(signed_in, &shown, now).await?;
                }
                Err(step_up::problem_of(why, now).into())
            }
            PayOutcome::CapReached => Err(ProblemType::CapReached.into()),
            PayOutcome::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
        }
    }
}

/// How far it came.
enum Carried {
    Paid(Box<Payment>),
    Pending(PaymentId),
}

/// What was approved before, if this asks for the same.
fn agrees(approved: Approved, request: &ApprovalRequest) -> Result<Approved, Failure> {
    if request.payee != approved.claimed().payee {
        return Err(ProblemType::PayeeDiffers.into());
    }
    if request.amount != approved.amount() {
        return Err(ProblemType::AmountDiffers.into());
    }
    Ok(approved)
}

pub(super) fn problem_of(refusal: ApprovalRefusal) -> ProblemType {
    match refusal {
        ApprovalRefusal::Late => ProblemType::ClaimOver,
        ApprovalRefusal::Amount => ProblemType::AmountDiffers,
        ApprovalRefusal::Payee => ProblemType::PayeeDiffers,
    }
}

fn answer(payment: &Payment, receipt: String) -> Vec<u8> {
    let response = ApprovalResponse {
        payment: payment.id,
        receipt_id: payment.receipt,
        receipt,
    };
    serde_json::to_vec(&response).expect("two ids and a text serialize")
}

/// The money has moved and only the receipt is missing: asking again is right, paying again is not.
fn later(why: &Failure) -> Failure {
    tracing::warn!(error = %why, "paid, but the receipt is still due");
    Problem::new(ProblemType::Busy)
        .with_detail("paid; the receipt follows")
        .with_retry_after(RECEIPT_RETRY_S)
        .into()
}
