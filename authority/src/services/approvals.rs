//! Did the shopper agree to exactly this, and is it carried out once?
//!
//! ```text
//! phone's secret + access token + amount and payee as seen
//!   ─▶ Approved ─▶ one transaction: books, claim, charge, receipt due ─▶ signed ─▶ stored ─▶ shown
//! ```

use protocol::charge::{Approval, ApprovalRefusal, Approved};
use protocol::ids::{PaymentId, ReceiptId};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::turn::TurnCause;
use protocol::wire::claims::{ApprovalRequest, ApprovalResponse, ClaimState};

use super::claims::OwnClaim;
use super::sign_in::SignedIn;
use super::{Failure, receipts, windows};
use crate::app::App;
use crate::ids::fresh;
use crate::store::{Pay, PayOutcome, Payment};

/// Approves and pays; the same approval again answers the same receipt, byte for byte.
pub async fn approve(
    app: &App,
    claim: OwnClaim,
    shopper: &SignedIn,
    request: &ApprovalRequest,
) -> Result<ApprovalResponse, Failure> {
    let id = claim.record().claimed.claim;
    let approved = try_approve(app, claim, shopper, request).await;
    let outcome = approved.as_ref().map_or_else(Failure::label, |_| "paid");
    app.metrics.payments.with_label_values(&[outcome]).inc();
    tracing::info!(claim = %id, outcome, "approval");
    approved
}

async fn try_approve(
    app: &App,
    claim: OwnClaim,
    shopper: &SignedIn,
    request: &ApprovalRequest,
) -> Result<ApprovalResponse, Failure> {
    let now = app.clock.now();
    let approved = check(claim, request, now)?;
    let payment = pay(app, approved, shopper, now).await?;
    let receipt = receipts::settle(app, &payment).await?;
    Ok(ApprovalResponse {
        payment: payment.id,
        receipt_id: payment.receipt,
        receipt,
    })
}

/// A claim that is paid is judged as of when it was claimed: a retry may come late, but it must
/// still name the same amount and payee.
fn check(claim: OwnClaim, request: &ApprovalRequest, now: Timestamp) -> Result<Approved, Problem> {
    let record = claim.record().clone();
    let at = match record.state {
        ClaimState::Held => now,
        ClaimState::Paid => record.claimed.claimed_at,
        ClaimState::Released => return Err(Problem::new(ProblemType::ClaimOver)),
    };
    let approval = Approval {
        amount: request.amount,
        payee: request.payee,
    };
    record.claimed.approve(&approval, at).map_err(|refusal| {
        Problem::new(match refusal {
            ApprovalRefusal::Late => ProblemType::ClaimOver,
            ApprovalRefusal::Amount => ProblemType::AmountDiffers,
            ApprovalRefusal::Payee => ProblemType::PayeeDiffers,
        })
    })
}

async fn pay(
    app: &App,
    approved: Approved,
    shopper: &SignedIn,
    now: Timestamp,
) -> Result<Payment, Failure> {
    let terminal = approved.claimed().terminal;
    let pay = Pay {
        payment: fresh(now, PaymentId::from_parts),
        receipt: fresh(now, ReceiptId::from_parts),
        approved,
        person: shopper.person().clone(),
        at: now,
        moved: windows::moved(app, terminal, TurnCause::ChargeEnded, now).await?,
    };
    match app.store.pay(pay).await? {
        PayOutcome::Paid(payment) => {
            app.push.changed(terminal);
            Ok(*payment)
        }
        PayOutcome::Already(payment) => Ok(*payment),
        PayOutcome::ClaimOver => Err(ProblemType::ClaimOver.into()),
        PayOutcome::NoAccount => Err(ProblemType::NoAccount.into()),
        PayOutcome::FundsShort => Err(ProblemType::FundsShort.into()),
        PayOutcome::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
    }
}
