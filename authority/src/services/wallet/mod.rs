//! What may a wallet see, and how does it pay in one call?
//!
//! ```text
//!  view ──▶ what a claim would hold now, and the accounts that could pay it; spends nothing
//!  pay  ──▶ request (by its name, once) ─▶ approval (JWS) ─▶ token ─▶ claim + evidence ─▶ approve
//! ```
//! A wallet is known by its key: whoever asks here proved to hold the one that the access token is bound
//! to.

mod approval;
mod pay;

use std::sync::Arc;

use protocol::charge::ChargeKind;
use protocol::dpop::Thumbprint;
use protocol::ids::PaymentId;
use protocol::money::Currency;
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};
use protocol::wire::wallet::{
    IDEMPOTENCY_MS, PaymentState, WalletAccount, WalletAccounts, WalletPayment, WalletView,
};

use super::journey::Journey;
use super::pieces::{PIECES_MAX, in_pieces};
use super::sign_in::{SignedIn, WalletKey};
use super::{Failure, seconds};
use crate::app::App;
use crate::store::{Asked, Chore, Intent, IntentState, Offer, Payment, ServiceAccount};

pub use pay::{Paid, Pay};

/// How long one attempt has a request to itself; longer than any part of it may take.
const ATTEMPT_MS: Millis = 60_000;
/// When to ask again about a request that somebody is at work on, in seconds.
const RUNNING_RETRY_S: u32 = 1;
/// Requests forgotten at a time.
const FORGET_BATCH: u32 = 4_096;

/// A shopper with a wallet that proved to hold its key. Only [`Holder::of`] makes one.
#[derive(Debug, Clone)]
pub struct Holder {
    signed_in: SignedIn,
    key: WalletKey,
}

impl Holder {
    /// Whoever sends an access token that is bound to no key pays as browsers do.
    pub fn of(signed_in: SignedIn) -> Result<Self, Failure> {
        let key = signed_in.key().cloned().ok_or_else(|| {
            Problem::new(ProblemType::SignInRefused)
                .with_detail("an access token that is bound to a key is needed here")
        })?;
        Ok(Self { signed_in, key })
    }

    fn thumbprint(&self) -> Thumbprint {
        self.key.thumbprint()
    }
}

/// Refused as a payment with this token would be, a wrong typed code counted as a miss.
pub async fn view(
    journey: &Journey,
    holder: &Holder,
    token: &str,
    now: Timestamp,
) -> Result<WalletView, Failure> {
    let signed_in = &holder.signed_in;
    let claims = &journey.claims;
    let good = claims.recognised(token, signed_in, now).await?;
    claims.check_tap(&good, now).await?;
    let live = good.live;
    let window = live.token().window;
    let offer = journey.app.store.offer(window.terminal, now).await?;
    let offer = offer.ok_or(ProblemType::TerminalRefused)?;
    let terms = Terms::of(&offer, now)?;
    let currency = terms.currency();
    let mut accounts = accounts(&journey.app, holder).await?.accounts;
    accounts.retain(|account| Some(account.currency) == currency);
    Ok(WalletView {
        terminal: window.terminal,
        channel: window.channel,
        payee: offer.payee,
        kind: terms.kind,
        amount: terms.amount,
        cap: terms.cap,
        reference: terms.reference,
        accounts,
    })
}

/// The shopper's accounts, the one that is offered first in front.
pub async fn accounts(app: &App, holder: &Holder) -> Result<WalletAccounts, Failure> {
    let person = holder.signed_in.person().clone();
    let accounts = app.store.service_accounts(person).await?;
    let shown = |account: ServiceAccount| WalletAccount {
        account: account.id,
        name: account.name,
        rail: account.rail,
        currency: account.currency,
    };
    Ok(WalletAccounts {
        accounts: accounts.into_iter().map(shown).collect(),
    })
}

/// How a payment of this shopper stands, from whichever phone.
pub async fn payment(app: &App, holder: &Holder, id: PaymentId) -> Result<WalletPayment, Failure> {
    let person = || holder.signed_in.person().clone();
    if let Some(payment) = app.store.payment_by(id, person()).await? {
        let receipt = payment.receipt_jws.clone();
        return Ok(paid(&payment, receipt));
    }
    let unknown = ProblemType::PaymentUnknown;
    if !app.store.is_intent_of(id, person()).await? {
        return Err(unknown.into());
    }
    let intent = app.store.intent(id).await?.ok_or(unknown)?;
    Ok(unpaid(&intent))
}

/// Forgets requests that nobody may repeat any more; answers how many.
pub async fn forget(app: &App, now: Timestamp) -> Result<usize, Failure> {
    let before = now - IDEMPOTENCY_MS;
    let piece = || app.store.forget_wallet_requests(before, FORGET_BATCH);
    let whole = FORGET_BATCH as usize;
    in_pieces(app, Chore::Forgetting, PIECES_MAX, whole, piece).await
}

fn paid(payment: &Payment, receipt: Option<String>) -> WalletPayment {
    WalletPayment {
        payment: payment.id,
        state: PaymentState::Paid,
        amount: payment.approved.amount(),
        payee: payment.approved.claimed().payee,
        account: payment.service_account,
        paid_at: Some(payment.paid_at),
        receipt_id: Some(payment.receipt),
        receipt,
    }
}

fn unpaid(intent: &Intent) -> WalletPayment {
    WalletPayment {
        payment: intent.payment,
        state: match intent.state {
            // Paid a moment ago: the next look finds the payment.
            IntentState::Authorising | IntentState::Capturing | IntentState::Paid => {
                PaymentState::Pending
            }
            IntentState::Declined => PaymentState::Declined,
            IntentState::Reversing | IntentState::Reversed => PaymentState::Reversed,
        },
        amount: intent.approved.amount(),
        payee: intent.approved.claimed().payee,
        account: intent.service_account,
        paid_at: None,
        receipt_id: None,
        receipt: None,
    }
}

/// What a claim would hold.
struct Terms {
    kind: ChargeKind,
    amount: Option<protocol::money::Money>,
    cap: Option<protocol::money::Money>,
    reference: Option<String>,
}

impl Terms {
    fn of(offer: &Offer, now: Timestamp) -> Result<Self, Failure> {
        let terms = |kind, amount, cap, reference| Self {
            kind,
            amount,
            cap,
            reference,
        };
        match &offer.asked {
            Asked::Nothing => Err(ProblemType::NothingToPay.into()),
            Asked::Held { until } => {
                let held = Problem::new(ProblemType::ChargeHeld);
                Err(held.with_retry_after(seconds(*until - now)).into())
            }
            Asked::Till { amount, reference } => {
                let reference = reference.clone();
                Ok(terms(ChargeKind::Till, Some(*amount), None, reference))
            }
            Asked::Fixed(amount) => Ok(terms(ChargeKind::Fixed, Some(*amount), None, None)),
            Asked::Open { cap } => Ok(terms(ChargeKind::Open, None, Some(*cap), None)),
        }
    }

    fn currency(&self) -> Option<Currency> {
        let money = self.amount.or(self.cap);
        money.map(protocol::money::Money::currency)
    }
}

/// Carries a payment out to its end, whoever still listens.
pub async fn pay(
    journey: &Arc<Journey>,
    holder: &Holder,
    pay: &Pay<'_>,
    now: Timestamp,
) -> Result<Paid, Failure> {
    pay::carry_out(journey, holder, pay, now).await
}
