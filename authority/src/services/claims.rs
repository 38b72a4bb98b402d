//! Whose token is this, is it good, and what does it hold?
//!
//! ```text
//! text ─▶ Presented ─▶ (typed: signed in, limiter) ─▶ windows that accept now, with stored turns
//!      ─▶ Live ─▶ one transaction: spent, turn moved, charge held ─▶ ClaimView + the phone's secret
//! ```

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use hsm::Priority;
use protocol::charge::{HOLD_MS, HOLD_SIGNED_IN_MS, Mark};
use protocol::ids::{ChargeId, ClaimId};
use protocol::live::{Candidate, Live, LoadedEpoch, Refusal, candidates, channels_of};
use protocol::live::{epochs_needed, explain, recognise};
use protocol::presented::Presented;
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::Payee;
use protocol::time::Timestamp;
use protocol::wire::claims::{ClaimRequest, ClaimView};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::sign_in::SignedIn;
use super::{Failure, limiter};
use crate::app::App;
use crate::ids::{fresh, random};
use crate::store::{Claim, ClaimOutcome, ClaimRecord, Terminal, TerminalStatus};

/// What the phone keeps to show that a claim is its own. Mute.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PhoneSecret([u8; 32]);

impl PhoneSecret {
    fn new() -> Self {
        Self(random())
    }

    /// Reads what [`Self::text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut secret = [0; 32];
        let read = Base64UrlUnpadded::decode(text, &mut secret).map(|bytes| bytes.len());
        (read == Ok(32)).then_some(Self(secret))
    }

    /// For the cookie.
    pub fn text(&self) -> String {
        Base64UrlUnpadded::encode_string(&self.0)
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for PhoneSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneSecret(..)")
    }
}

/// A claim that the phone which asks has made; only [`of_phone`] makes one.
#[derive(Debug, Clone)]
pub struct OwnClaim(ClaimRecord);

impl OwnClaim {
    pub fn record(&self) -> &ClaimRecord {
        &self.0
    }
}

/// Spends a token.
pub async fn claim(
    app: &App,
    request: &ClaimRequest,
    signed_in: Option<&SignedIn>,
) -> Result<(ClaimView, PhoneSecret), Failure> {
    let presented = Presented::parse(&request.token);
    let claimed = match presented {
        Err(malformed) => Err(problem(ProblemType::MalformedToken)
            .with_detail(malformed)
            .into()),
        Ok(presented) => try_claim(app, &presented, signed_in).await,
    };
    let (channel, outcome) = match &claimed {
        Ok((view, _)) => (view.channel.name(), "claimed"),
        Err(failure) => (
            presented.map_or("none", |p| channels_of(&p)[0].name()),
            failure.label(),
        ),
    };
    app.metrics
        .claims
        .with_label_values(&[channel, outcome])
        .inc();
    claimed
}

/// The claim, if it is this phone's.
pub async fn of_phone(
    app: &App,
    id: ClaimId,
    secret: Option<&PhoneSecret>,
) -> Result<OwnClaim, Failure> {
    let record = app.store.claim_record(id).await?;
    let own = |record: &ClaimRecord| {
        secret.is_some_and(|secret| secret.hash().ct_eq(&record.phone).into())
    };
    record
        .filter(own)
        .map(OwnClaim)
        .ok_or(ProblemType::ClaimUnknown.into())
}

/// What the phone shows of a claim.
pub fn view(record: &ClaimRecord) -> ClaimView {
    let claimed = &record.claimed;
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
        state: record.state,
        held_until: claimed.held_until,
    }
}

async fn try_claim(
    app: &App,
    presented: &Presented,
    signed_in: Option<&SignedIn>,
) -> Result<(ClaimView, PhoneSecret), Failure> {
    let now = app.clock.now();
    let typed = matches!(presented, Presented::Typed(_));
    if typed && signed_in.is_none() {
        return Err(ProblemType::SignInNeeded.into());
    }
    let terminal = active_terminal(app, presented).await?;
    let epochs = epochs_needed(terminal.id, now);
    let loaded = app
        .epoch_keys
        .load(terminal.id, &epochs, Priority::Payment)
        .await?;
    let candidates = with_turns(app, presented, &loaded, now).await?;
    let live = match signed_in.filter(|_| typed) {
        Some(shopper) => recognise_typed(app, presented, shopper, &candidates, now).await?,
        None => recognise_machine(app, presented, &candidates, &loaded, now)?,
    };
    spend(app, live, signed_in, now).await
}

async fn active_terminal(app: &App, presented: &Presented) -> Result<Terminal, Failure> {
    let terminal = app.store.terminal(presented.terminal()).await?;
    let terminal = terminal.ok_or(ProblemType::TokenUnknown)?;
    match terminal.status {
        TerminalStatus::Active => Ok(terminal),
        TerminalStatus::Banned { .. } => Err(ProblemType::TerminalRefused.into()),
    }
}

