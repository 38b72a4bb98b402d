//! Has the shopper agreed to this amount for this payee, and is it paid?
//!
//! ```text
//! cookie + access token ─▶ Claimed ─▶ Approved ─▶ store.pay ─▶ receipt (HSM) ─▶ answer
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
use super::phone::{OwnClaim, PhoneCookie};
use super::push::Push;
use super::receipts::Receipts;
use super::sign_in::SignedIn;
use super::{Failure, phone};
use crate::app::App;
use crate::clock::Stopwatch;
use crate::ids;
use crate::store::{Pay, PayOutcome, Payment};

/// When a payment is made but its receipt cannot be signed yet, in seconds.
pub const RECEIPT_RETRY_S: u32 = 2;

/// Carries out approvals.
pub struct Approvals {
    app: Arc<App>,
    epoch_keys: Arc<EpochKeys>,
    receipts: Arc<Receipts>,
    push: Arc<Push>,
}

impl Approvals {
    pub fn new(
        app: Arc<App>,
        epoch_keys: Arc<EpochKeys>,
        receipts: Arc<Receipts>,
        push: Arc<Push>,
    ) -> Self {
        Self {
            app,
            epoch_keys,
            receipts,
            push,
        }
    }

    /// The bytes of the answer: the same for the same approval, now and later.
    pub async fn approve(
        &self,
        claim: ClaimId,
        cookie: Option<&PhoneCookie>,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<Vec<u8>, Failure> {
        crate::logging::follow_claim(claim);
        let approving = async {
            let own = phone::find(&*self.app.store, claim, cookie).await?;
            self.pay_and_sign(own, signed_in, request, now).await
        };
        let answered = approving.await;
        let outcome = super::outcome(&answered, "paid");
        let counter = &self.app.metrics.payments;
        counter.with_label_values(&[outcome]).inc();
        answered
    }

    async fn pay_and_sign(
        &self,
        own: OwnClaim,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<Vec<u8>, Failure> {
        let claim = own.record().claimed.claim;
        let earlier = self.app.store.payment_of(claim).await?;
        let (approved, moved) = match earlier {
            Some(payment) => (agrees(payment, request)?, Vec::new()),
            None => self.first_time(own, request, now).await?,
        };
        let payment = self.pay(approved, signed_in, moved, now).await?;
        let receipt = self.receipts.of(&payment, now).await;
        // The till hears of it either way: paid, or that the receipt is still due.
        self.push.changed(payment.approved.claimed().terminal);
        Ok(answer(&payment, receipt.map_err(|why| later(&why))?))
    }

    async fn first_time(
        &self,
        own: OwnClaim,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<(Approved, Vec<WindowId>), Failure> {
        let record = own.record();
        if record.state != ClaimState::Held {
            return Err(ProblemType::ClaimOver.into());
        }
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
        moved: Vec<WindowId>,
        now: Timestamp,
    ) -> Result<Payment, Failure> {
        let pay = Pay {
            payment: ids::fresh(now, PaymentId::from_parts),
            receipt: ids::fresh(now, ReceiptId::from_parts),
            approved,
            person: signed_in.person().clone(),
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
                Ok(*payment)
            }
            PayOutcome::Already(payment) => Ok(*payment),
            PayOutcome::ClaimOver => Err(ProblemType::ClaimOver.into()),
            PayOutcome::NoAccount => Err(ProblemType::NoAccount.into()),
            PayOutcome::FundsShort => Err(ProblemType::FundsShort.into()),
            PayOutcome::CapReached => Err(ProblemType::CapReached.into()),
            PayOutcome::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
        }
    }
}

/// What was approved before, if this asks for the same.
fn agrees(payment: Payment, request: &ApprovalRequest) -> Result<Approved, Failure> {
    let approved = payment.approved;
    if request.payee != approved.claimed().payee {
        return Err(ProblemType::PayeeDiffers.into());
    }
    if request.amount != approved.amount() {
        return Err(ProblemType::AmountDiffers.into());
    }
    Ok(approved)
}

fn problem_of(refusal: ApprovalRefusal) -> ProblemType {
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
