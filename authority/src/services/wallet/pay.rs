//! How does a wallet's payment happen once, however often it is asked for?
//!
//! ```text
//!  begin (name, fingerprint) ─▶ Go(claim id) ──▶ claim there already? ─yes─▶ approve
//!    │ Running │ Refused │ Differs                    └─no─▶ look, spend + keep the approval ─▶ approve
//! ```
//! The claim's id is fixed when the request is first asked, so whoever asks again, after a crash as well,
//! goes on with the same claim, and the same claim is paid once.

use std::sync::Arc;

use protocol::charge::{ChargeKind, HOLD_SIGNED_IN_MS, Mark};
use protocol::ids::{ChargeId, ClaimId};
use protocol::live::Live;
use protocol::money::Money;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::turn::TurnCause;
use protocol::wire::claims::{ApprovalRequest, ClaimState};
use protocol::wire::wallet::{IDEMPOTENCY_MS, IdempotencyKey, PaymentRequest, WalletPayment};
use sha2::{Digest, Sha256};

use super::approval::Agreed;
use super::{ATTEMPT_MS, Holder, RUNNING_RETRY_S, Terms, paid, unpaid};
use crate::config::TrafficConfig;
use crate::ids;
use crate::services::approvals::Answered;
use crate::services::claims::Good;
use crate::services::journey::Journey;
use crate::services::phone::{self, OwnClaim};
use crate::services::{Failure, seconds};
use crate::store::{BeginRequest, Claim, RequestBegun, RequestEnd, WalletRequest};

/// A payment as it is asked for.
pub struct Pay<'a> {
    pub name: &'a IdempotencyKey,
    pub request: &'a PaymentRequest,
}

/// What a payment answers.
#[derive(Debug, Clone)]
pub enum Paid {
    /// With its receipt: the same to the same request, byte for byte.
    Now(WalletPayment),
    /// An outside rail has not answered yet.
    Pending(WalletPayment),
    /// Refused before, and for good: status and body as they were.
    Refused { status: u16, body: Vec<u8> },
}

pub(super) async fn carry_out(
    journey: &Arc<Journey>,
    holder: &Holder,
    pay: &Pay<'_>,
    now: Timestamp,
) -> Result<Paid, Failure> {
    let agreed = Agreed::read(pay.request, holder, &journey.app.config.public.origin())?;
    let begin = begin(holder, pay, &journey.app.config.spending.traffic, now);
    let request = begin.request;
    match journey.app.store.begin_wallet_request(begin).await? {
        RequestBegun::Differs => Err(ProblemType::RequestDiffers.into()),
        RequestBegun::TooMany(oldest) => Err(too_many(oldest, now)),
        // An attempt that everybody had given up on may have paid after another one was refused.
        RequestBegun::Refused {
            claim,
            status,
            body,
        } => match answered(journey, claim).await? {
            Some(payment) => Ok(Paid::Now(payment)),
            None => Ok(Paid::Refused { status, body }),
        },
        RequestBegun::Running(claim) => match answered(journey, claim).await? {
            Some(payment) => Ok(Paid::Now(payment)),
            None => Err(running()),
        },
        RequestBegun::Go(claim) => {
            crate::logging::follow_claim(claim);
            let attempt = Attempt {
                journey,
                holder,
                agreed,
                claim,
                now,
            };
            attempt.make(pay.request, request).await
        }
    }
}

/// A payment that is made and receipted says so while its request is still marked as running.
async fn answered(journey: &Journey, claim: ClaimId) -> Result<Option<WalletPayment>, Failure> {
    let payment = journey.app.store.payment_of(claim).await?;
    let payment = payment.filter(|payment| payment.receipt_jws.is_some());
    Ok(payment.map(|payment| paid(&payment, payment.receipt_jws.clone())))
}

/// One is forgotten, and makes room, a day after it began.
fn too_many(oldest: Timestamp, now: Timestamp) -> Failure {
    Problem::new(ProblemType::TooManyRequests)
        .with_detail("this key has asked for too much in a day")
        .with_retry_after(seconds(oldest + IDEMPOTENCY_MS - now))
        .into()
}

fn running() -> Failure {
    Problem::new(ProblemType::RequestRunning)
        .with_retry_after(RUNNING_RETRY_S)
        .into()
}

/// The same name of the same key by another shopper, or for anything else, is another request.
fn begin(holder: &Holder, pay: &Pay<'_>, traffic: &TrafficConfig, now: Timestamp) -> BeginRequest {
    let person = holder.signed_in.person();
    let mut fingerprint = Sha256::new();
    let parts = [
        person.issuer.as_str(),
        &person.subject,
        &pay.request.token,
        &pay.request.approval,
    ];
    for part in parts {
        fingerprint.update((part.len() as u64).to_be_bytes());
        fingerprint.update(part);
    }
    BeginRequest {
        request: WalletRequest {
            key: holder.thumbprint(),
            name: Sha256::digest(pay.name.as_str()).into(),
        },
        fingerprint: fingerprint.finalize().into(),
        claim: ids::fresh(now, ClaimId::from_parts),
        at: now,
        running_until: now + ATTEMPT_MS,
        remembered_max: traffic.payments_per_wallet_key,
    }
}

