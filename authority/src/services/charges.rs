//! What does the till ask for, and how far is it?

use protocol::charge::{CHARGE_LIFE_MS, REFERENCE_MAX};
use protocol::ids::{ChargeId, ClaimId, TerminalId};
use protocol::problem::{Problem, ProblemType};
use protocol::turn::TurnCause;
use protocol::wire::charges::ChargeRequest;
use protocol::wire::push::{ChargeStage, ChargeState, EndReason};

use super::{Failure, windows};
use crate::app::App;
use crate::store::{ChargeRecord, ChargeStatus, NewCharge, StartCharge};

/// Offers a charge; the same request again is the same charge.
pub async fn start(
    app: &App,
    terminal: TerminalId,
    request: ChargeRequest,
) -> Result<ChargeState, Failure> {
    let started = try_start(app, terminal, request).await;
    let outcome = started.as_ref().map_or_else(Failure::label, |_| "started");
    app.metrics.charges.with_label_values(&[outcome]).inc();
    state(app, started?).await
}

/// The charge as it stands, if it is this terminal's.
pub async fn look(app: &App, terminal: TerminalId, id: ChargeId) -> Result<ChargeState, Failure> {
    let record = own(app, terminal, id).await?;
    state(app, record).await
}

/// Cancels a charge that is offered or held; a paid one stays paid.
pub async fn cancel(app: &App, terminal: TerminalId, id: ChargeId) -> Result<ChargeState, Failure> {
    own(app, terminal, id).await?;
    let ended = end(app, terminal, id, EndReason::Cancelled).await?;
    state(app, ended).await
}

/// Ends a charge for `reason`, and moves what it moves.
pub async fn end(
    app: &App,
    terminal: TerminalId,
    id: ChargeId,
    reason: EndReason,
) -> Result<ChargeRecord, Failure> {
    let now = app.clock.now();
    let moved = windows::moved(app, terminal, TurnCause::ChargeEnded, now).await?;
    let ended = app.store.end_charge(id, reason, moved, now).await?;
    app.push.changed(terminal);
    ended.ok_or(ProblemType::ChargeUnknown.into())
}

async fn try_start(
    app: &App,
    terminal: TerminalId,
    request: ChargeRequest,
) -> Result<ChargeRecord, Failure> {
    if request
        .reference
        .as_ref()
        .is_some_and(|text| text.len() > REFERENCE_MAX)
    {
        let detail = format!("a reference has at most {REFERENCE_MAX} bytes");
        return Err(Problem::new(ProblemType::MalformedRequest)
            .with_detail(detail)
            .into());
    }
    let now = app.clock.now();
    let charge = NewCharge {
        id: request.charge,
        terminal,
        amount: request.amount,
        reference: request.reference,
        at: now,
        until: now + CHARGE_LIFE_MS,
        moved: windows::moved(app, terminal, TurnCause::ChargeStarted, now).await?,
    };
    match app.store.start_charge(charge).await? {
        StartCharge::Started(record) => {
            app.push.changed(terminal);
            Ok(record)
        }
        StartCharge::Already(record) => Ok(record),
        StartCharge::Differs => Err(ProblemType::ChargeDiffers.into()),
        StartCharge::OtherOpen(other) => {
            let detail = format!("charge {other} is still open");
            Err(Problem::new(ProblemType::ChargeOpen)
                .with_detail(detail)
                .into())
        }
        StartCharge::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
        StartCharge::Currency => {
            let detail = "the currency is not the merchant's";
            Err(Problem::new(ProblemType::MalformedRequest)
                .with_detail(detail)
                .into())
        }
    }
}

async fn own(app: &App, terminal: TerminalId, id: ChargeId) -> Result<ChargeRecord, Failure> {
    let record = app.store.charge(id).await?;
    record
        .filter(|charge| charge.terminal == terminal)
        .ok_or(ProblemType::ChargeUnknown.into())
}

async fn state(app: &App, record: ChargeRecord) -> Result<ChargeState, Failure> {
    let stage = match record.status {
        ChargeStatus::Offered => ChargeStage::Offered {
            until: record.until,
        },
        ChargeStatus::Held(claim) => held(app, claim).await?,
        ChargeStatus::Paid(claim) => paid(app, claim).await?,
        ChargeStatus::Ended(reason) => ChargeStage::Ended { reason },
    };
    Ok(ChargeState {
        charge: record.id,
        kind: record.kind,
        amount: record.amount,
        reference: record.reference,
        stage,
    })
}

async fn held(app: &App, claim: ClaimId) -> Result<ChargeStage, Failure> {
    let record = app.store.claim_record(claim).await?;
    let claimed = record.ok_or(ProblemType::Internal)?.claimed;
    Ok(ChargeStage::Held {
        claim,
        mark: claimed.mark,
        until: claimed.held_until,
    })
}

/// "Paid" is said only with the receipt that proves it.
async fn paid(app: &App, claim: ClaimId) -> Result<ChargeStage, Failure> {
    let payment = app
        .store
        .payment_of(claim)
        .await?
        .ok_or(ProblemType::Internal)?;
    match payment.receipt_jws {
        Some(receipt) => {
            let mark = payment.approved.claimed().mark;
            Ok(ChargeStage::Paid {
                claim,
                mark,
                receipt,
            })
        }
        None => held(app, claim).await,
    }
}
