//! How does one shopper pay, and what do they wait for?
//!
//! ```text
//!  till ─charge─▶ told "offered"     resolve ─▶ claim ─▶ approve ─▶ receipt, verified
//!                                                           └─────▶ terminal told "paid"
//! ```
//! A refusal is no latency: it is counted by its type, and the step goes on when the authority says so (Retry-After)
//! or when the terminal shows another token. What is counted from the intent holds all of that; what is counted from
//! the send is the request that worked.

use std::sync::Arc;
use std::time::Duration;

use protocol::ids::{ChargeId, ClaimId};
use protocol::jwk::JwkSet;
use protocol::jws;
use protocol::money::{Currency, Money};
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::ReceiptClaims;
use protocol::wire::charges::ChargeRequest;
use protocol::wire::claims::ApprovalResponse;
use protocol::wire::push::{ChargeStage, ChargeState};
use reader_agent::authority::{CallError, ChargeDesk};
use sha2::{Digest, Sha256};

use super::agent::{self, Agent};
use super::arrivals::Arrival;
use super::books::{Books, Paid};
use super::options::Run;
use super::phone::{Approved, Asked, Held, Phone, Trouble};
use super::record::{Lap, Step};
use super::stopwatch::Stopwatch;

/// What a till asks for.
const PRICE_MINOR: i64 = 420;
/// Before a further try, where nobody says how long to wait; doubled with each.
const PAUSE: Duration = Duration::from_millis(100);

/// What an open payment is counted as.
const PENDING: &str = "pending";

/// What is the same for every payment of a run.
pub struct Rules {
    pub retries: u32,
    pub patience: Duration,
    pub keep_connections: bool,
    pub watch: Stopwatch,
    pub keys: JwkSet,
    pub books: Arc<Books>,
}

/// One payment on its way.
pub struct Payment<'a> {
    pub rules: &'a Rules,
    pub arrival: Arrival,
    pub agent: &'a Agent,
    pub phone: &'a mut Phone,
    /// The terminal's stream is up: it can have a till's charge, and will be told.
    pub hears: bool,
    pub story: Story,
}

/// What happened, as far as it went.
#[derive(Debug, Default)]
pub struct Story {
    pub laps: Vec<(Step, Lap)>,
    /// Every refusal and failure on the way.
    pub troubles: Vec<String>,
    /// What must never happen.
    pub wrong: Vec<String>,
    /// Looking, before claim and approval.
    thought: Duration,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Paid(Duration),
    /// By the last word that the shopper got.
    Refused(String),
}

/// Why the shopper goes away.
struct Away(String);

impl Rules {
    pub fn new(run: &Run, watch: Stopwatch, keys: JwkSet, books: Arc<Books>) -> Self {
        Self {
            retries: run.retries,
            patience: run.patience,
            keep_connections: run.keep_connections,
            watch,
            keys,
            books,
        }
    }
}

