//! How do terminals fetch, listen, charge and report? Agents' listener; every route demands the
//! terminal's certificate, and no route has a terminal in its address.

use std::future::Future;
use std::sync::Arc;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use protocol::ids::ChargeId;
use protocol::wire::charges::ChargeRequest;
use protocol::wire::reports::{AGENT_BODY_MAX, ReportRequest};
use protocol::wire::schedules::{PACES_FOLLOWED, PACES_HEADER, ScheduleQuery};
use protocol::wire::upkeep::{INSTANCE_HEADER, TRUST_HEADER};
use serde::Serialize;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::extract::{AuthenticatedTerminal, terminal};
use super::problem::answer;
use super::public::{insert, key_set};
use super::{Private, Routes, body, events};
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::services::jwks;
use crate::services::schedules::Follows;
use crate::store::hurried;

/// Everything a terminal may ask.
pub fn routes(journey: &Arc<Journey>) -> Routes<Private> {
    schedule(journey)
        .or(push(journey))
        .or(charge_start(journey))
        .or(charge_look(journey))
        .or(charge_cancel(journey))
        .or(reports(journey))
        .or(keys(journey))
}

fn schedule(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "schedule")
        .and(warp::get())
        .and(asked_by(journey))
        .and(warp::query::<ScheduleQuery>())
        .and(warp::header::optional::<String>(PACES_HEADER))
        .then(
            |asked: Asked, query: ScheduleQuery, paces: Option<String>| {
                asked.answer(move |journey, terminal| async move {
                    let (id, now) = (terminal.id(), journey.app.clock.now());
                    let follows = follows(paces.as_deref());
                    journey.schedules.issue_as(id, &query, follows, now).await
                })
            },
        );
    Routes::new("schedule", route).at("/v1/schedule")
}

fn follows(paces: Option<&str>) -> Follows {
    match paces {
        Some(PACES_FOLLOWED) => Follows::Paces,
        _ => Follows::PolicyAlone,
    }
}

fn push(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "events")
        .and(warp::get())
        .and(asked_by(journey))
        .and(warp::header::optional::<String>(INSTANCE_HEADER))
        .then(|asked: Asked, instance: Option<String>| async move {
            let Asked {
                journey,
                terminal,
                follows,
            } = asked;
            if follows.is_none() {
                // Who says nothing here trusts the root it pinned.
                journey.followers.saw(terminal.id(), 0).await;
            }
            let (id, serial) = (terminal.id(), terminal.serial());
            events::answer(journey.push.begin(id, serial, instance))
        });
    Routes::new("events", route).at("/v1/events")
}

fn charge_start(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "charges")
        .and(warp::post())
        .and(asked_by(journey))
        .and(body::json::<ChargeRequest>(AGENT_BODY_MAX))
        .then(|asked: Asked, request: ChargeRequest| {
            asked.answer(move |journey, terminal| async move {
                let now = journey.app.clock.now();
                journey.charges.start(terminal.id(), request, now).await
            })
        });
    Routes::new("charge-start", route).at("/v1/charges")
}

fn charge_look(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "charges" / ChargeId)
        .and(warp::get())
        .and(asked_by(journey))
        .then(|charge: ChargeId, asked: Asked| {
            asked.answer(move |journey, terminal| async move {
                journey.charges.look(terminal.id(), charge).await
            })
        });
    Routes::new("charge-look", route).at("/v1/charges")
}

fn charge_cancel(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "charges" / ChargeId)
        .and(warp::delete())
        .and(asked_by(journey))
        .then(|charge: ChargeId, asked: Asked| {
            asked.answer(move |journey, terminal| async move {
                let now = journey.app.clock.now();
                journey.charges.cancel(terminal.id(), charge, now).await
            })
        });
    Routes::new("charge-cancel", route).at("/v1/charges")
}

fn reports(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!("v1" / "reports")
        .and(warp::post())
        .and(asked_by(journey))
        .and(body::json::<ReportRequest>(AGENT_BODY_MAX))
        .then(|asked: Asked, request: ReportRequest| {
            asked.answer(move |journey, terminal| async move {
                let now = journey.app.clock.now();
                journey.reports.take(terminal.id(), request, now).await
            })
        });
    Routes::new("reports", route).at("/v1/reports")
}

fn keys(journey: &Arc<Journey>) -> Routes<Private> {
    let route = warp::path!(".well-known" / "jwks.json")
        .and(warp::get())
        .and(asked_by(journey))
        .map(|asked: Asked| key_set(jwks::believed(&asked.journey.app.keyring())));
    Routes::new("agents-jwks", route).at("/.well-known/jwks.json")
}

/// A request of a proven terminal.
pub(super) struct Asked {
    terminal: AuthenticatedTerminal,
    journey: Arc<Journey>,
    /// The list of roots it follows, if it says so.
    follows: Option<u64>,
}

pub(super) fn asked_by(journey: &Arc<Journey>) -> BoxedFilter<(Asked,)> {
    let asked = journey.clone();
    terminal(&journey.app)
        .and(warp::header::optional::<u64>(TRUST_HEADER))
        .then(
            move |terminal: AuthenticatedTerminal, follows: Option<u64>| {
                let journey = asked.clone();
                async move {
                    if let Some(sequence) = follows {
                        journey.followers.saw(terminal.id(), sequence).await;
                    }
                    Asked {
                        terminal,
                        journey,
                        follows,
                    }
                }
            },
        )
        .boxed()
}

impl Asked {
    pub(super) fn parts(self) -> (Arc<Journey>, AuthenticatedTerminal) {
        (self.journey, self.terminal)
    }

    /// JSON that nobody may keep, or the problem.
    pub(super) async fn answer<T, W, F>(self, work: W) -> Response
    where
        T: Serialize,
        W: FnOnce(Arc<Journey>, AuthenticatedTerminal) -> F,
        F: Future<Output = Result<T, Failure>>,
    {
        let found = hurried(work(self.journey, self.terminal)).await;
        answer(found.map(|found| unkept(&found)))
    }
}

fn unkept(found: &impl Serialize) -> Response {
    let mut response = match serde_json::to_vec(found) {
        Ok(json) => http::Response::new(json).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    insert(&mut response, CONTENT_TYPE, "application/json");
    insert(&mut response, CACHE_CONTROL, "no-store");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_says_so_follows_paces() {
        assert_eq!(follows(Some("nfc")), Follows::Paces);
        for other in [None, Some(""), Some("NFC"), Some("nfc, qr")] {
            assert_eq!(follows(other), Follows::PolicyAlone, "{other:?}");
        }
    }
}
