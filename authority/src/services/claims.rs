//! May this phone have the charge?
//!
//! ```text
//! text ─▶ Presented ─▶ limiter (typed) ─▶ terminal ─▶ keys ─▶ turns ─▶ Live ─▶ tap (signed) ─▶ store.claim
//! ```
//! The database is the judge: whatever passes here is spent in its transaction or not at all.

use std::sync::Arc;

use protocol::charge::{HOLD_MS, HOLD_SIGNED_IN_MS, Mark};
use protocol::ids::{ChargeId, ClaimId};
use protocol::live::{
    Candidate, Live, LoadedEpoch, Refusal, candidates, channels_of, explain, recognise,
};
use protocol::presented::{Malformed, Presented};
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::Payee;
use protocol::sun::SunLink;
use protocol::time::Timestamp;
use protocol::turn::TurnCause;
use protocol::wire::claims::{ClaimState, ClaimView};

use super::epoch_keys::EpochKeys;
use super::limiter::{self, Overall, PERSON_SPAN_MS, Turnstiles};
use super::phone::{OwnClaim, PhoneCookie};
use super::push::Push;
use super::sign_in::SignedIn;
use super::unproven::Unproven;
use super::{Failure, phone, seconds, taps};
use crate::app::App;
use crate::clock::Stopwatch;
use crate::ids;
use crate::store::{Claim, ClaimOutcome, ClaimRecord, KeyedTap, TapRefusal};

/// Turns tokens into claims.
pub struct Claims {
    pub(super) app: Arc<App>,
    pub(super) epoch_keys: Arc<EpochKeys>,
    pub(super) push: Arc<Push>,
    turnstiles: Turnstiles,
    overall: Overall,
    unproven: Unproven,
}

/// What a claim answers: what the phone shows, and what it keeps.
#[derive(Debug, Clone)]
pub struct NewClaim {
    pub view: ClaimView,
    pub cookie: PhoneCookie,
}

/// A token that is good now, and the tap that its link proves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Good {
    pub live: Live,
    /// None of a QR code, of a typed code, and of a tag that does not sign.
    pub tap: Option<KeyedTap>,
}

impl Claims {
    pub fn new(app: Arc<App>, epoch_keys: Arc<EpochKeys>, push: Arc<Push>) -> Self {
        Self {
            app,
            epoch_keys,
            push,
            turnstiles: Turnstiles::default(),
            overall: Overall::default(),
            unproven: Unproven::default(),
        }
    }

    /// Spends the token and holds the charge. A typed code needs to know who types.
    pub async fn claim(
        &self,
        text: &str,
        signed_in: Option<&SignedIn>,
        now: Timestamp,
    ) -> Result<NewClaim, Failure> {
        let cookie = PhoneCookie::generate(ids::fresh(now, ClaimId::from_parts));
        self.claim_as(cookie, text, signed_in, now).await
    }

    /// The same for a phone whose claim and cookie are chosen already.
    pub async fn claim_as(
        &self,
        cookie: PhoneCookie,
        text: &str,
        signed_in: Option<&SignedIn>,
        now: Timestamp,
    ) -> Result<NewClaim, Failure> {
        let presented = Presented::parse(text);
        let claimed = match &presented {
            Ok(presented) => self.judge(cookie, presented, signed_in, now).await,
            Err(malformed) => Err(malformed_token(malformed)),
        };
        let by = match &claimed {
            Ok(claim) => claim.view.channel.name(),
            Err(_) => presented.map_or("unread", |it| family(&it)),
        };
        let outcome = super::outcome(&claimed, "claimed");
        let counter = &self.app.metrics.claims;
        counter.with_label_values(&[by, outcome]).inc();
        claimed
    }

    /// What the phone shows of its claim now.
    pub async fn view(
        &self,
        claim: ClaimId,
        cookie: Option<&PhoneCookie>,
        now: Timestamp,
    ) -> Result<ClaimView, Failure> {
        let own: OwnClaim = phone::find(&*self.app.store, claim, cookie).await?;
        Ok(view_of(own.record(), now))
    }

