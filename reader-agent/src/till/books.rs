//! How does a till give money back, and what does it learn of its day?
//!
//! `POST /v1/refunds` with the merchant's PIN, `GET /v1/history`, `GET /v1/day`. The PIN is passed on and
//! kept nowhere. The till is told "refunded" only with a receipt that was verified here.

use protocol::ids::TerminalId;
use protocol::jwk::JwkSet;
use protocol::jws;
use protocol::problem::{Problem, ProblemType};
use protocol::refund::RefundClaims;
use protocol::wire::history::HistoryQuery;
use protocol::wire::refunds::{RefundRequest, RefundResponse, RefundStage};
use serde::Serialize;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::{Till, away, bearer};
use crate::authority::{CallError, is_plain};
use crate::body;
use crate::http::{json_reply, problem_reply};

pub(super) fn routes(till: &Till) -> BoxedFilter<(Response,)> {
    let secret = || bearer(till.secret.clone());
    let with = {
        let till = till.clone();
        warp::any().map(move || till.clone())
    };
    let refund = warp::path!("v1" / "refunds")
        .and(warp::post())
        .and(secret())
        .and(body::json())
        .and(with.clone())
        .then(refund);
    let history = warp::path!("v1" / "history")
        .and(warp::get())
        .and(secret())
        .and(warp::query::<HistoryQuery>())
        .and(with.clone())
        .then(history);
    let day = warp::path!("v1" / "day")
        .and(warp::get())
        .and(secret())
        .and(with)
        .then(day);
    refund.or(history).unify().or(day).unify().boxed()
}

async fn refund(request: RefundRequest, till: Till) -> Response {
    let (refund, amount) = (request.refund, request.amount);
    tracing::info!(%refund, %amount, "the till gives back");
    let answered = till.books.refund(&request).await;
    if let Ok(response) = &answered {
        let terminal = till.board.borrow().terminal;
        let keys = till.state.keys().ok().flatten().unwrap_or_default();
        if !is_proven(&request, response, terminal, &keys) {
            let detail = "the authority says refunded, but its receipt does not verify";
            return problem_reply(&Problem::new(ProblemType::Internal).with_detail(detail));
        }
    }
    answer(answered)
}

/// Whatever is said to be given back has a receipt for exactly that.
fn is_proven(
    request: &RefundRequest,
    response: &RefundResponse,
    terminal: TerminalId,
    keys: &JwkSet,
) -> bool {
    let RefundStage::Refunded { receipt, .. } = &response.stage else {
        return true;
    };
    jws::verify::<RefundClaims>(receipt, keys).is_ok_and(|verified| {
        let claims = verified.claims();
        claims.terminal == Some(terminal)
            && claims.refund == request.refund
            && claims.charge == request.charge
            && claims.amount == request.amount
    })
}

async fn history(query: HistoryQuery, till: Till) -> Response {
    if query.cursor.as_deref().is_some_and(|it| !is_plain(it)) {
        let problem = Problem::new(ProblemType::MalformedRequest);
        return problem_reply(&problem.with_detail("not a cursor that was answered here"));
    }
    answer(till.books.history(&query).await)
}

async fn day(till: Till) -> Response {
    answer(till.books.day().await)
}

fn answer<T: Serialize>(answered: Result<T, CallError>) -> Response {
    match answered {
        Ok(answer) => json_reply(&answer),
        Err(CallError::Refused(problem)) => problem_reply(&problem),
        Err(error) => problem_reply(&away(&error)),
    }
}