impl Payment<'_> {
    /// From the wish to pay to its end.
    pub async fn play(mut self) -> (Story, End) {
        let end = match self.pay().await {
            Ok(done) => End::Paid(done),
            Err(Away(why)) => End::Refused(why),
        };
        (self.story, end)
    }

    async fn pay(&mut self) -> Result<Duration, Away> {
        if !self.rules.keep_connections {
            let fresh = self.phone.walk_by();
            fresh.map_err(|failure| Away(failure.to_string()))?;
        }
        let charge = match self.arrival.at_till && self.hears {
            true => Some(self.charge().await?),
            false => None,
        };
        let ended = self.pay_what_is_asked(charge.is_some()).await;
        if let (Err(_), Some(charge)) = (&ended, charge) {
            // The next shopper finds the terminal free. A charge that is held or paid stays as it is.
            let _ = self.agent.client().cancel(charge).await;
        }
        ended
    }

    /// Only a till's charge is told by push: who pays the fixed price has the receipt to show.
    async fn pay_what_is_asked(&mut self, is_told: bool) -> Result<Duration, Away> {
        let held = self.claim().await?;
        self.think(1).await;
        let due = self.rules.watch.now();
        let amount = held.view.amount.ok_or(Away("no amount".into()))?;
        let claim = held.view.claim;
        self.rules.books.approving(self.agent.id(), &held, amount);
        let (receipt, answered) = self.approve(&held, amount, due).await?;
        let verified = self.verified(&receipt, &held, amount);
        let got = self.rules.watch.now();
        self.lap(
            Step::Receipt,
            Lap {
                done: got,
                ..answered
            },
        );
        if let Some(paid) = verified {
            self.rules
                .books
                .paid(&paid)
                .unwrap_or_else(|wrong| self.story.wrong.push(wrong));
        }
        let told = match is_told {
            true => self.told(claim, &receipt.receipt, answered).await?,
            false => Some(got),
        };
        if let Some(told) = told {
            self.whole(got.max(told));
        }
        Ok(got)
    }

    // ── step by step ──────────────────────────────────────────────────────────────────────────

    /// The till asks, and the terminal hears that it is offered.
    async fn charge(&mut self) -> Result<ChargeId, Away> {
        let charge = fresh_charge().map_err(Away)?;
        let amount = Money::new(PRICE_MINOR, Currency::EUR).map_err(|it| Away(it.to_string()))?;
        let request = ChargeRequest {
            charge,
            amount,
            reference: Some(format!("sale {}", self.arrival.number)),
        };
        let due = self.arrival.due;
        let mut tries = 0;
        let lap = loop {
            let sent = self.rules.watch.now();
            match self.start(&request).await {
                Ok(()) => {
                    break Lap {
                        due,
                        sent,
                        done: sent,
                    };
                }
                Err(trouble) => {
                    if trouble.is_of_node() {
                        self.agent.go_elsewhere();
                    }
                    self.again(trouble, &mut tries).await?;
                }
            }
        };
        let offered = |state: &ChargeState| {
            let here = matches!(state.stage, ChargeStage::Offered { .. });
            (state.charge == charge && here).then_some(())
        };
        let told = self.heard(offered).await;
        let (done, ()) = told.ok_or(Away("not told: offered".into()))?;
        self.lap(Step::Charge, Lap { done, ..lap });
        Ok(charge)
    }

    async fn start(&self, request: &ChargeRequest) -> Asked<()> {
        let start = self.agent.client().start(request);
        match tokio::time::timeout(self.phone.answer_max(), start).await {
            Ok(started) => Ok(started.map(drop)?),
            Err(_) => Err(Trouble::Unanswered("no answer in time".into())),
        }
    }

    /// Takes what the terminal shows, opens it and spends it; another token if that one was used or over.
    async fn claim(&mut self) -> Result<Held, Away> {
        let (mut tries, mut spent) = (0, String::new());
        let mut due = self.story.last_done().unwrap_or(self.arrival.due);
        loop {
            let shown = self.shown_other_than(&spent).await?;
            match self.resolve_and_claim(&shown, due).await {
                Ok(held) => return Ok(held),
                Err(trouble) => {
                    // Nobody who heard nothing knows that it is spent: it is shown once more.
                    let is_over = trouble.is_of_token();
                    self.again(trouble, &mut tries).await?;
                    if is_over {
                        spent = shown;
                    }
                    due = self.rules.watch.now();
                }
            }
        }
    }

    async fn resolve_and_claim(&mut self, shown: &str, due: Duration) -> Asked<Held> {
        let sent = self.rules.watch.now();
        self.phone.resolve(self.arrival.channel, shown).await?;
        let done = self.rules.watch.now();
        self.lap(Step::Resolve, Lap { due, sent, done });
        self.think(0).await;
        let due = self.rules.watch.now();
        let held = match self.phone.claim(shown).await {
            Err(trouble) if trouble.is(ProblemType::SignInRefused) => {
                // The access token has ended; an app gets another one and goes on.
                let signed_in = self.phone.sign_in().await;
                signed_in.map_err(|it| Trouble::Unanswered(it.to_string()))?;
                self.story.troubles.push(trouble.name());
                self.phone.claim(shown).await?
            }
            claimed => claimed?,
        };
        let done = self.rules.watch.now();
        self.lap(
            Step::Claim,
            Lap {
                due,
                sent: due,
                done,
            },
        );
        Ok(held)
    }

    /// Approves until there is a receipt; what it answers besides: when the approval was due and sent.
    async fn approve(
        &mut self,
        held: &Held,
        amount: Money,
        due: Duration,
    ) -> Result<(ApprovalResponse, Lap), Away> {
        let (mut tries, mut first, mut unsure) = (0, true, false);
        loop {
            let sent = self.rules.watch.now();
            let answer = self.phone.approve(held, amount).await;
            let lap = Lap {
                due,
                sent,
                done: self.rules.watch.now(),
            };
            match answer {
                Ok(approved) => {
                    if std::mem::take(&mut first) {
                        self.lap(Step::Approve, lap);
                    }
                    match approved {
                        Approved::Receipt(receipt) => return Ok((*receipt, lap)),
                        Approved::Pending => {
                            unsure = true;
                            self.again(Trouble::pending(), &mut tries).await?;
                        }
                    }
                }
                Err(trouble) => {
                    unsure |= !trouble.says_not_paid();
                    if !unsure {
                        self.rules.books.close(held.view.claim);
                    }
                    self.again(trouble, &mut tries).await?;
                }
            }
        }
    }

    /// Until the push has said "paid", with the same receipt as the phone has; none if the line was lost meanwhile:
    /// then the terminal hears of it when it is back.
    async fn told(
        &mut self,
        claim: ClaimId,
        receipt: &str,
        answered: Lap,
    ) -> Result<Option<Duration>, Away> {
        let paid = |state: &ChargeState| match &state.stage {
            ChargeStage::Paid {
                claim: of, receipt, ..
            } if *of == claim => Some(receipt.clone()),
            _ => None,
        };
        let Some((done, pushed)) = self.heard(paid).await else {
            if !self.agent.hear().borrow().up {
                self.story
                    .troubles
                    .push("paid, and the line to the terminal lost".into());
                return Ok(None);
            }
            let wrong = format!("terminal {} was not told of claim {claim}", self.agent.id());
            self.story.wrong.push(wrong);
            return Err(Away("paid, and the terminal not told".into()));
        };
        if pushed != receipt {
            let wrong = format!("claim {claim}: phone and terminal hold different receipts");
            self.story.wrong.push(wrong);
        }
        // The push may be at the terminal before the answer is at the phone.
        self.lap(Step::Told, Lap { done, ..answered });
        Ok(Some(done))
    }

    // ── what the steps are made of ────────────────────────────────────────────────────────────

    /// Waits for the further try that this trouble allows, or goes away.
    async fn again(&mut self, trouble: Trouble, tries: &mut u32) -> Result<(), Away> {
        let name = trouble.name();
        self.story.troubles.push(name.clone());
        let mut pause = trouble.pause(*tries);
        if trouble.is_of_token() {
            // What its terminal shows next may come sooner than the next window.
            pause = pause.map(|it| it.min(PAUSE));
        }
        if trouble.is_of_node() && self.phone.go_elsewhere() {
            // What this one asks to wait for is nothing to the next.
            pause = Some(PAUSE);
        }
        match pause.filter(|it| *tries < self.rules.retries && *it <= self.rules.patience) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(Away(name)),
        }
        *tries += 1;
        Ok(())
    }

    /// What the terminal shows on this channel, once it is another token than this.
    async fn shown_other_than(&mut self, spent: &str) -> Result<String, Away> {
        let until = self.rules.watch.now() + self.rules.patience;
        let mut heard = self.agent.hear();
        loop {
            let face = self.agent.shows(self.arrival.channel);
            if let Some(face) = face.filter(|face| face.text() != spent) {
                return Ok(face.text().to_owned());
            }
            let left = until.saturating_sub(self.rules.watch.now());
            if left.is_zero() {
                return Err(Away("the terminal shows nothing else".into()));
            }
            let next = self.agent.changes_in().unwrap_or(left).max(PAUSE).min(left);
            // Either is a reason to look again.
            let _ = tokio::time::timeout(next, heard.changed()).await;
        }
    }

    async fn heard<T>(&self, so: impl Fn(&ChargeState) -> Option<T>) -> Option<(Duration, T)> {
        let of_charge = |heard: &agent::Heard| {
            let charge = heard.state.as_ref()?.charge.as_ref()?;
            Some((heard.at, so(charge)?))
        };
        self.agent.until(self.rules.patience, of_charge).await
    }

    async fn think(&mut self, nth: usize) {
        let pause = self.arrival.think[nth];
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
            self.story.thought += pause;
        }
    }

    /// The receipt is signed by a published key and says what was agreed here.
    fn verified(&mut self, answer: &ApprovalResponse, held: &Held, amount: Money) -> Option<Paid> {
        let (claim, view) = (held.view.claim, &held.view);
        let read = jws::verify::<ReceiptClaims>(&answer.receipt, &self.rules.keys);
        let says = match read {
            Ok(verified) => verified.claims().clone(),
            Err(why) => {
                let wrong = format!("claim {claim}: its receipt does not verify: {why}");
                self.story.wrong.push(wrong);
                return None;
            }
        };
        let agreed = says.claim == claim
            && says.amount == amount
            && says.payee == view.payee
            && says.terminal == self.agent.id()
            && says.channel == self.arrival.channel
            && says.mark == view.mark
            && (says.payment, says.receipt) == (answer.payment, answer.receipt_id);
        if !agreed {
            let wrong = format!("claim {claim}: its receipt says something else than was agreed");
            self.story.wrong.push(wrong);
        }
        Some(Paid {
            terminal: self.agent.id(),
            payment: says.payment,
            receipt: says.receipt,
            claim,
            token: held.shown.clone(),
            amount,
            digest: Sha256::digest(answer.receipt.as_bytes()).into(),
        })
    }

    fn lap(&mut self, step: Step, lap: Lap) {
        self.story.laps.push((step, lap));
    }

    /// From the wish to pay to its end, without the time in which people looked; from the send: what each request
    /// that worked took.
    fn whole(&mut self, done: Duration) {
        let laps = &self.story.laps;
        let took = |step: Step| {
            let last = laps.iter().rev().find(|(of, _)| *of == step);
            last.map_or(Duration::ZERO, |(_, lap)| lap.done.saturating_sub(lap.sent))
        };
        let first = [Step::Charge, Step::Resolve, Step::Claim].map(took);
        let last = took(Step::Receipt).max(took(Step::Told));
        let served = first.iter().sum::<Duration>() + last;
        let whole = Lap {
            due: self.arrival.due + self.story.thought,
            sent: done.saturating_sub(served),
            done,
        };
        self.lap(Step::Whole, whole);
    }
}

