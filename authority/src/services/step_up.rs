//! Has the shopper confirmed exactly this payment, or is being signed in all there is?
//!
//! ```text
//! options: claim, amount, payee, account, nonce ─▶ challenge, stored ─▶ phone ─▶ passkey
//! approval: assertion ─▶ challenge still open? made over this payment? signed? ─▶ Strength ─▶ store.pay
//! ```
//! Whether that strength is enough is judged inside the payment's transaction, where the challenge is used
//! up as well.

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::charge::{Approval, Approved};
use protocol::ids::ClaimId;
use protocol::problem::{Problem, ProblemType};
use protocol::step_up::{CHALLENGE_LIFE_MS, Confirmable};
use protocol::time::Timestamp;
use protocol::wire::claims::{ApprovalRequest, ClaimState};
use protocol::wire::passkeys::{Assertion, ConfirmOptions, Descriptor, RequestOptions};

use super::passkeys::webauthn::{self, Bad, Brought, RelyingParty, Signed};
use super::phone::PhoneCookie;
use super::sign_in::{By, SignedIn};
use super::{Failure, approvals, phone, seconds};
use crate::app::App;
use crate::ids;
use crate::store::{
    About, Barred, Challenge, Confirmation, Limit, Passkey, SpendRules, StepUpCause, Strength,
};

/// How long a phone may take to sign, in milliseconds: as long as the challenge is good.
pub(super) const TIMEOUT_MS: u32 = CHALLENGE_LIFE_MS as u32;

/// Challenges for payments, and what phones answer to them.
pub struct StepUp {
    app: Arc<App>,
    party: RelyingParty,
}

impl StepUp {
    pub fn new(app: Arc<App>) -> Self {
        let party = RelyingParty::of_host(app.config.public.link_host.as_str());
        Self { app, party }
    }

