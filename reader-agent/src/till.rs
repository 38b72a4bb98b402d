//! How does a till ask for money, and how does it learn that it was paid?
//!
//! Money back, history and the day are in `books`; charges are here:
//! `POST /v1/charges`, `GET` and `DELETE /v1/charges/{id}`, `GET /v1/charges/{id}/events`, with
//! `Authorization: Bearer <till.secret>`. The till is told "paid" only with a receipt that was
//! verified here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use protocol::charge::REFERENCE_MAX;
use protocol::ids::ChargeId;
use protocol::problem::{Problem, ProblemType};
use protocol::wire::charges::ChargeRequest;
use protocol::wire::push::{ChargeStage, ChargeState};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use warp::filters::BoxedFilter;
use warp::reject::Rejection;
use warp::reply::Response;
use warp::{Filter, Reply};

use crate::authority::{BooksDesk, CallError, ChargeDesk};
use crate::core::Board;
use crate::files::Secret;
use crate::http::{json_body, json_reply, problem_reply, refuse};
use crate::receipts::{self, Said};
use crate::state::State;

mod books;

/// When to ask again while the authority is away, in seconds.
pub const AWAY_RETRY_S: u32 = 5;
/// How often an idle event stream says that it is alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the till's interface works with.
#[derive(Clone)]
pub struct Till {
    pub desk: Arc<dyn ChargeDesk>,
    pub books: Arc<dyn BooksDesk>,
    pub board: watch::Receiver<Board>,
    pub secret: Arc<Secret>,
    pub state: Arc<State>,
}

pub fn routes(till: Till) -> BoxedFilter<(Response,)> {
    let books_part = till.clone();
    let charges = warp::path!("v1" / "charges" / ..).and(bearer(till.secret.clone()));
    let with = {
        let till = till.clone();
        warp::any().map(move || till.clone())
    };
    let start = charges
        .clone()
        .and(warp::path::end())
        .and(warp::post())
        .and(json_body())
        .and(with.clone())
        .then(start);
    let one = charges.and(id());
    let look = one
        .clone()
        .and(warp::path::end())
        .and(warp::get())
        .and(with.clone())
        .then(look);
    let cancel = one
        .clone()
        .and(warp::path::end())
        .and(warp::delete())
        .and(with.clone())
        .then(cancel);
    let events = one
        .and(warp::path!("events"))
        .and(warp::get())
        .and(with)
        .map(events);
    start
        .or(look)
        .unify()
        .or(cancel)
        .unify()
        .or(events)
        .unify()
        .or(books::routes(&books_part))
        .unify()
        .boxed()
}

async fn start(request: ChargeRequest, till: Till) -> Response {
    let long = |r: &String| r.len() > REFERENCE_MAX;
    if request.reference.as_ref().is_some_and(long) {
        let detail = format!("a reference has at most {REFERENCE_MAX} bytes");
        return problem_reply(&Problem::new(ProblemType::MalformedRequest).with_detail(detail));
    }
    tracing::info!(charge = %request.charge, amount = %request.amount, "the till asks");
    till.answer(till.desk.start(&request).await)
}

async fn look(charge: ChargeId, till: Till) -> Response {
    let shown = shown(&till.board.borrow(), charge);
    match shown {
        Some(state) => json_reply(&state),
        None => till.answer(till.desk.look(charge).await),
    }
}

async fn cancel(charge: ChargeId, till: Till) -> Response {
    match till.desk.cancel(charge).await {
        Ok(None) => warp::http::StatusCode::NO_CONTENT.into_response(),
        Ok(Some(state)) => till.answer(Ok(state)),
        Err(error) => till.answer(Err(error)),
    }
}

fn events(charge: ChargeId, till: Till) -> Response {
    let stream = states(charge, till.board).map(|state| {
        let event = warp::sse::Event::default().event("charge");
        Ok::<_, Infallible>(event.json_data(&state).unwrap_or_default())
    });
    let alive = warp::sse::keep_alive().interval(KEEP_ALIVE).stream(stream);
    warp::sse::reply(alive).into_response()
}

/// Every state of one charge that differs from the one before.
fn states(charge: ChargeId, board: watch::Receiver<Board>) -> impl Stream<Item = ChargeState> {
    let mut last = None;
    WatchStream::new(board).filter_map(move |board| {
        let state = shown(&board, charge).filter(|s| last.as_ref() != Some(s));
        if state.is_some() {
            last = state.clone();
        }
        std::future::ready(state)
    })
}

fn shown(board: &Board, charge: ChargeId) -> Option<ChargeState> {
    board.shown.charge_state().filter(|s| s.charge == charge)
}

impl Till {
    fn answer(&self, result: Result<ChargeState, CallError>) -> Response {
        match result {
            Ok(state) if self.believes(&state) => json_reply(&state),
            Ok(_) => problem_reply(
                &Problem::new(ProblemType::Internal)
                    .with_detail("the authority says paid, but its receipt does not verify"),
            ),
            Err(CallError::Refused(problem)) => problem_reply(&problem),
            Err(error) => problem_reply(&away(&error)),
        }
    }

    fn believes(&self, state: &ChargeState) -> bool {
        let ChargeStage::Paid {
            claim,
            mark,
            receipt,
        } = &state.stage
        else {
            return true;
        };
        let said = Said {
            charge: state.charge,
            claim: *claim,
            mark: *mark,
            amount: state.amount,
            receipt,
        };
        let terminal = self.board.borrow().terminal;
        let keys = self.state.keys().ok().flatten().unwrap_or_default();
        receipts::check(said, terminal, &keys).is_ok()
    }
}

fn away(error: &CallError) -> Problem {
    let mut problem = Problem::new(ProblemType::NotReady)
        .with_detail(error)
        .with_retry_after(AWAY_RETRY_S);
    problem.next_step = error.hint().into();
    problem
}

fn bearer(secret: Arc<Secret>) -> BoxedFilter<()> {
    warp::header::optional::<String>("authorization")
        .and_then(move |header: Option<String>| {
            let presented = header.as_deref().and_then(|h| h.strip_prefix("Bearer "));
            let fits = presented.is_some_and(|p| secret.matches(p));
            std::future::ready(if fits { Ok(()) } else { Err(no_secret()) })
        })
        .untuple_one()
        .boxed()
}

fn no_secret() -> Rejection {
    let mut problem = Problem::new(ProblemType::SignInNeeded)
        .with_detail("the till's secret is missing or wrong");
    problem.next_step =
        "Send the text of till.secret, in the agent's data directory, as bearer token.".into();
    warp::reject::custom(crate::http::Refusal(Box::new(problem)))
}

fn id() -> BoxedFilter<(ChargeId,)> {
    warp::path::param::<String>()
        .and_then(|text: String| async move {
            text.parse()
                .map_err(|_| refuse(ProblemType::MalformedRequest, "a charge id is a UUID"))
        })
        .boxed()
}

#[cfg(test)]
mod tests;
