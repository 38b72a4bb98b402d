//! Which amount, to whom, from which account? The page of a claim, and the press that pays.
//!
//! ```text
//! held ─▶ sign in ─▶ choose and approve ─▶ under way ─▶ paid: the receipt
//!   └─ the time is over ─▶ tap again           └─ declined: another account
//! ```
//! Every state is one page at one address, so that back, reload and a second press all end in the same.

use std::sync::Arc;

use askama::Template;
use protocol::ids::{AccountId, ClaimId, MerchantId};
use protocol::money::{Currency, Money};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::wire::claims::{ApprovalRequest, CLAIMS_PATH, ClaimState, ClaimView};
use protocol::wire::passkeys::Assertion;
use serde::Deserialize;
use warp::Filter;
use warp::reply::Response;

use super::figures::{Figure, line, read_amount};
use super::providers::{self, Choice};
use super::visit::{Visit, form, visit};
use super::words::{Refusal, Words};
use super::{Frame, Site, answer, receipt, with_status};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};
use crate::services::Failure;
use crate::services::looks::Paying;
use crate::services::sign_in::SignedIn;
use crate::store::{LEDGER, ServiceAccount};

/// What the ledger calls an account that nobody has named.
const LEDGER_NAME: &str = "Balance";
/// Characters at the end of an account's reference that are shown.
const MASK_SHOWS: usize = 4;
/// How soon a page without a script looks again while the rail works.
const REFRESH_S: u32 = 2;

/// What every page of a claim shows.
pub(super) struct Summary {
    payee: String,
    payee_id: String,
    figure: Option<Figure>,
    mark: String,
    reference: Option<String>,
}

/// How long the claim holds its charge still.
struct Left {
    seconds: u64,
    words: String,
    sentence: String,
}

/// An account to pay from.
struct Account {
    id: String,
    name: String,
    reference: String,
    chosen: bool,
    default: bool,
}

#[derive(Template)]
#[template(path = "pay_sign_in.html")]
struct ToSignIn<'a> {
    f: &'a Frame<'a>,
    summary: Summary,
    refused: Option<Refusal>,
    providers: Vec<Choice>,
    left: Left,
    state: &'static str,
    state_path: String,
}

#[derive(Template)]
#[template(path = "pay.html")]
struct ToApprove<'a> {
    f: &'a Frame<'a>,
    summary: Summary,
    refused: Option<Refusal>,
    accounts: Vec<Account>,
    action: String,
    button: String,
    currency: String,
    minor: Option<i64>,
    cap: Option<String>,
    typed: String,
    amount_bad: bool,
    step_up: StepUp,
    /// Whether the sign-in is young enough to add a passkey; else with whom to sign in once more.
    fresh: bool,
    providers: Vec<Choice>,
    left: Left,
    state: &'static str,
    state_path: String,
}

/// Whether a passkey has to sign.
#[derive(PartialEq, Eq)]
enum StepUp {
    NotNeeded,
    /// What it has to sign is asked for here.
    Sign {
        options: String,
    },
    /// There is no passkey yet.
    AddFirst,
}

#[derive(Template)]
#[template(path = "pending.html")]
struct Pending<'a> {
    f: &'a Frame<'a>,
    summary: Summary,
    refresh_s: u32,
    state: &'static str,
    state_path: String,
}

/// What the shopper sent: amount, payee and account as the page showed them.
#[derive(Clone, Deserialize)]
struct Approved {
    payee: MerchantId,
    currency: Currency,
    /// Where the terminal asks for an amount.
    amount_minor: Option<i64>,
    /// Where the shopper types it.
    amount: Option<String>,
    account: Option<AccountId>,
    /// JSON of what a passkey signed, where that is needed.
    assertion: Option<String>,
}

/// What the shopper sent before, shown again with why it was refused.
#[derive(Default)]
struct Before {
    problem: Option<Problem>,
    account: Option<AccountId>,
    typed: String,
    amount_bad: bool,
    /// A passkey has to sign this amount.
    to_confirm: Option<Money>,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    show(site).or(approve(site)).or(state(site))
}