/// Every window that accepts a token of this kind now, at the turn the database holds.
async fn with_turns<'a>(
    app: &App,
    presented: &Presented,
    loaded: &'a [LoadedEpoch],
    now: Timestamp,
) -> Result<Vec<Candidate<'a>>, Failure> {
    let (policy, channels) = (&app.config.policy, channels_of(presented));
    let mut found = candidates(presented.terminal(), now, policy, loaded, channels);
    let turns = app
        .store
        .turns(found.iter().map(|candidate| candidate.id).collect())
        .await?;
    for (candidate, turn) in found.iter_mut().zip(turns) {
        candidate.turn = turn;
    }
    Ok(found)
}

fn recognise_machine(
    app: &App,
    presented: &Presented,
    candidates: &[Candidate<'_>],
    loaded: &[LoadedEpoch],
    now: Timestamp,
) -> Result<Live, Failure> {
    let refusal = match recognise(presented, candidates) {
        Ok(live) => return Ok(live),
        Err(Refusal::Unknown) => explain(presented, now, &app.config.policy, loaded),
        Err(told) => told,
    };
    Err(match refusal {
        Refusal::Spent => spent(candidates, now).into(),
        Refusal::Passed => ProblemType::TokenPassed.into(),
        Refusal::Unknown => ProblemType::TokenUnknown.into(),
    })
}

/// A code is looked at only within the limits, and every one that does not fit counts.
async fn recognise_typed(
    app: &App,
    presented: &Presented,
    shopper: &SignedIn,
    candidates: &[Candidate<'_>],
    now: Timestamp,
) -> Result<Live, Failure> {
    let open = candidates
        .iter()
        .find(|candidate| candidate.window.contains(now));
    let open = open.ok_or(ProblemType::TokenUnknown)?;
    let (person, since) = (shopper.person().clone(), limiter::since(now));
    let misses = app.store.misses(person.clone(), open.id, since).await?;
    limiter::admit(misses, open.window.closes, now)?;
    match recognise(presented, candidates) {
        Ok(live) => Ok(live),
        Err(refusal) => {
            app.store.add_miss(person, open.id, since, now).await?;
            app.metrics.code_misses.inc();
            Err(match refusal {
                Refusal::Spent => spent(candidates, now).into(),
                Refusal::Passed | Refusal::Unknown => ProblemType::TokenUnknown.into(),
            })
        }
    }
}

async fn spend(
    app: &App,
    live: Live,
    signed_in: Option<&SignedIn>,
    now: Timestamp,
) -> Result<(ClaimView, PhoneSecret), Failure> {
    let secret = PhoneSecret::new();
    let hold = if signed_in.is_some() {
        HOLD_SIGNED_IN_MS
    } else {
        HOLD_MS
    };
    let claim = Claim {
        id: fresh(now, ClaimId::from_parts),
        live,
        phone: secret.hash(),
        person: signed_in.map(|shopper| shopper.person().clone()),
        mark: Mark::from_random(random()),
        at: now,
        held_until: now + hold,
        idle_charge: fresh(now, ChargeId::from_parts),
    };
    let terminal = live.token().window.terminal;
    match app.store.claim(claim).await? {
        ClaimOutcome::Claimed(record) => {
            app.push.changed(terminal);
            let claim = record.claimed.claim;
            tracing::info!(%claim, %terminal, channel = %live.token().window.channel, "claimed");
            Ok((view(&record), secret))
        }
        // A spend also moves the turn, so that the terminal shows another token.
        ClaimOutcome::Spent => Err(wait(ProblemType::TokenSpent, live.window().closes, now).into()),
        ClaimOutcome::Held => Err(ProblemType::ChargeHeld.into()),
        ClaimOutcome::NothingToPay => Err(ProblemType::NothingToPay.into()),
        ClaimOutcome::TerminalRefused => Err(ProblemType::TerminalRefused.into()),
        ClaimOutcome::TurnsExhausted => {
            Err(wait(ProblemType::Busy, live.window().closes, now).into())
        }
    }
}

/// A terminal that is offline shows its next token only when the window ends.
fn spent(candidates: &[Candidate<'_>], now: Timestamp) -> Problem {
    let open = candidates
        .iter()
        .filter(|candidate| candidate.window.contains(now));
    let closes = open
        .map(|candidate| candidate.window.closes)
        .min()
        .unwrap_or(now);
    wait(ProblemType::TokenSpent, closes, now)
}

fn wait(problem_type: ProblemType, until: Timestamp, now: Timestamp) -> Problem {
    problem(problem_type).with_retry_after(limiter::seconds_up(until - now))
}

fn problem(problem: ProblemType) -> Problem {
    Problem::new(problem)
}
