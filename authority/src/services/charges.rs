//! What does the till ask for, and how does it stand?

use std::sync::Arc;

use protocol::charge::{CHARGE_LIFE_MS, REFERENCE_MAX};
use protocol::ids::{ChargeId, ClaimId, TerminalId};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::turn::TurnCause;
use protocol::wire::charges::ChargeRequest;
use protocol::wire::push::{ChargeStage, ChargeState, EndReason};

use super::Failure;
use super::epoch_keys::EpochKeys;
use super::push::Push;
use crate::app::App;
use crate::store::{ChargeRecord, ChargeStatus, NewCharge, StartCharge};

/// Starts, shows and cancels what tills ask for.
pub struct Charges {
    app: Arc<App>,
    epoch_keys: Arc<EpochKeys>,
    push: Arc<Push>,
}

impl Charges {
    pub fn new(app: Arc<App>, epoch_keys: Arc<EpochKeys>, push: Arc<Push>) -> Self {
        Self {
            app,
            epoch_keys,
            push,
        }
    }

    /// Starts a charge; the same request again is the same charge.
    pub async fn start(
        &self,
        terminal: TerminalId,
        request: ChargeRequest,
        now: Timestamp,
    ) -> Result<ChargeState, Failure> {
        let started = self.try_start(terminal, request, now).await;
        self.count(super::outcome(&started, "started"));
        started
    }

    /// The charge as it stands, to the terminal it is at.
    pub async fn look(&self, terminal: TerminalId, id: ChargeId) -> Result<ChargeState, Failure> {
        let charge = self.own(terminal, id).await?;
        self.state_of(&charge).await
    }

    /// Ends a charge that is not paid yet; answers how it stands, which may be paid.
    pub async fn cancel(
        &self,
        terminal: TerminalId,
        id: ChargeId,
        now: Timestamp,
    ) -> Result<ChargeState, Failure> {
        self.own(terminal, id).await?;
        let cause = TurnCause::ChargeEnded;
        let moved = self.epoch_keys.moved(terminal, now, cause).await?;
        let (store, reason) = (&self.app.store, EndReason::Cancelled);
        let charge = store.end_charge(id, reason, moved, now).await?;
        self.push.changed(terminal);
        self.count("cancelled");
        self.state_of(&charge.ok_or(ProblemType::ChargeUnknown)?)
            .await
    }

    async fn try_start(
        &self,
        terminal: TerminalId,
        request: ChargeRequest,
        now: Timestamp,
    ) -> Result<ChargeState, Failure> {
        check_reference(request.reference.as_deref())?;
        let cause = TurnCause::ChargeStarted;
        let charge = NewCharge {
            id: request.charge,
            terminal,
            amount: request.amount,
            reference: request.reference,
            at: now,
            until: now + CHARGE_LIFE_MS,
            moved: self.epoch_keys.moved(terminal, now, cause).await?,
        };
        let record = started(self.app.store.start_charge(charge).await?)?;
        tracing::info!(%terminal, charge = %record.id, "charge on offer");
        self.push.changed(terminal);
        self.state_of(&record).await
    }

    async fn own(&self, terminal: TerminalId, id: ChargeId) -> Result<ChargeRecord, Failure> {
        let charge = self.app.store.charge(id).await?;
        let own = charge.filter(|charge| charge.terminal == terminal);
        Ok(own.ok_or(ProblemType::ChargeUnknown)?)
    }

    async fn state_of(&self, charge: &ChargeRecord) -> Result<ChargeState, Failure> {
        let stage = match charge.status {
            ChargeStatus::Offered => ChargeStage::Offered {
                until: charge.until,
            },
            ChargeStatus::Held(claim) => self.held(claim).await?,
            ChargeStatus::Paid(claim) => self.paid(claim).await?,
            ChargeStatus::Ended(reason) => ChargeStage::Ended { reason },
        };
        Ok(ChargeState {
            charge: charge.id,
            kind: charge.kind,
            amount: charge.amount,
            reference: charge.reference.clone(),
            stage,
        })
    }

    async fn held(&self, claim: ClaimId) -> Result<ChargeStage, Failure> {
        let record = self.app.store.claim_record(claim).await?;
        let claimed = record.ok_or(ProblemType::Internal)?.claimed;
        Ok(ChargeStage::Held {
            claim,
            mark: claimed.mark,
            until: claimed.held_until,
        })
    }

    /// "Paid" is never said without the receipt that proves it.
    async fn paid(&self, claim: ClaimId) -> Result<ChargeStage, Failure> {
        let payment = self.app.store.payment_of(claim).await?;
        let payment = payment.ok_or(ProblemType::Internal)?;
        match payment.receipt_jws {
            Some(receipt) => Ok(ChargeStage::Paid {
                claim,
                mark: payment.approved.claimed().mark,
                receipt,
            }),
            None => self.held(claim).await,
        }
    }

    fn count(&self, outcome: &str) {
        let counter = &self.app.metrics.charges;
        counter.with_label_values(&[outcome]).inc();
    }
}

fn started(outcome: StartCharge) -> Result<ChargeRecord, Failure> {
    match outcome {
        StartCharge::Started(charge) | StartCharge::Already(charge) => Ok(charge),
        StartCharge::Differs => Err(ProblemType::ChargeDiffers.into()),
        StartCharge::OtherOpen(other) => Err(Problem::new(ProblemType::ChargeOpen)
            .with_detail(format!("charge {other}"))
            .into()),
        StartCharge::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
        StartCharge::Currency => Err(malformed("the merchant is paid in another currency")),
    }
}

fn check_reference(reference: Option<&str>) -> Result<(), Failure> {
    let reference = reference.unwrap_or_default();
    if reference.len() > REFERENCE_MAX || reference.chars().any(char::is_control) {
        let rule =
            format!("a reference has at most {REFERENCE_MAX} bytes and no control characters");
        return Err(malformed(&rule));
    }
    Ok(())
}

fn malformed(detail: &str) -> Failure {
    Problem::new(ProblemType::MalformedRequest)
        .with_detail(detail)
        .into()
}