fn show(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("pay" / ClaimId)
        .and(warp::get())
        .and(visit(&of));
    let route = route.then(move |claim: ClaimId, visit: Arc<Visit>| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let paying = look(&work_site, &work_visit, claim).await?;
            page(&work_site, &work_visit, &paying, Before::default()).await
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-pay", route)
}

fn approve(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("pay" / ClaimId)
        .and(form::<Approved>(&of))
        .then(
            move |claim: ClaimId, visit: Arc<Visit>, approved: Approved| {
                let (work_site, work_visit) = (site.clone(), visit.clone());
                let work = async move { pay(&work_site, &work_visit, claim, approved).await };
                answer(site.clone(), visit, work)
            },
        );
    Routes::new("page-approve", route)
}

/// How far it is, for the page's script to ask again and again.
fn state(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("pay" / ClaimId / "state");
    let route = route.and(warp::get()).and(visit(&of));
    let route = route.then(move |claim: ClaimId, visit: Arc<Visit>| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let paying = look(&work_site, &work_visit, claim).await?;
            let state = serde_json::json!({ "state": name_of(&work_visit, &paying) });
            Ok(work_site.bytes("application/json", state.to_string().into()))
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-state", route)
}

async fn look(site: &Site, visit: &Visit, claim: ClaimId) -> Result<Paying, Failure> {
    crate::logging::follow_claim(claim);
    let now = site.journey.app.clock.now();
    let claims = &site.journey.claims;
    let cookie = visit.claim.as_ref();
    let paying = claims.paying(claim, cookie, now).await?;
    if let Some(cookie) = cookie {
        site.journey.sources.note_holder(cookie);
    }
    Ok(paying)
}

/// What the state is called between a page and its script.
fn name_of(visit: &Visit, paying: &Paying) -> &'static str {
    match (&paying.payment, paying.view.state) {
        (Some(payment), _) if payment.receipt_jws.is_some() => "paid",
        (Some(_), _) | (None, ClaimState::Paid) => "receipt-due",
        (None, ClaimState::Released) => "over",
        (None, ClaimState::Held) if paying.view.paying => "pending",
        (None, ClaimState::Held) if visit.signed_in.is_some() => "held",
        (None, ClaimState::Held) => "sign-in",
    }
}

async fn page(site: &Site, visit: &Visit, paying: &Paying, before: Before) -> Answer<Response> {
    if let Some(payment) = &paying.payment {
        return receipt::page(site, visit, &paying.view, payment);
    }
    if paying.view.state != ClaimState::Held {
        return Err(ProblemType::ClaimOver.into());
    }
    if paying.view.paying {
        return pending(site, visit, paying);
    }
    match &visit.signed_in {
        None => to_sign_in(site, visit, paying, before),
        Some(signed_in) => to_approve(site, visit, signed_in, paying, before).await,
    }
}

fn pending(site: &Site, visit: &Visit, paying: &Paying) -> Answer<Response> {
    let claim = paying.view.claim;
    let page = Pending {
        f: &site.frame(visit, path_of(claim)),
        summary: summary(&paying.view, visit),
        refresh_s: REFRESH_S,
        state: name_of(visit, paying),
        state_path: state_path_of(claim),
    };
    site.page(visit, &page)
}

fn to_sign_in(site: &Site, visit: &Visit, paying: &Paying, before: Before) -> Answer<Response> {
    let view = &paying.view;
    let frame = site.frame(visit, path_of(view.claim));
    let page = ToSignIn {
        summary: summary(view, visit),
        refused: before.problem.map(|it| frame.w.refusal(&it)),
        providers: providers::choices(site, &[("claim", view.claim.to_string())]),
        left: Left::of(view, site.journey.app.clock.now(), frame.w),
        state: name_of(visit, paying),
        state_path: state_path_of(view.claim),
        f: &frame,
    };
    site.page(visit, &page)
}

async fn to_approve(
    site: &Site,
    visit: &Visit,
    signed_in: &SignedIn,
    paying: &Paying,
    before: Before,
) -> Answer<Response> {
    let view = &paying.view;
    let frame = site.frame(visit, path_of(view.claim));
    let currency = currency_of(view)?;
    let language = visit.language;
    let step_up = step_up(site, signed_in, view, &before).await?;
    let (session, now) = (visit.visitor.session(), site.journey.app.clock.now());
    let amount = view.amount.or(before.to_confirm);
    let button = match (amount, &step_up) {
        (Some(amount), StepUp::NotNeeded) => frame.w.pay_button(line(amount, language)),
        (Some(amount), _) => frame.w.step_up_button(line(amount, language)),
        (None, _) => frame.w.pay_button_open().to_owned(),
    };
    let page = ToApprove {
        summary: summary(view, visit),
        refused: before
            .problem
            .map(|it| frame.w.refusal(&it))
            .or_else(|| paying.declined.map(|it| frame.w.declined(it))),
        accounts: accounts(site, signed_in, currency, before.account, frame.w).await?,
        action: path_of(view.claim),
        button,
        currency: currency.to_string(),
        minor: amount.map(Money::amount_minor),
        step_up,
        fresh: session.is_some_and(|it| it.is_fresh(now)),
        providers: providers::again(site, ("claim", view.claim.to_string())),
        cap: view.cap.map(|it| line(it, language)),
        typed: before.typed,
        amount_bad: before.amount_bad,
        left: Left::of(view, site.journey.app.clock.now(), frame.w),
        state: name_of(visit, paying),
        state_path: state_path_of(view.claim),
        f: &frame,
    };
    site.page(visit, &page)
}

async fn step_up(
    site: &Site,
    signed_in: &SignedIn,
    view: &ClaimView,
    before: &Before,
) -> Result<StepUp, Failure> {
    if before.to_confirm.is_none() {
        return Ok(StepUp::NotNeeded);
    }
    let known = site.journey.passkeys.list(signed_in).await?;
    Ok(match known.passkeys.is_empty() {
        true => StepUp::AddFirst,
        false => StepUp::Sign {
            options: format!("{CLAIMS_PATH}/{}/approval/options", view.claim),
        },
    })
}

/// Approves what the form shows. Whatever comes of it, the claim's page says so.
async fn pay(site: &Site, visit: &Visit, claim: ClaimId, sent: Approved) -> Answer<Response> {
    let paying = look(site, visit, claim).await?;
    let before = |problem: Option<Problem>| Before {
        amount_bad: problem.is_none(),
        problem,
        account: sent.account,
        typed: sent.amount.clone().unwrap_or_default(),
        to_confirm: None,
    };
    let Some(request) = request_of(&sent)? else {
        let problem = Problem::new(ProblemType::AmountMissing);
        let page = page(site, visit, &paying, before(None)).await?;
        return Ok(with_status(page, &problem));
    };
    let Err(refused) = approve_as(site, visit, claim, &request).await else {
        return Ok(site.see_other(visit, &path_of(claim)));
    };
    let problem = refused.into_problem();
    // As it stands now: paid without its receipt yet, under way, or over.
    let paying = look(site, visit, claim).await?;
    if paying.payment.is_some() || paying.view.paying {
        return Ok(site.see_other(visit, &path_of(claim)));
    }
    let mut before = before(Some(problem.clone()));
    before.to_confirm = is_step_up(&problem).then_some(request.amount);
    let page = page(site, visit, &paying, before).await?;
    Ok(with_status(page, &problem))
}

fn is_step_up(problem: &Problem) -> bool {
    let needed = [ProblemType::StepUpNeeded, ProblemType::StepUpRefused];
    problem
        .problem_type()
        .is_some_and(|it| needed.contains(&it))
}

async fn approve_as(
    site: &Site,
    visit: &Visit,
    claim: ClaimId,
    request: &ApprovalRequest,
) -> Result<(), Failure> {
    let signed_in = visit.signed_in.as_ref().ok_or(ProblemType::SignInNeeded)?;
    let (now, approvals) = (site.journey.app.clock.now(), &site.journey.approvals);
    let cookie = visit.claim.as_ref();
    let answered = approvals.approve(claim, cookie, signed_in, request, now);
    answered.await.map(drop)
}

/// What was approved, as the form showed it; none if the amount typed cannot be read.
fn request_of(sent: &Approved) -> Result<Option<ApprovalRequest>, Failure> {
    let signed = sent.assertion.as_deref().filter(|it| !it.is_empty());
    let assertion: Option<Assertion> = signed
        .map(serde_json::from_str)
        .transpose()
        .map_err(|_| ProblemType::MalformedRequest)?;
    let amount = match (sent.amount_minor, &sent.amount) {
        (Some(minor), _) => {
            let money = Money::new(minor, sent.currency);
            Some(money.map_err(|_| ProblemType::MalformedRequest)?)
        }
        (None, Some(typed)) => read_amount(typed, sent.currency),
        (None, None) => None,
    };
    Ok(amount.map(|amount| ApprovalRequest {
        amount,
        payee: sent.payee,
        account: sent.account,
        assertion: assertion.clone(),
    }))
}

/// What can be paid from in this currency, the default first.
async fn accounts(
    site: &Site,
    signed_in: &SignedIn,
    currency: Currency,
    chosen: Option<AccountId>,
    words: Words,
) -> Result<Vec<Account>, Failure> {
    let person = signed_in.person().clone();
    let all = site.journey.app.store.service_accounts(person).await?;
    let fitting: Vec<_> = all
        .into_iter()
        .filter(|it| it.currency == currency)
        .collect();
    let kept = |it: &&ServiceAccount| Some(it.id) == chosen;
    let chosen = fitting
        .iter()
        .find(kept)
        .or(fitting.first())
        .map(|it| it.id);
    let account = |it: ServiceAccount| Account {
        chosen: Some(it.id) == chosen,
        id: it.id.to_string(),
        reference: masked(&it),
        name: name_of_account(&it, words),
        default: it.default,
    };
    Ok(fitting.into_iter().map(account).collect())
}

/// What the shopper calls it. The ledger's own has a name of ours.
pub(super) fn name_of_account(account: &ServiceAccount, words: Words) -> String {
    match account.rail == LEDGER && account.name == LEDGER_NAME {
        true => words.pay_balance().to_owned(),
        false => account.name.clone(),
    }
}

/// The end of what the rail calls an account: enough to tell it, not to use it. The ledger's own are
/// named after nothing that anybody knows.
pub(super) fn masked(account: &ServiceAccount) -> String {
    if account.rail == LEDGER {
        return String::new();
    }
    let length = account.reference.chars().count();
    let shown = length.saturating_sub(length / 2).min(MASK_SHOWS);
    let end = account.reference.chars().skip(length - shown);
    format!("••\u{a0}{}", end.collect::<String>())
}

fn summary(view: &ClaimView, visit: &Visit) -> Summary {
    Summary {
        payee: view.payee.name.clone(),
        payee_id: view.payee.id.to_string(),
        figure: view.amount.map(|it| Figure::of(it, visit.language)),
        mark: view.mark.to_string(),
        reference: view.reference.clone(),
    }
}

fn currency_of(view: &ClaimView) -> Result<Currency, Failure> {
    let money = view.amount.or(view.cap);
    let money = money.ok_or(ProblemType::NothingToPay)?;
    Ok(money.currency())
}

pub(super) fn path_of(claim: ClaimId) -> String {
    format!("/pay/{claim}")
}

pub(super) fn state_path_of(claim: ClaimId) -> String {
    format!("/pay/{claim}/state")
}

impl Left {
    fn of(view: &ClaimView, now: Timestamp, words: Words) -> Self {
        let left_ms = (view.held_until - now).max(0);
        let seconds = u64::try_from(left_ms / 1000).unwrap_or(0);
        Self {
            seconds,
            words: words.time_left(words.duration(seconds)),
            sentence: words.time_left("{time}"),
        }
    }
}
