//! How does a till give money back, and what does it learn of its day?
//!
//! `POST /v1/refunds` with the merchant's PIN, `GET /v1/history`, `GET /v1/day`. The PIN is passed on and
//! kept nowhere. The till is told "refunded" only with a receipt that was verified here.

use protocol::problem::{Problem, ProblemType};
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
use crate::receipts::{self, BadReceipt};

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
    if let Ok(response) = &answered
        && let Err(error) = proven(&request, response, &till)
    {
        return problem_reply(&till.unproven("refunded", error));
    }
    answer(answered)
}

/// Whatever is said to be given back has a receipt for exactly that.
fn proven(
    request: &RefundRequest,
    response: &RefundResponse,
    till: &Till,
) -> Result<(), BadReceipt> {
    let RefundStage::Refunded { receipt, .. } = &response.stage else {
        return Ok(());
    };
    let terminal = till.board.borrow().terminal;
    receipts::check_refund(receipt, request, terminal, &till.keys())
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