    /// Which token this is, refused as a claim of it would be: a typed code that is wrong counts as a
    /// miss. Spends nothing.
    pub(super) async fn recognised(
        &self,
        text: &str,
        signed_in: &SignedIn,
        now: Timestamp,
    ) -> Result<Good, Failure> {
        let presented = Presented::parse(text).map_err(|it| malformed_token(&it))?;
        match &presented {
            Presented::Machine { .. } | Presented::Signed(_) => self.machine(&presented, now).await,
            Presented::Typed(_) => self.typed(&presented, signed_in, now).await,
        }
    }

    /// Lets go what a claim holds, at its phone's own wish; over or paid, it stays as it is.
    pub async fn release(&self, claim: ClaimId, now: Timestamp) -> Result<(), Failure> {
        let record = self.app.store.claim_record(claim).await?;
        let Some(record) = record.filter(|it| it.state == ClaimState::Held && !it.paying) else {
            return Ok(());
        };
        let (terminal, cause) = (record.claimed.terminal, TurnCause::ClaimReleased);
        let moved = self.epoch_keys.moved(terminal, now, cause).await?;
        if self.app.store.release_claim(claim, moved, now).await? {
            tracing::info!(%terminal, "claim released by its phone");
        }
        self.push.changed(terminal);
        Ok(())
    }

    async fn judge(
        &self,
        cookie: PhoneCookie,
        presented: &Presented,
        signed_in: Option<&SignedIn>,
        now: Timestamp,
    ) -> Result<NewClaim, Failure> {
        let good = match presented {
            Presented::Machine { .. } | Presented::Signed(_) => {
                self.machine(presented, now).await?
            }
            Presented::Typed(_) => {
                let signed_in = signed_in.ok_or(ProblemType::SignInNeeded)?;
                self.typed(presented, signed_in, now).await?
            }
        };
        crate::logging::follow_claim(cookie.claim());
        self.hold(cookie, good, signed_in, now).await
    }

