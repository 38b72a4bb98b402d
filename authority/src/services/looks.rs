//! Who would be paid, what is asked, and how far is it? Looking spends nothing.
//!
//! Links are opened by previews and by robots as well as by people, so a look changes nothing and counts
//! nothing: a token from a tag or a QR code cannot be guessed. A typed code can, and is never looked at.

use std::sync::Arc;

use protocol::charge::ChargeKind;
use protocol::ids::{ClaimId, TerminalId};
use protocol::live::recall;
use protocol::money::Money;
use protocol::presented::Presented;
use protocol::problem::ProblemType;
use protocol::receipt::Payee;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::wire::claims::ClaimView;

use super::claims::{Claims, Good, NewClaim, malformed_token, tap_refused, view_of};
use super::phone::{self, PhoneCookie};
use super::sign_in::SignedIn;
use super::{Failure, seconds};
use crate::ids;
use crate::store::{Asked, IntentState, Payment, Reason};

/// What a claim of this token would hold now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub terminal: TerminalId,
    /// Where it stands, in the merchant's words.
    pub terminal_name: String,
    pub payee: Payee,
    pub kind: ChargeKind,
    /// None for an open charge.
    pub amount: Option<Money>,
    /// The most an open charge may be.
    pub cap: Option<Money>,
    pub reference: Option<String>,
    /// Whether the terminal hears us, so that its screen can say "paid".
    pub connected: bool,
}

/// A claim of this phone, and how far it is.
#[derive(Debug, Clone)]
pub struct Paying {
    pub view: ClaimView,
    /// Once it is paid.
    pub payment: Option<Arc<Payment>>,
    /// Why the account that was asked last did not pay.
    pub declined: Option<Reason>,
}

/// What a browser has to show for a token.
pub struct Own<'a> {
    /// Its own for this token.
    pub secret: [u8; 32],
    /// Of the claim it made last.
    pub claim: Option<&'a PhoneCookie>,
}

impl Claims {
    /// Refused as a claim of the same link would be.
    pub async fn look(&self, text: &str, now: Timestamp) -> Result<Look, Failure> {
        let presented = Presented::parse(text).map_err(|it| malformed_token(&it))?;
        if let Presented::Typed(_) = presented {
            return Err(ProblemType::SignInNeeded.into());
        }
        let good = self.machine(&presented, now).await?;
        let terminal = presented.terminal();
        self.check_tap(&good, now).await?;
        let offer = self.app.store.offer(terminal, now).await?;
        let offer = offer.ok_or(ProblemType::TerminalRefused)?;
        let (kind, amount, cap, reference) = match offer.asked {
            Asked::Nothing => return Err(ProblemType::NothingToPay.into()),
            Asked::Held { until } => return Err(held(until, now)),
            Asked::Till { amount, reference } => (ChargeKind::Till, Some(amount), None, reference),
            Asked::Fixed(amount) => (ChargeKind::Fixed, Some(amount), None, None),
            Asked::Open { cap } => (ChargeKind::Open, None, Some(cap), None),
        };
        Ok(Look {
            terminal,
            terminal_name: offer.terminal_name,
            payee: offer.payee,
            kind,
            amount,
            cap,
            reference,
            connected: self.push.hears(terminal),
        })
    }

    /// What a claim finds out in its own transaction.
    pub(super) async fn check_tap(&self, good: &Good, now: Timestamp) -> Result<(), Failure> {
        let window = good.live.token().window;
        if window.channel != Channel::Nfc {
            return Ok(());
        }
        let store = &self.app.store;
        match store.tap_refusal(window.terminal, good.tap).await? {
            Some(refusal) => Err(tap_refused(refusal, &good.live, now).into()),
            None => Ok(()),
        }
    }

    /// Claims for a browser: the same token from the same browser again is the same claim, because people
    /// press twice, and the answer to the first press may never arrive.
    pub async fn claim_once(
        &self,
        text: &str,
        own: &Own<'_>,
        signed_in: Option<&SignedIn>,
        now: Timestamp,
    ) -> Result<NewClaim, Failure> {
        let cookie = PhoneCookie::of(ids::fresh(now, ClaimId::from_parts), own.secret);
        let claimed = self.claim_as(cookie, text, signed_in, now).await;
        let Err(refused) = claimed else {
            return claimed;
        };
        let problem = refused.kind().problem_type();
        if problem == Some(ProblemType::TokenSpent)
            && let Some(earlier) = self.earlier(text, own, now).await?
        {
            return Ok(earlier);
        }
        Err(refused)
    }

    /// The claim that this browser made with this token before.
    pub async fn earlier(
        &self,
        text: &str,
        own: &Own<'_>,
        now: Timestamp,
    ) -> Result<Option<NewClaim>, Failure> {
        let Ok(presented) = Presented::parse(text) else {
            return Ok(None);
        };
        let loaded = self.epoch_keys.present(presented.terminal(), now).await?;
        let candidates = self.candidates(&presented, now, &loaded).await?;
        let Some(token) = recall(&presented, &candidates) else {
            return Ok(None);
        };
        let Some(claim) = self.app.store.spender(token).await? else {
            return Ok(None);
        };
        // A sign-in since then has given the browser another secret, but not another claim.
        for cookie in [Some(PhoneCookie::of(claim, own.secret)), own.claim.cloned()] {
            let found = phone::find(&*self.app.store, claim, cookie.as_ref()).await;
            if let (Ok(own), Some(cookie)) = (found, cookie) {
                let view = view_of(own.record(), now);
                return Ok(Some(NewClaim { view, cookie }));
            }
        }
        Ok(None)
    }

    /// How far the claim of this phone is.
    pub async fn paying(
        &self,
        claim: ClaimId,
        cookie: Option<&PhoneCookie>,
        now: Timestamp,
    ) -> Result<Paying, Failure> {
        let view = self.view(claim, cookie, now).await?;
        let payment = self.app.store.payment_of(claim).await?;
        let declined = match payment {
            None => self.declined(claim).await?,
            Some(_) => None,
        };
        Ok(Paying {
            view,
            payment: payment.map(Arc::new),
            declined,
        })
    }

    async fn declined(&self, claim: ClaimId) -> Result<Option<Reason>, Failure> {
        let intents = self.app.store.intents_of(claim).await?;
        let last = intents.into_iter().last();
        Ok(last.and_then(|intent| match intent.state {
            IntentState::Declined | IntentState::Reversing | IntentState::Reversed => {
                Some(intent.reason.unwrap_or(Reason::Refused))
            }
            IntentState::Authorising | IntentState::Capturing | IntentState::Paid => None,
        }))
    }
}

/// Whoever waits learns for how long at most.
fn held(until: Timestamp, now: Timestamp) -> Failure {
    protocol::problem::Problem::new(ProblemType::ChargeHeld)
        .with_retry_after(seconds(until - now))
        .into()
}
