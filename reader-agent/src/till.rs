//! How does a till ask for money, and how does it learn that it was paid?
//!
//! Charges are here, `follow` tells what becomes of one, money back, history and the day are in `books`, and
//! `openapi` describes it all; with `Authorization: Bearer <till.secret>`. docs/TILL.md is for who writes a
//! till. It is told what the authority says, and while that is away what it said last, marked as such. It
//! is told "paid" only with a receipt that was
//! verified here.

use std::sync::Arc;

use protocol::charge::REFERENCE_MAX;
use protocol::ids::ChargeId;
use protocol::jwk::JwkSet;
use protocol::jws::BadJws;
use protocol::problem::{Problem, ProblemType};
use protocol::wire::charges::{ChargeRequest, TillCharge};
use protocol::wire::push::{ChargeStage, ChargeState};
use tokio::sync::{Notify, Semaphore, watch};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reject::Rejection;
use warp::reply::Response;

use crate::authority::{BooksDesk, CallError, ChargeDesk};
use crate::body;
use crate::clock::Clock;
use crate::core::Board;
use crate::files::Secret;
use crate::http::{json_reply, problem_reply, refuse};
use crate::receipts::{self, BadReceipt, Said};
use crate::state::State;

mod books;
mod follow;
pub mod openapi;

pub use follow::STREAMS_MAX;

/// When to ask again while the authority is away, in seconds.
pub const AWAY_RETRY_S: u32 = 5;

/// What the till's interface works with.
#[derive(Clone)]
pub struct Till {
    pub desk: Arc<dyn ChargeDesk>,
    pub books: Arc<dyn BooksDesk>,
    pub board: watch::Receiver<Board>,
    pub secret: Arc<Secret>,
    pub state: Arc<State>,
    pub clock: Arc<Clock>,
    /// Rung when a receipt is signed by a key that is not held.
    pub key_missing: Arc<Notify>,
    /// Room for streams; see [`STREAMS_MAX`].
    pub streams: Arc<Semaphore>,
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
        .and(body::json())
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
        .and(warp::header::optional::<String>("last-event-id"))
        .and(with)
        .then(follow::follow);
    start
        .or(look)
        .unify()
        .or(cancel)
        .unify()
        .or(events)
        .unify()
        .or(books::routes(&books_part))
        .unify()
        .or(openapi::route())
        .unify()
        .boxed()
}

async fn start(request: ChargeRequest, till: Till) -> Response {
    let unfit = |r: &String| r.len() > REFERENCE_MAX || r.chars().any(char::is_control);
    if request.reference.as_ref().is_some_and(unfit) {
        let detail =
            format!("a reference has at most {REFERENCE_MAX} bytes and no control characters");
        return problem_reply(&Problem::new(ProblemType::MalformedRequest).with_detail(detail));
    }
    tracing::info!(charge = %request.charge, amount = %request.amount, "the till asks");
    let started = till.desk.start(&request).await;
    answer(till.believed(started))
}

async fn look(charge: ChargeId, till: Till) -> Response {
    answer(till.told(charge).await)
}

async fn cancel(charge: ChargeId, till: Till) -> Response {
    let cancelled = till.desk.cancel(charge).await;
    answer(till.believed(cancelled))
}

fn answer(told: Result<TillCharge, Unanswered>) -> Response {
    match told {
        Ok(charge) => json_reply(&charge),
        Err(unanswered) => problem_reply(&unanswered.problem()),
    }
}

/// Why the till is not told how its charge stands.
enum Unanswered {
    /// Nobody who knows can be asked now.
    Away(CallError),
    /// It is known, and it is no.
    Refused(Box<Problem>),
}

impl Unanswered {
    fn problem(self) -> Problem {
        match self {
            Self::Away(error) => away(&error),
            Self::Refused(problem) => *problem,
        }
    }
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(problem) => Self::Refused(problem),
            error => Self::Away(error),
        }
    }
}

impl Till {
    /// As the screens know it, or as the authority says.
    async fn told(&self, charge: ChargeId) -> Result<TillCharge, Unanswered> {
        match self.known(charge) {
            Some(known) => Ok(known),
            None => self.believed(self.desk.look(charge).await),
        }
    }

    fn known(&self, charge: ChargeId) -> Option<TillCharge> {
        let known = self.board.borrow().charge.clone();
        known.filter(|known| known.state.charge == charge)
    }

    /// What the authority answers just now; "paid" only with a receipt that verifies.
    fn believed(&self, said: Result<ChargeState, CallError>) -> Result<TillCharge, Unanswered> {
        let state = said?;
        self.proven(&state)
            .map_err(|error| Unanswered::Refused(Box::new(self.unproven("paid", error))))?;
        Ok(TillCharge {
            state,
            stale: false,
            as_of: self.clock.now_or_wall(),
        })
    }

    fn proven(&self, state: &ChargeState) -> Result<(), BadReceipt> {
        let ChargeStage::Paid {
            claim,
            mark,
            receipt,
        } = &state.stage
        else {
            return Ok(());
        };
        let said = Said {
            charge: state.charge,
            claim: *claim,
            mark: *mark,
            amount: state.amount,
            receipt,
        };
        let terminal = self.board.borrow().terminal;
        receipts::check(said, terminal, &self.keys()).map(drop)
    }

    fn keys(&self) -> JwkSet {
        self.state.keys().ok().flatten().unwrap_or_default()
    }

    /// A key that is not known here yet is fetched; anything else is somebody's fault.
    fn unproven(&self, said: &str, error: BadReceipt) -> Problem {
        let detail = format!("the authority says {said}, but its receipt does not verify: {error}");
        if error != BadReceipt::Signature(BadJws::UnknownKey) {
            return Problem::new(ProblemType::Internal).with_detail(detail);
        }
        self.key_missing.notify_one();
        let problem = Problem::new(ProblemType::NotReady).with_detail(detail);
        problem.with_retry_after(AWAY_RETRY_S)
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