    /// The token first: whoever has none that is good now costs the HSM nothing, and whoever has one costs it
    /// [`super::unproven::UNPROVEN_MAX`] macs that do not hold in a window.
    pub(super) async fn machine(
        &self,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<Good, Failure> {
        let terminal = presented.terminal();
        let loaded = self.epoch_keys.of_active(terminal, now).await?;
        let candidates = self.candidates(presented, now, &loaded).await?;
        let live = recognise(presented, &candidates).map_err(|refusal| match refusal {
            Refusal::Spent => spent(spent_until(presented, &candidates), now).into(),
            Refusal::Passed | Refusal::Unknown => {
                Failure::from(self.explain(presented, now, &loaded))
            }
        })?;
        let tap = match presented.signed() {
            Some(link) => Some(self.proved(link, &live, now).await?),
            None => None,
        };
        Ok(Good { live, tap })
    }

    /// A passer-by with a good token makes the HSM work so often and no more.
    async fn proved(
        &self,
        link: &SunLink,
        live: &Live,
        now: Timestamp,
    ) -> Result<KeyedTap, Failure> {
        self.unproven.begin(live, now)?;
        let proved = taps::prove(&self.app, link).await;
        let missed = |why: &Failure| why.kind().problem_type() == Some(ProblemType::TagRefused);
        if !proved.as_ref().is_err_and(missed) {
            self.unproven.take_back(live);
        }
        proved
    }

    /// The limiter comes before any look-up, and one guess is judged at a time.
    async fn typed(
        &self,
        presented: &Presented,
        signed_in: &SignedIn,
        now: Timestamp,
    ) -> Result<Good, Failure> {
        let (person, terminal) = (signed_in.person(), presented.terminal());
        let since = now - PERSON_SPAN_MS;
        let _pass = self.turnstiles.pass(person, terminal).await;
        let nowhere = limiter::no_window(terminal, now);
        let store = &self.app.store;
        let misses = store.misses(person.clone(), nowhere, since).await?;
        limiter::judge(misses).map_err(|limited| limited.problem(now, now))?;
        let loaded = match self.epoch_keys.of_active(terminal, now).await {
            Ok(loaded) => loaded,
            Err(refused) => {
                if is_of_terminal(&refused) {
                    self.miss(signed_in, nowhere, now).await?;
                }
                return Err(refused);
            }
        };
        let candidates = self.candidates(presented, now, &loaded).await?;
        let current = candidates.iter().find(|it| it.window.contains(now));
        let window = current.map_or(nowhere, |it| it.id);
        let closes = current.map_or(now, |it| it.window.closes);
        let misses = store.misses(person.clone(), window, since).await?;
        limiter::judge(misses).map_err(|limited| limited.problem(now, closes))?;
        match recognise(presented, &candidates) {
            Ok(live) => Ok(Good { live, tap: None }),
            Err(refusal) => {
                self.miss(signed_in, window, now).await?;
                Err(match refusal {
                    Refusal::Spent => spent(spent_until(presented, &candidates), now).into(),
                    Refusal::Passed | Refusal::Unknown => ProblemType::TokenUnknown.into(),
                })
            }
        }
    }

    async fn miss(
        &self,
        signed_in: &SignedIn,
        window: protocol::token::WindowId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let (store, person) = (&self.app.store, signed_in.person().clone());
        let since = now - PERSON_SPAN_MS;
        let misses = store.add_miss(person, window, since, now).await?;
        self.app.metrics.code_misses.inc();
        if self.overall.miss(now) {
            self.app.metrics.guessing_alarms.inc();
            let in_a_minute = limiter::OVERALL_ALARM;
            tracing::warn!(in_a_minute, "many typed codes miss: somebody guesses");
        }
        tracing::info!(terminal = %window.terminal, of_person = misses.person,
            in_window = misses.window, "a typed code missed");
        Ok(())
    }

    /// The windows this token can be of, with the turns the database holds.
    pub(super) async fn candidates<'a>(
        &self,
        presented: &Presented,
        now: Timestamp,
        loaded: &'a [LoadedEpoch],
    ) -> Result<Vec<Candidate<'a>>, Failure> {
        let channels = channels_of(presented);
        let mut found = candidates(presented.terminal(), now, loaded, channels);
        let windows = found.iter().map(|candidate| candidate.id).collect();
        let turns = self.app.store.turns(windows).await?;
        for (candidate, turn) in found.iter_mut().zip(turns) {
            candidate.turn = turn;
        }
        Ok(found)
    }

    fn explain(&self, presented: &Presented, now: Timestamp, loaded: &[LoadedEpoch]) -> Problem {
        match explain(presented, now, loaded) {
            Refusal::Passed => Problem::new(ProblemType::TokenPassed),
            Refusal::Spent | Refusal::Unknown => Problem::new(ProblemType::TokenUnknown),
        }
    }

    async fn hold(
        &self,
        cookie: PhoneCookie,
        good: Good,
        signed_in: Option<&SignedIn>,
        now: Timestamp,
    ) -> Result<NewClaim, Failure> {
        let hold_ms = signed_in.map_or(HOLD_MS, |_| HOLD_SIGNED_IN_MS);
        let claim = Claim {
            id: cookie.claim(),
            live: good.live,
            tap: good.tap,
            phone: cookie.hash(),
            person: signed_in.map(|it| it.person().clone()),
            held_max: self.app.config.spending.traffic.claims_per_shopper,
            mark: Mark::from_random(ids::random()),
            at: now,
            held_until: now + hold_ms,
            idle_charge: ids::fresh(now, ChargeId::from_parts),
            approval: None,
        };
        let record = self.spend(claim, now).await?;
        Ok(NewClaim {
            view: view_of(&record, now),
            cookie,
        })
    }

    /// Spends the token and holds the charge, or neither.
    pub(super) async fn spend(&self, claim: Claim, now: Timestamp) -> Result<ClaimRecord, Failure> {
        let live = claim.live;
        let writing = Stopwatch::start();
        let outcome = self.app.store.claim(claim).await?;
        let seconds = writing.seconds();
        self.app.metrics.store_write_seconds.observe(seconds);
        let record = held(outcome, &live, now)?;
        let claimed = &record.claimed;
        tracing::info!(terminal = %claimed.terminal, charge = %claimed.charge, "token claimed");
        self.push.changed(claimed.terminal);
        Ok(record)
    }
}

