//! Which amount, to whom, from which account? The page of a claim, and the press that pays.
//!
//! ```text
//! held ─▶ sign in ─▶ choose and approve ─▶ under way ─▶ paid: the receipt
//!   └─ the time is over ─▶ tap again           └─ declined: another account
//! ```
//! Every state is one page at one address, so that back, reload and a second press all end in the same.

use std::sync::Arc;

use askama::Template;
use protocol::ids::ClaimId;
use protocol::money::{Currency, Money};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::wire::claims::{ApprovalRequest, ClaimState, ClaimView};
use warp::Filter;
use warp::reply::Response;

use super::figures::{Figure, line, read_amount};
use super::forms::{self, OwnForm};
use super::providers::{self, Choice};
use super::visit::{Visit, visit};
use super::words::{Refusal, Words};
use super::{Frame, Site, answer, receipt, with_status};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};
use crate::services::Failure;
use crate::services::looks::Paying;
use crate::services::sign_in::SignedIn;

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
    left: Left,
    state: &'static str,
    state_path: String,
}

/// What the shopper sent before, shown again with why it was refused.
#[derive(Default)]
struct Before {
    problem: Option<Problem>,
    account: Option<String>,
    typed: String,
    amount_bad: bool,
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
    let route = warp::path!("pay" / ClaimId).and(forms::own(&of)).then(
        move |claim: ClaimId, visit: Arc<Visit>, form: Result<OwnForm, Failure>| {
            let (work_site, work_visit) = (site.clone(), visit.clone());
            let work = async move { pay(&work_site, &work_visit, claim, form?).await };
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
    claims.paying(claim, visit.claim.as_ref(), now).await
}

/// What the state is called between a page and its script.
fn name_of(visit: &Visit, paying: &Paying) -> &'static str {
    match (&paying.payment, paying.view.state) {
        (Some(payment), _) if payment.receipt_jws.is_some() => "paid",
        (Some(_), _) | (None, ClaimState::Paid) => "receipt-due",
        (None, ClaimState::Released) => "over",
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
    match &visit.signed_in {
        None => to_sign_in(site, visit, paying, before),
        Some(signed_in) => to_approve(site, visit, signed_in, paying, before).await,
    }
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
    let button = match view.amount {
        Some(amount) => frame.w.pay_button(line(amount, language)),
        None => frame.w.pay_button_open().to_owned(),
    };
    let page = ToApprove {
        summary: summary(view, visit),
        refused: before.problem.map(|it| frame.w.refusal(&it)),
        accounts: accounts(site, signed_in, currency, before.account.as_deref()).await?,
        action: path_of(view.claim),
        button,
        currency: currency.to_string(),
        minor: view.amount.map(Money::amount_minor),
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

/// Approves what the form shows. Whatever comes of it, the claim's page says so.
async fn pay(site: &Site, visit: &Visit, claim: ClaimId, form: OwnForm) -> Answer<Response> {
    let paying = look(site, visit, claim).await?;
    let typed = form.get("amount").unwrap_or_default().to_owned();
    let account = form.get("account").map(str::to_owned);
    let Some(request) = request_of(&form)? else {
        let before = Before {
            account,
            typed,
            amount_bad: true,
            ..Before::default()
        };
        let problem = Problem::new(ProblemType::AmountMissing);
        let page = page(site, visit, &paying, before).await?;
        return Ok(with_status(page, &problem));
    };
    let refused = match &visit.signed_in {
        None => Some(Problem::new(ProblemType::SignInNeeded)),
        Some(signed_in) => {
            let (now, approvals) = (site.journey.app.clock.now(), &site.journey.approvals);
            let cookie = visit.claim.as_ref();
            let approved = approvals.approve(claim, cookie, signed_in, &request, now);
            approved.await.err().map(Failure::into_problem)
        }
    };
    let Some(problem) = refused else {
        return Ok(site.see_other(visit, &path_of(claim)));
    };
    // As it stands now: paid without its receipt yet, or over.
    let paying = look(site, visit, claim).await?;
    if paying.payment.is_some() {
        return Ok(site.see_other(visit, &path_of(claim)));
    }
    let before = Before {
        problem: Some(problem.clone()),
        account,
        typed,
        amount_bad: false,
    };
    let page = page(site, visit, &paying, before).await?;
    Ok(with_status(page, &problem))
}

/// What was approved, as the form showed it; none if the amount typed cannot be read.
fn request_of(form: &OwnForm) -> Result<Option<ApprovalRequest>, Failure> {
    let malformed = |_| Failure::from(ProblemType::MalformedRequest);
    let payee = form
        .need("payee")?
        .parse()
        .map_err(|_| ProblemType::MalformedRequest)?;
    let currency: Currency = form.need("currency")?.parse().map_err(malformed)?;
    let amount = match form.get("amount_minor") {
        Some(minor) => {
            let minor = minor.parse().map_err(|_| ProblemType::MalformedRequest)?;
            Some(Money::new(minor, currency).map_err(malformed)?)
        }
        None => read_amount(form.need("amount")?, currency),
    };
    Ok(amount.map(|amount| ApprovalRequest { amount, payee }))
}

async fn accounts(
    site: &Site,
    signed_in: &SignedIn,
    currency: Currency,
    chosen: Option<&str>,
) -> Result<Vec<Account>, Failure> {
    let person = signed_in.person().clone();
    let all = site.journey.app.store.accounts_of(person).await?;
    let fitting = all.into_iter().filter(|it| it.currency == currency);
    let mut accounts: Vec<Account> = fitting
        .map(|account| Account {
            id: account.id.to_string(),
            name: "Balance".into(),
            reference: String::new(),
            chosen: chosen == Some(account.id.to_string().as_str()),
            default: false,
        })
        .collect();
    if !accounts.iter().any(|it| it.chosen)
        && let Some(first) = accounts.first_mut()
    {
        first.chosen = true;
    }
    Ok(accounts)
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