/// One try at a request.
struct Attempt<'a> {
    journey: &'a Journey,
    holder: &'a Holder,
    agreed: Agreed,
    claim: ClaimId,
    now: Timestamp,
}

impl Attempt<'_> {
    async fn make(&self, asked: &PaymentRequest, request: WalletRequest) -> Result<Paid, Failure> {
        let done = match self.claim_and_approve(asked).await {
            Err(refused) => self.unless_paid(refused).await,
            done => done,
        };
        let end = match &done {
            // The payment itself says so from now on.
            Ok(Paid::Now(_)) => return done,
            Ok(_) => RequestEnd::Open,
            Err(failure) => self.end_of(failure).await,
        };
        if let Err(error) = self
            .journey
            .app
            .store
            .end_wallet_request(request, end)
            .await
        {
            // It is free when its time is over.
            tracing::warn!(%error, "a request stays marked as running");
        }
        done
    }

    /// What failed on the way back may have happened: then the payment is the answer.
    async fn unless_paid(&self, refused: Failure) -> Result<Paid, Failure> {
        match answered(self.journey, self.claim).await {
            Ok(Some(payment)) => Ok(Paid::Now(payment)),
            Ok(None) => Err(refused),
            Err(error) => {
                tracing::warn!(%error, "whether a refused payment was made cannot be said");
                Err(refused)
            }
        }
    }

    /// A refusal stands for good only where the books say that nothing was paid, and that nothing can be.
    async fn end_of(&self, refused: &Failure) -> RequestEnd {
        let end = end_of(refused);
        if end == RequestEnd::Open {
            return end;
        }
        match self.is_over().await {
            Ok(true) => end,
            Ok(false) => RequestEnd::Open,
            Err(error) => {
                tracing::warn!(%error, "a refusal is not kept: whether it was paid cannot be said");
                RequestEnd::Open
            }
        }
    }

    /// The claim was made and let go of what it held. One that holds on, or is not made yet, may be in the
    /// hands of an earlier attempt that pays a moment later.
    async fn is_over(&self) -> Result<bool, Failure> {
        let record = self.journey.app.store.claim_record(self.claim).await?;
        Ok(record.is_some_and(|record| record.state == ClaimState::Released))
    }

    async fn is_paid(&self) -> Result<bool, Failure> {
        let payment = self.journey.app.store.payment_of(self.claim).await?;
        Ok(payment.is_some())
    }

    async fn claim_and_approve(&self, asked: &PaymentRequest) -> Result<Paid, Failure> {
        let own = match self.own_claim().await? {
            Some(own) => own,
            None => self.spend(asked).await?,
        };
        match self.approve(own).await {
            Err(refused) if is_final(&refused) && !self.is_paid().await? => {
                Err(self.release(refused).await)
            }
            answered => answered,
        }
    }

    async fn own_claim(&self) -> Result<Option<OwnClaim>, Failure> {
        let store = &*self.journey.app.store;
        phone::find_by_key(store, self.claim, self.holder.thumbprint()).await
    }

    /// What can be found wrong before the token is spent is found here.
    async fn spend(&self, asked: &PaymentRequest) -> Result<OwnClaim, Failure> {
        let (claims, signed_in) = (&self.journey.claims, &self.holder.signed_in);
        let good = match self.good(asked).await {
            Ok(good) => good,
            // An earlier attempt that was given up on may have spent it just now.
            Err(refused) => return self.own_claim().await?.ok_or(refused),
        };
        let claim = Claim {
            id: self.claim,
            live: good.live,
            tap: good.tap,
            phone: phone::hash_of_key(self.holder.thumbprint()),
            person: Some(signed_in.person().clone()),
            held_max: self.journey.app.config.spending.traffic.claims_per_shopper,
            mark: Mark::from_random(ids::random()),
            at: self.now,
            held_until: self.now + HOLD_SIGNED_IN_MS,
            idle_charge: ids::fresh(self.now, ChargeId::from_parts),
            approval: Some(self.agreed.kept(self.holder)?),
        };
        let spent = claims.spend(claim, self.now).await;
        let by = good.live.token().window.channel.name();
        let outcome = crate::services::outcome(&spent, "claimed");
        let counter = &self.journey.app.metrics.claims;
        counter.with_label_values(&[by, outcome]).inc();
        // Somebody else who carries out this request may have been faster.
        match (spent, self.own_claim().await?) {
            (_, Some(own)) => Ok(own),
            (Err(refused), None) => Err(refused),
            (Ok(_), None) => Err(ProblemType::Internal.into()),
        }
    }

    async fn good(&self, asked: &PaymentRequest) -> Result<Good, Failure> {
        self.agreed.check_time(self.now)?;
        let signed_in = &self.holder.signed_in;
        let claims = &self.journey.claims;
        let good = claims.recognised(&asked.token, signed_in, self.now).await?;
        self.compare(&good.live).await?;
        Ok(good)
    }

    async fn compare(&self, live: &Live) -> Result<(), Failure> {
        let (store, agreed) = (&self.journey.app.store, self.agreed.claims());
        let offer = store.offer(live.token().window.terminal, self.now).await?;
        let offer = offer.ok_or(ProblemType::TerminalRefused)?;
        let terms = Terms::of(&offer, self.now)?;
        if agreed.payee != offer.payee.id {
            return Err(ProblemType::PayeeDiffers.into());
        }
        if !terms.take(agreed.amount) {
            return Err(ProblemType::AmountDiffers.into());
        }
        let person = self.holder.signed_in.person().clone();
        let accounts = store.service_accounts(person).await?;
        let currency = agreed.amount.currency();
        let pays = |it: &&_| is_one(it, agreed.account, currency);
        accounts.iter().find(pays).ok_or(ProblemType::NoAccount)?;
        Ok(())
    }

    async fn approve(&self, own: OwnClaim) -> Result<Paid, Failure> {
        let agreed = self.agreed.claims();
        let request = ApprovalRequest {
            amount: agreed.amount,
            payee: agreed.payee,
            account: Some(agreed.account),
            assertion: None,
        };
        let (approvals, signed_in) = (&self.journey.approvals, &self.holder.signed_in);
        let answered = approvals.approve_signed(own, signed_in, &request, self.now);
        let store = &self.journey.app.store;
        match answered.await? {
            Answered::Receipt(_) => {
                let payment = answered_now(self.journey, self.claim).await?;
                Ok(Paid::Now(payment))
            }
            Answered::Pending(payment) => {
                let intent = store.intent(payment).await?;
                let intent = intent.ok_or(ProblemType::Internal)?;
                Ok(Paid::Pending(unpaid(&intent)))
            }
        }
    }

    /// The token is spent and nothing is paid: the terminal asks again at once.
    async fn release(&self, refused: Failure) -> Failure {
        match self.give_up().await {
            Ok(true) => told(refused),
            Ok(false) => running(),
            Err(error) => {
                tracing::warn!(%error, "a claim is released when its time is over");
                refused
            }
        }
    }

    /// False if the claim is in the hands of another attempt, or paid.
    async fn give_up(&self) -> Result<bool, Failure> {
        let (app, now) = (&self.journey.app, self.now);
        let Some(own) = self.own_claim().await? else {
            return Ok(true);
        };
        let terminal = own.record().claimed.terminal;
        let keys = &self.journey.epoch_keys;
        let moved = keys.moved(terminal, now, TurnCause::ClaimReleased).await?;
        let released = app.store.release_claim(self.claim, moved, now).await?;
        self.journey.push.changed(terminal);
        Ok(released)
    }
}

