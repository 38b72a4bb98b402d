//! How does a till hear at once what becomes of its charge?
//!
//! `GET /v1/charges/{id}/events`: every event is the whole state, under an id that follows from it. So a
//! till that comes back with `Last-Event-ID` hears only what it has not heard, also after a restart of the
//! agent. The stream ends with the charge; who comes back for more then hears 204 and stays away.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use protocol::ids::ChargeId;
use protocol::problem::{Problem, ProblemType};
use protocol::wire::charges::TillCharge;
use protocol::wire::push::ChargeStage;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use warp::Reply;
use warp::http::StatusCode;
use warp::reply::Response;
use warp::sse::Event;

use super::{AWAY_RETRY_S, Till, Unanswered};
use crate::http::problem_reply;

/// Charges that are followed at a time; a till needs one.
pub const STREAMS_MAX: usize = 16;
/// How often an idle event stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client whose stream broke comes back by itself.
const COME_BACK: Duration = Duration::from_secs(1);
/// Of the hash that names a state, in bytes.
const ID_BYTES: usize = 12;

/// One open stream.
struct Follower {
    charge: ChargeId,
    till: Till,
    /// Not told yet.
    next: Option<TillCharge>,
    /// What was told last, and its id.
    told: Option<TillCharge>,
    last: Option<String>,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn follow(charge: ChargeId, last: Option<String>, till: Till) -> Response {
    let Ok(place) = till.streams.clone().try_acquire_owned() else {
        let detail = format!("{STREAMS_MAX} charges are followed already");
        let problem = Problem::new(ProblemType::Busy).with_detail(detail);
        return problem_reply(&problem.with_retry_after(AWAY_RETRY_S));
    };
    let first = match till.told(charge).await {
        Ok(first) => first,
        Err(unanswered) => return problem_reply(&unanswered.problem()),
    };
    if is_over(&first) && last.as_deref() == Some(&id(&first)) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let follower = Follower {
        charge,
        till,
        next: Some(first),
        told: None,
        last,
        _place: place,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.event().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    // warp wants to share what it sends, and a call to the authority cannot be: nobody polls it twice at once.
    let mut events = Mutex::new(events.boxed());
    let events = stream::poll_fn(move |context| {
        let events = events.get_mut().unwrap_or_else(PoisonError::into_inner);
        events.poll_next_unpin(context)
    });
    let events = warp::sse::keep_alive().interval(KEEP_ALIVE).stream(events);
    warp::sse::reply(events).into_response()
}

impl Follower {
    /// The next state that was not told yet; none after the last.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if self.told.as_ref().is_some_and(is_over) {
                return None;
            }
            let charge = match self.next.take() {
                Some(first) => first,
                None => self.changed().await?,
            };
            let id = id(&charge);
            let is_news = self.last.as_deref() != Some(&id);
            self.told = Some(charge.clone());
            self.last = Some(id.clone());
            if is_news {
                let event = Event::default().event("charge").id(id).retry(COME_BACK);
                return event.json_data(&charge).ok();
            }
        }
    }

    /// Waits until something may be otherwise, and looks; none when there is nothing more to follow.
    async fn changed(&mut self) -> Option<TillCharge> {
        let known = self.till.known(self.charge).is_some();
        let pause = Duration::from_secs(AWAY_RETRY_S.into());
        let changed = self.till.board.changed();
        // What the screens do not know may change without them.
        if known {
            changed.await.ok()?;
        } else if let Ok(changed) = tokio::time::timeout(pause, changed).await {
            changed.ok()?;
        }
        match self.till.told(self.charge).await {
            Ok(charge) => Some(charge),
            Err(Unanswered::Away(_)) => {
                let stale = |charge: &TillCharge| TillCharge {
                    stale: true,
                    ..charge.clone()
                };
                self.told.as_ref().map(stale)
            }
            // It comes back and is told why.
            Err(Unanswered::Refused(_)) => None,
        }
    }
}

fn is_over(charge: &TillCharge) -> bool {
    matches!(
        charge.state.stage,
        ChargeStage::Paid { .. } | ChargeStage::Ended { .. }
    )
}

/// The same state has the same id, whichever process tells it.
fn id(charge: &TillCharge) -> String {
    let said = (&charge.state, charge.stale && !is_over(charge));
    let said = serde_json::to_vec(&said).unwrap_or_default();
    let hash = Sha256::digest(&said);
    hash[..ID_BYTES]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
