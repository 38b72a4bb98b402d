//! What may a terminal ask? Every route takes an [`AuthenticatedTerminal`] first, and none has a
//! terminal in its address: the certificate says which one it is.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use protocol::ids::ChargeId;
use protocol::wire::charges::ChargeRequest;
use protocol::wire::push::{KEEP_ALIVE_S, STATE_EVENT, TerminalState};
use protocol::wire::reports::{AGENT_BODY_MAX, ReportRequest};
use protocol::wire::schedules::{ScheduleQuery, ScheduleResponse};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use warp::reply::Response;
use warp::sse::Event;
use warp::{Filter, Rejection, Reply};

use super::extract::{AuthenticatedTerminal, terminal};
use super::problem::{Answer, answer};
use super::{Private, Routes, body, jwks};
use crate::app::App;
use crate::services::{charges, push, reports, schedules};

/// Frames made ahead for a reader; a slow one then misses states, never the last.
const FRAMES_AHEAD: usize = 1;

/// Everything the agents' listener serves to terminals that are enrolled.
pub fn routes(app: &Arc<App>) -> Routes<Private> {
    schedule(app)
        .or(events(app))
        .or(start_charge(app))
        .or(look_at_charge(app))
        .or(cancel_charge(app))
        .or(report(app))
        .or(jwks::routes(app))
}

fn schedule(app: &Arc<App>) -> Routes<Private> {
    let route = warp::path!("v1" / "schedule")
        .and(warp::get())
        .and(terminal(app))
        .and(warp::query::<ScheduleQuery>());
    serve("schedule", app, route, do_schedule)
}

fn events(app: &Arc<App>) -> Routes<Private> {
    let app = app.clone();
    let route = warp::path!("v1" / "events")
        .and(warp::get())
        .and(terminal(&app));
    let open = move |terminal: AuthenticatedTerminal| stream(&app, &terminal);
    Routes::new("events", route.map(open))
}

fn start_charge(app: &Arc<App>) -> Routes<Private> {
    let route = warp::path!("v1" / "charges")
        .and(warp::post())
        .and(terminal(app))
        .and(body::json::<ChargeRequest>(AGENT_BODY_MAX));
    serve(
        "charge-start",
        app,
        route,
        |app, terminal, request| async move {
            json(charges::start(&app, terminal.id(), request).await?)
        },
    )
}

fn look_at_charge(app: &Arc<App>) -> Routes<Private> {
    let route = by_charge(app, warp::get());
    serve("charge-look", app, route, |app, terminal, id| async move {
        json(charges::look(&app, terminal.id(), id).await?)
    })
}

fn cancel_charge(app: &Arc<App>) -> Routes<Private> {
    let route = by_charge(app, warp::delete());
    serve(
        "charge-cancel",
        app,
        route,
        |app, terminal, id| async move { json(charges::cancel(&app, terminal.id(), id).await?) },
    )
}

fn report(app: &Arc<App>) -> Routes<Private> {
    let route = warp::path!("v1" / "reports")
        .and(warp::post())
        .and(terminal(app))
        .and(body::json::<ReportRequest>(AGENT_BODY_MAX));
    serve("reports", app, route, |app, terminal, request| async move {
        json(reports::store(&app, terminal.id(), request).await?)
    })
}

/// A route whose handler takes the terminal and one thing more.
fn serve<T, F, H, A>(name: &'static str, app: &Arc<App>, route: F, handler: H) -> Routes<Private>
where
    T: Send + 'static,
    F: Filter<Extract = (AuthenticatedTerminal, T), Error = Rejection>
        + Clone
        + Send
        + Sync
        + 'static,
    H: Fn(Arc<App>, AuthenticatedTerminal, T) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let app = app.clone();
    let handled = route.then(move |terminal: AuthenticatedTerminal, request: T| {
        let handling = handler(app.clone(), terminal, request);
        async move { answer(handling.await) }
    });
    Routes::new(name, handled)
}

fn by_charge<M>(
    app: &Arc<App>,
    method: M,
) -> impl Filter<Extract = (AuthenticatedTerminal, ChargeId), Error = Rejection> + Clone + use<M>
where
    M: Filter<Extract = (), Error = Rejection> + Clone + Send + Sync + 'static,
{
    warp::path!("v1" / "charges" / ChargeId)
        .and(method)
        .and(terminal(app))
        .map(|id: ChargeId, terminal: AuthenticatedTerminal| (terminal, id))
        .untuple_one()
}

async fn do_schedule(
    app: Arc<App>,
    terminal: AuthenticatedTerminal,
    query: ScheduleQuery,
) -> Answer {
    let issued: ScheduleResponse = schedules::issue(&app, terminal.id(), &query).await?;
    json(issued)
}

/// Server-sent events: the whole state at once, then whenever it changed.
fn stream(app: &Arc<App>, terminal: &AuthenticatedTerminal) -> Response {
    let (sender, frames) = mpsc::channel(FRAMES_AHEAD);
    tokio::spawn(feed(push::Stream::open(app, terminal.id()), sender));
    let frames = ReceiverStream::new(frames).map(Ok::<_, Infallible>);
    let every = Duration::from_secs(KEEP_ALIVE_S);
    warp::sse::reply(warp::sse::keep_alive().interval(every).stream(frames)).into_response()
}

/// Until the stream is over or nobody reads it any more.
async fn feed(mut states: push::Stream, sender: mpsc::Sender<Event>) {
    loop {
        let state = tokio::select! {
            state = states.next() => state,
            () = sender.closed() => None,
        };
        let Some(state) = state else { return };
        if sender.send(frame(&state)).await.is_err() {
            return;
        }
    }
}

fn frame(state: &TerminalState) -> Event {
    let data = serde_json::to_string(state).expect("a state is plain structs and strings");
    Event::default()
        .id(state.revision.to_string())
        .event(STATE_EVENT)
        .data(data)
}

fn json<T: Serialize>(body: T) -> Answer {
    Ok(warp::reply::json(&body).into_response())
}