impl Story {
    fn last_done(&self) -> Option<Duration> {
        self.laps.last().map(|(_, lap)| lap.done)
    }
}

impl Trouble {
    /// As it is counted.
    pub fn name(&self) -> String {
        match self {
            Self::Problem(problem) => agent::slug(problem),
            Self::Unanswered(why) => why.clone(),
        }
    }

    fn is(&self, wanted: ProblemType) -> bool {
        matches!(self, Self::Problem(it) if it.problem_type() == Some(wanted))
    }

    /// A payment whose rail has not answered yet.
    fn pending() -> Self {
        Self::Unanswered(PENDING.into())
    }

    /// Another token of the same terminal may well do.
    fn is_of_token(&self) -> bool {
        match self {
            Self::Problem(problem) => match problem.problem_type() {
                Some(known) => matches!(known, ProblemType::TokenSpent | ProblemType::TokenPassed),
                None => matches!(problem.status, 409 | 410),
            },
            Self::Unanswered(_) => false,
        }
    }

    /// Another node may well answer.
    fn is_of_node(&self) -> bool {
        match self {
            Self::Unanswered(why) => why != PENDING,
            Self::Problem(problem) => problem.status >= 500,
        }
    }

    /// Whether no payment can have come of it.
    fn says_not_paid(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status < 500)
    }

    /// How long until a further try makes sense; none if it never does.
    fn pause(&self, tries: u32) -> Option<Duration> {
        let doubled = PAUSE * 2_u32.saturating_pow(tries.min(8));
        let Self::Problem(problem) = self else {
            return Some(doubled);
        };
        if let Some(seconds) = problem.retry_after_s {
            return Some(Duration::from_secs(seconds.into()));
        }
        tries_again(problem).then_some(doubled)
    }
}

