//! How do passkeys come and go, and what do they sign? Public listener.
//!
//! Apps come with their access token; scripts of our own pages with the session's cookie and, where
//! something changes, the form token.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use protocol::ids::ClaimId;
use protocol::problem::ProblemType;
use protocol::wire::claims::{ApprovalRequest, PUBLIC_BODY_MAX};
use protocol::wire::passkeys::{PasskeyRename, PasskeyRequest};
use warp::reply::Response;
use warp::{Filter, Reply};

use super::problem::answer;
use super::public::{cookie, private, signed_in, to_the_end};
use super::web;
use super::{Public, Routes, body};
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::services::phone::PhoneCookie;
use crate::services::sign_in::SignedIn;

/// Passkeys, and challenges of payments.
pub fn routes(journey: &Arc<Journey>) -> Routes<Public> {
    confirm_options(journey)
        .or(options(journey))
        .or(add(journey))
        .or(list(journey))
        .or(rename(journey))
        .or(remove(journey))
}

fn confirm_options(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "claims" / ClaimId / "approval" / "options")
        .and(warp::post())
        .and(cookie())
        .and(warp::header::headers_cloned())
        .and(body::json::<ApprovalRequest>(PUBLIC_BODY_MAX))
        .then(
            move |claim: ClaimId,
                  cookie: Option<PhoneCookie>,
                  headers: HeaderMap,
                  request: ApprovalRequest| {
                let journey = journey.clone();
                async move {
                    let asked = async {
                        let who = changes(&journey, &headers).await?;
                        let now = journey.app.clock.now();
                        let (step_up, cookie) = (&journey.step_up, cookie.as_ref());
                        let options = step_up.options(claim, cookie, &who, &request, now).await?;
                        Ok(private(warp::reply::json(&options)))
                    };
                    answer(asked.await)
                }
            },
        );
    Routes::new("approval-options", route)
}

fn options(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys" / "options")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .then(move |headers: HeaderMap| {
            let journey = journey.clone();
            async move {
                let asked = async {
                    let who = changes(&journey, &headers).await?;
                    let now = journey.app.clock.now();
                    let options = journey.passkeys.options(&who, now).await?;
                    Ok(private(warp::reply::json(&options)))
                };
                answer(asked.await)
            }
        });
    Routes::new("passkey-options", route)
}

fn add(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(body::json::<PasskeyRequest>(PUBLIC_BODY_MAX))
        .then(move |headers: HeaderMap, request: PasskeyRequest| {
            let journey = journey.clone();
            let work = async move {
                let who = changes(&journey, &headers).await?;
                let now = journey.app.clock.now();
                let added = journey.passkeys.add(&who, &request, now).await?;
                let mut response = private(warp::reply::json(&added));
                *response.status_mut() = StatusCode::CREATED;
                Ok(response)
            };
            async move { answer(to_the_end(work).await) }
        });
    Routes::new("passkey-add", route)
}

fn list(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys")
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .then(move |headers: HeaderMap| {
            let journey = journey.clone();
            async move {
                let asked = async {
                    let who = looks(&journey, &headers).await?;
                    let list = journey.passkeys.list(&who).await?;
                    Ok(private(warp::reply::json(&list)))
                };
                answer(asked.await)
            }
        });
    Routes::new("passkey-list", route)
}

fn rename(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys" / String)
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(body::json::<PasskeyRename>(PUBLIC_BODY_MAX))
        .then(
            move |id: String, headers: HeaderMap, request: PasskeyRename| {
                let journey = journey.clone();
                let work = async move {
                    let who = changes(&journey, &headers).await?;
                    let (passkeys, now) = (&journey.passkeys, journey.app.clock.now());
                    passkeys.rename(&who, &id, &request.name, now).await?;
                    Ok(nothing())
                };
                async move { answer(to_the_end(work).await) }
            },
        );
    Routes::new("passkey-rename", route)
}

fn remove(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys" / String)
        .and(warp::delete())
        .and(warp::header::headers_cloned())
        .then(move |id: String, headers: HeaderMap| {
            let journey = journey.clone();
            let work = async move {
                let who = changes(&journey, &headers).await?;
                let now = journey.app.clock.now();
                journey.passkeys.remove(&who, &id, now).await?;
                Ok(nothing())
            };
            async move { answer(to_the_end(work).await) }
        });
    Routes::new("passkey-remove", route)
}

/// Who changes something: an app, or a page of ours.
async fn changes(journey: &Journey, headers: &HeaderMap) -> Result<SignedIn, Failure> {
    match headers.contains_key(AUTHORIZATION) {
        true => app(journey, headers).await,
        false => web::of_script(journey, headers).await?.signed_in(),
    }
}

/// Who looks: other sites cannot read what they are answered.
async fn looks(journey: &Journey, headers: &HeaderMap) -> Result<SignedIn, Failure> {
    match headers.contains_key(AUTHORIZATION) {
        true => app(journey, headers).await,
        false => web::visitor_of(journey, headers).await?.signed_in(),
    }
}

async fn app(journey: &Journey, headers: &HeaderMap) -> Result<SignedIn, Failure> {
    let signed_in = signed_in(journey, headers).await?;
    Ok(signed_in.ok_or(ProblemType::SignInNeeded)?)
}

fn nothing() -> Response {
    private(StatusCode::NO_CONTENT.into_response())
}