async fn answered_now(journey: &Journey, claim: ClaimId) -> Result<WalletPayment, Failure> {
    let payment = answered(journey, claim).await?;
    payment.ok_or_else(|| ProblemType::Internal.into())
}

fn is_one(
    account: &crate::store::ServiceAccount,
    wanted: protocol::ids::AccountId,
    currency: protocol::money::Currency,
) -> bool {
    account.id == wanted && account.currency == currency
}

impl Terms {
    fn take(&self, amount: Money) -> bool {
        match (self.kind, self.amount, self.cap) {
            (ChargeKind::Open, None, Some(cap)) => {
                amount.currency() == cap.currency() && amount.amount_minor() <= cap.amount_minor()
            }
            (_, asked, _) => asked == Some(amount),
        }
    }
}

/// What asking again would not change.
fn is_final(refused: &Failure) -> bool {
    match refused {
        Failure::Refused(problem) => {
            let silent = problem.problem_type() == Some(ProblemType::RailSilent);
            silent || (problem.status < 500 && problem.retry_after_s.is_none())
        }
        _ => false,
    }
}

fn end_of(refused: &Failure) -> RequestEnd {
    match refused {
        Failure::Refused(problem) if is_final(refused) => RequestEnd::Refused {
            status: problem.status,
            body: serde_json::to_vec(problem).expect("a problem is strings and numbers"),
        },
        _ => RequestEnd::Open,
    }
}

/// In words that the wallet can act on.
fn told(refused: Failure) -> Failure {
    let Failure::Refused(problem) = refused else {
        return refused;
    };
    let before = problem.detail.as_deref().map(|it| format!("{it}; "));
    let detail = format!(
        "{}nothing was paid, and the terminal asks again: tap or scan once more",
        before.unwrap_or_default()
    );
    problem.with_detail(detail).into()
}