/// What passes by itself, or with another token.
fn tries_again(problem: &Problem) -> bool {
    use ProblemType as It;
    let passes = [
        It::TokenSpent,
        It::TokenPassed,
        It::TokenUnknown,
        It::NothingToPay,
        It::ChargeHeld,
        It::ChargeOpen,
    ];
    match problem.problem_type() {
        Some(known) => problem.status >= 500 || passes.contains(&known),
        // A page in words for people: it is about the token or the charge of this moment.
        None => problem.status >= 500 || matches!(problem.status, 409 | 410),
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(problem) => Self::Problem(problem),
            other => Self::Unanswered(agent::named(&other)),
        }
    }
}

/// A UUIDv7 of the till's own making.
pub fn fresh_charge() -> Result<ChargeId, String> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    let now_ms = super::stopwatch::wall().ms().unsigned_abs();
    Ok(ChargeId::from_parts(now_ms, &random))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(it: ProblemType) -> Trouble {
        Trouble::Problem(Box::new(Problem::new(it)))
    }

    #[test]
    fn a_further_try_comes_when_the_authority_says_so() {
        let busy = Problem::new(ProblemType::Busy).with_retry_after(7);
        let busy = Trouble::Problem(Box::new(busy));
        assert_eq!(busy.pause(0), Some(Duration::from_secs(7)));
        assert_eq!(busy.pause(5), Some(Duration::from_secs(7)));
        assert_eq!(problem(ProblemType::TokenSpent).pause(0), Some(PAUSE));
        assert_eq!(problem(ProblemType::TokenSpent).pause(2), Some(PAUSE * 4));
    }

    #[test]
    fn what_cannot_get_better_is_not_tried_again() {
        for it in [
            ProblemType::FundsShort,
            ProblemType::AmountDiffers,
            ProblemType::TerminalRefused,
        ] {
            assert_eq!(problem(it).pause(0), None, "{it:?}");
        }
    }

    #[test]
    fn only_who_was_told_so_knows_that_nothing_is_paid() {
        assert!(problem(ProblemType::FundsShort).says_not_paid());
        assert!(!problem(ProblemType::Busy).says_not_paid());
        assert!(!Trouble::Unanswered("connection lost".into()).says_not_paid());
        assert!(!Trouble::pending().says_not_paid());
    }
}