/// Who types the code of no terminal, or of a banned one, guesses like any other.
fn is_of_terminal(refused: &Failure) -> bool {
    let kind = refused.kind().problem_type();
    matches!(
        kind,
        Some(ProblemType::TokenUnknown | ProblemType::TerminalRefused)
    )
}

fn held(outcome: ClaimOutcome, live: &Live, now: Timestamp) -> Result<ClaimRecord, Failure> {
    let closes = Some(live.window().closes);
    match outcome {
        ClaimOutcome::Claimed(record) => Ok(*record),
        ClaimOutcome::Spent | ClaimOutcome::TurnsExhausted => Err(spent(closes, now).into()),
        ClaimOutcome::Tap(refusal) => {
            tracing::info!(terminal = %live.token().window.terminal, %refusal, "a tap was refused");
            Err(tap_refused(refusal, live, now).into())
        }
        ClaimOutcome::Held => Err(ProblemType::ChargeHeld.into()),
        ClaimOutcome::Locked => Err(ProblemType::ProfileLocked.into()),
        ClaimOutcome::TooMany => Err(ProblemType::TooManyClaims.into()),
        ClaimOutcome::NothingToPay => Err(ProblemType::NothingToPay.into()),
        ClaimOutcome::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
        ClaimOutcome::ApprovalUsed => Err(ProblemType::ApprovalRefused.into()),
    }
}

/// A phone that was a moment late hears when the terminal shows the next one.
pub(super) fn tap_refused(refusal: TapRefusal, live: &Live, now: Timestamp) -> Problem {
    match refusal {
        TapRefusal::Repeated => spent(Some(live.window().closes), now),
        refusal => taps::refused(refusal),
    }
}

pub(super) fn view_of(record: &ClaimRecord, now: Timestamp) -> ClaimView {
    let claimed = &record.claimed;
    // Whoever ends overdue claims may be a moment behind.
    let over = record.state == ClaimState::Held && !record.paying && now >= claimed.held_until;
    ClaimView {
        claim: claimed.claim,
        terminal: claimed.terminal,
        channel: claimed.token.window.channel,
        payee: Payee {
            id: claimed.payee,
            name: record.payee_name.clone(),
        },
        kind: claimed.kind,
        amount: claimed.asked,
        cap: claimed.cap,
        reference: claimed.reference.clone(),
        mark: claimed.mark,
        state: if over {
            ClaimState::Released
        } else {
            record.state
        },
        paying: record.paying,
        held_until: claimed.held_until,
    }
}

/// A terminal that is online shows a new token already; one that is not does so at the boundary.
fn spent(window_closes: Option<Timestamp>, now: Timestamp) -> Problem {
    let problem = Problem::new(ProblemType::TokenSpent);
    match window_closes.filter(|closes| *closes > now) {
        Some(closes) => problem.with_retry_after(seconds(closes - now)),
        None => problem,
    }
}

/// When the window of a spent token closes.
fn spent_until(presented: &Presented, candidates: &[Candidate<'_>]) -> Option<Timestamp> {
    let is_it = |it: &&Candidate<'_>| {
        recognise(presented, std::slice::from_ref(*it)) == Err(Refusal::Spent)
    };
    candidates.iter().find(is_it).map(|it| it.window.closes)
}

pub(super) fn malformed_token(malformed: &Malformed) -> Failure {
    Problem::new(ProblemType::MalformedToken)
        .with_detail(malformed)
        .into()
}

/// How a token came, as far as it tells by its form.
fn family(presented: &Presented) -> &'static str {
    match presented {
        Presented::Machine { .. } | Presented::Signed(_) => "machine",
        Presented::Typed(_) => "code",
    }
}