    /// What a passkey of this shopper would have to sign for this approval.
    pub async fn options(
        &self,
        claim: ClaimId,
        cookie: Option<&PhoneCookie>,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<ConfirmOptions, Failure> {
        crate::logging::follow_claim(claim);
        let own = phone::find(&*self.app.store, claim, cookie).await?;
        let record = own.record();
        if record.state != ClaimState::Held {
            return Err(ProblemType::ClaimOver.into());
        }
        let approval = Approval {
            amount: request.amount,
            payee: request.payee,
        };
        let approved = record.claimed.clone().approve(&approval, now);
        let approved = approved.map_err(|refusal| Failure::from(approvals::problem_of(refusal)))?;
        let passkeys = self.passkeys(signed_in).await?;
        let challenge = self.challenge(&approved, signed_in, request, now).await?;
        Ok(ConfirmOptions {
            public_key: RequestOptions {
                challenge: b64(&challenge),
                timeout: TIMEOUT_MS,
                rp_id: self.party.id().into(),
                allow_credentials: passkeys.iter().map(|it| descriptor(&it.id)).collect(),
                user_verification: "required".into(),
            },
        })
    }

    /// Whether the shopper was strongly authenticated just now: then what their wallet's key signs covers
    /// the payment.
    pub fn is_strong_and_young(signed_in: &SignedIn, now: Timestamp) -> bool {
        signed_in.strong() && signed_in.is_fresh(now)
    }

    /// How strongly the shopper of this payment is known. An assertion that is not good is refused; one
    /// whose challenge is used or over counts for nothing.
    pub async fn strength(
        &self,
        approved: &Approved,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<Strength, Failure> {
        let without = match signed_in.by() {
            By::Phone => Strength::Reply,
            By::Session(_) | By::AccessToken if signed_in.strong() => {
                Strength::StrongSignIn(signed_in.authenticated_at())
            }
            By::Session(_) | By::AccessToken => Strength::SignedIn,
        };
        let Some(assertion) = &request.assertion else {
            return Ok(without);
        };
        let confirmed = self.confirm(approved, signed_in, assertion, now).await;
        let outcome = match &confirmed {
            Ok(None) => "over",
            confirmed => super::outcome(confirmed, "good"),
        };
        let counter = &self.app.metrics.step_ups;
        counter.with_label_values(&[outcome]).inc();
        let confirmation = confirmed?;
        Ok(confirmation.map_or(without, |it| Strength::Passkey(Box::new(it))))
    }

    /// The rules of this payment's currency.
    pub fn rules(&self, approved: &Approved) -> SpendRules {
        self.app.config.spending.rules(approved.amount().currency())
    }

    /// A passkey may have been copied: told to whoever watches.
    pub async fn note_if_regressed(
        &self,
        signed_in: &SignedIn,
        strength: &Strength,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Strength::Passkey(confirmation) = strength else {
            return Ok(());
        };
        let (store, person) = (&self.app.store, signed_in.person());
        let (id, shown) = (confirmation.passkey.clone(), confirmation.counter);
        let known = store.passkey(person.clone(), id.clone()).await?;
        if known.is_none_or(|known| shown > known.counter) {
            return Ok(());
        }
        store
            .note_regression(person.clone(), id, shown, now)
            .await?;
        self.app.metrics.passkey_alarms.inc();
        tracing::warn!(
            shown,
            "the counter of a passkey went back: there may be two of it"
        );
        Ok(())
    }

    async fn passkeys(&self, signed_in: &SignedIn) -> Result<Vec<Passkey>, Failure> {
        let found = self.app.store.passkeys(signed_in.person().clone()).await?;
        match found.map(|it| it.passkeys) {
            Some(passkeys) if !passkeys.is_empty() => Ok(passkeys),
            _ => Err(Problem::new(ProblemType::StepUpNeeded)
                .with_detail("this profile has no passkey yet: add one first")
                .into()),
        }
    }

    async fn challenge(
        &self,
        approved: &Approved,
        signed_in: &SignedIn,
        request: &ApprovalRequest,
        now: Timestamp,
    ) -> Result<[u8; 32], Failure> {
        let (store, person) = (&self.app.store, signed_in.person().clone());
        let (claimed, amount) = (approved.claimed(), approved.amount());
        let account = store.account_to_pay(person.clone(), request.account, amount.currency());
        let account = account.await?.ok_or(ProblemType::NoAccount)?;
        let confirmable = Confirmable {
            claim: claimed.claim,
            amount,
            payee: claimed.payee,
            account,
            nonce: ids::random(),
        };
        let challenge = Challenge {
            challenge: confirmable.challenge(),
            nonce: confirmable.nonce,
            about: About::Payment {
                claim: claimed.claim,
                amount_minor: amount.amount_minor(),
                account,
            },
            ends_at: now + CHALLENGE_LIFE_MS,
        };
        store.add_challenge(person, challenge, now).await?;
        Ok(confirmable.challenge())
    }

    async fn confirm(
        &self,
        approved: &Approved,
        signed_in: &SignedIn,
        assertion: &Assertion,
        now: Timestamp,
    ) -> Result<Option<Confirmation>, Failure> {
        let (id, brought) = read(assertion)?;
        let answered = webauthn::challenge_in(&brought.client_data).map_err(refused)?;
        let (store, person) = (&self.app.store, signed_in.person());
        let Some(open) = store.challenge(person.clone(), answered, now).await? else {
            return Ok(None);
        };
        let challenge = made_over(approved, &open).ok_or_else(|| refused(Bad::Challenge))?;
        let passkey = store.passkey(person.clone(), id).await?;
        let passkey = passkey.ok_or_else(|| refused(Bad::Key))?;
        let signed = webauthn::verify(&self.party, &challenge, &passkey.public_point, brought);
        let signed = signed.map_err(refused)?;
        Ok(Some(confirmation(challenge, passkey.id, signed)))
    }
}

/// The challenge again, from the payment that is approved: never the stored one as it is.
fn made_over(approved: &Approved, open: &Challenge) -> Option<[u8; 32]> {
    let About::Payment { account, .. } = open.about else {
        return None;
    };
    let claimed = approved.claimed();
    let confirmable = Confirmable {
        claim: claimed.claim,
        amount: approved.amount(),
        payee: claimed.payee,
        account,
        nonce: open.nonce,
    };
    Some(confirmable.challenge()).filter(|it| *it == open.challenge)
}

fn confirmation(challenge: [u8; 32], passkey: Vec<u8>, signed: Signed) -> Confirmation {
    Confirmation {
        challenge,
        passkey,
        counter: signed.counter,
        authenticator_data: signed.brought.authenticator_data,
        client_data: signed.brought.client_data,
        signature: signed.brought.signature,
    }
}

fn read(assertion: &Assertion) -> Result<(Vec<u8>, Brought), Failure> {
    let brought = Brought {
        authenticator_data: unb64(&assertion.authenticator_data)?,
        client_data: unb64(&assertion.client_data)?,
        signature: unb64(&assertion.signature)?,
    };
    Ok((unb64(&assertion.passkey)?, brought))
}

fn refused(bad: Bad) -> Failure {
    Problem::new(ProblemType::StepUpRefused)
        .with_detail(bad)
        .into()
}

/// Why nothing is paid, in the words of a refusal.
pub(super) fn problem_of(barred: Barred, now: Timestamp) -> Problem {
    match barred {
        Barred::Locked => Problem::new(ProblemType::ProfileLocked),
        Barred::Limit { which, until } => {
            let problem = Problem::new(ProblemType::LimitReached).with_detail(which);
            match until {
                Some(until) => problem.with_retry_after(seconds(until - now)),
                None => problem,
            }
        }
        Barred::StepUp(cause) => Problem::new(ProblemType::StepUpNeeded).with_detail(cause),
        Barred::ChallengeOver => {
            Problem::new(ProblemType::StepUpRefused).with_detail("its challenge is over")
        }
        Barred::PasskeyRefused => Problem::new(ProblemType::StepUpRefused)
            .with_detail("this passkey is not good any more"),
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OwnEach => "your own limit for one payment",
            Self::OwnDay => "your own limit for a day",
            Self::ShopperDay => "the limit of a shopper for a day",
            Self::MerchantDay => "the limit of this merchant for a day",
        })
    }
}

impl std::fmt::Display for StepUpCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Currency => "every payment in this currency does",
            Self::Each => "it is more than goes without in one payment",
            Self::InAll => "with it, more would be paid than goes without since the last one",
            Self::Payments => {
                "with it, there would be more payments than go without since the last one"
            }
        })
    }
}

pub(super) fn descriptor(id: &[u8]) -> Descriptor {
    Descriptor {
        kind: "public-key".into(),
        id: b64(id),
    }
}

pub(super) fn b64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

pub(super) fn unb64(text: &str) -> Result<Vec<u8>, Failure> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| {
        Problem::new(ProblemType::MalformedRequest)
            .with_detail("a passkey speaks base64url without padding")
            .into()
    })
}
