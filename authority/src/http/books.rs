//! How does a terminal give money back and look at its day, and a shopper at their history?

use std::sync::Arc;

use protocol::wire::history::HistoryQuery;
use protocol::wire::refunds::RefundRequest;
use protocol::wire::reports::AGENT_BODY_MAX;
use warp::Filter;

use super::agents::{Asked, asked_by};
use super::problem::answer;
use super::public::{private, to_the_end};
use super::{Private, Public, Routes, asker, body};
use crate::services::history;
use crate::services::journey::Journey;
use crate::store::HistoryOf;
use crate::store::hurried;

/// Agents' listener.
pub fn routes(journey: &Arc<Journey>) -> Routes<Private> {
    refund(journey).or(at_terminal(journey)).or(day(journey))
}

/// Public listener.
pub fn shoppers(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "history")
        .and(warp::get())
        .and(asker::asked())
        .and(warp::query::<HistoryQuery>())
        .then(move |from: asker::Asked, query: HistoryQuery| {
            let (journey, answering) = (journey.clone(), journey.clone());
            let work = async move {
                let now = journey.app.clock.now();
                let signed_in = from.must_be_signed_in(&journey, now).await?;
                let of = HistoryOf::Person(signed_in.person().clone());
                let page = history::page(&journey.app, of, &query).await?;
                Ok(private(warp::reply::json(&page)))
            };
            hurried(async move { asker::answered(&answering, work.await).await })
        });
    Routes::new("history", route)
}

/// Goes on when the terminal hangs up: money that has moved gets its receipt.
fn refund(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "refunds")
        .and(warp::post())
        .and(asked_by(journey))
        .and(body::json::<RefundRequest>(AGENT_BODY_MAX))
        .then(|asked: Asked, request: RefundRequest| async move {
            let work = async move {
                let (journey, terminal) = asked.parts();
                let now = journey.app.clock.now();
                let given = journey.refunds.by_till(terminal.id(), request, now).await?;
                Ok(private(warp::reply::json(&given)))
            };
            hurried(async move { answer(to_the_end(work).await) }).await
        });
    Routes::new("refund", route).at("/v1/refunds")
}

fn at_terminal(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "history")
        .and(warp::get())
        .and(asked_by(journey))
        .and(warp::query::<HistoryQuery>())
        .then(|asked: Asked, query: HistoryQuery| {
            asked.answer(move |journey, terminal| async move {
                let of = HistoryOf::Terminal(terminal.id());
                history::page(&journey.app, of, &query).await
            })
        });
    Routes::new("terminal-history", route).at("/v1/history")
}

fn day(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "day")
        .and(warp::get())
        .and(asked_by(journey))
        .then(|asked: Asked| {
            asked.answer(|journey, terminal| async move {
                let now = journey.app.clock.now();
                history::day(&journey.app, terminal.id(), now).await
            })
        });
    Routes::new("day", route).at("/v1/day")
}
