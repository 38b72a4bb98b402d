//! How do passkeys come and go, and what do they sign? Public listener.
//!
//! Apps come with their access token; scripts of our own pages with the session's cookie and, where
//! something changes, the form token.

use std::sync::Arc;

use http::StatusCode;
use http::header::AUTHORIZATION;
use protocol::ids::ClaimId;
use protocol::wire::claims::{ApprovalRequest, PUBLIC_BODY_MAX};
use protocol::wire::passkeys::{PasskeyRename, PasskeyRequest};
use warp::reply::Response;
use warp::{Filter, Reply};

use super::asker::{self, Asked};
use super::public::{cookie, private, to_the_end};
use super::web;
use super::{Public, Routes, body};
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::services::phone::PhoneCookie;
use crate::services::sign_in::SignedIn;
use crate::store::hurried;

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
        .and(asker::asked())
        .and(body::json::<ApprovalRequest>(PUBLIC_BODY_MAX))
        .then(
            move |claim: ClaimId,
                  cookie: Option<PhoneCookie>,
                  from: Asked,
                  request: ApprovalRequest| {
                let journey = journey.clone();
                async move {
                    let asked = async {
                        let who = changes(&journey, &from).await?;
                        let now = journey.app.clock.now();
                        let (step_up, cookie) = (&journey.step_up, cookie.as_ref());
                        let options = step_up.options(claim, cookie, &who, &request, now).await?;
                        Ok(private(warp::reply::json(&options)))
                    };
                    asker::answered(&journey, asked.await).await
                }
            },
        );
    Routes::new("approval-options", route)
}

fn options(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys" / "options")
        .and(warp::post())
        .and(asker::asked())
        .then(move |from: Asked| {
            let journey = journey.clone();
            async move {
                let asked = async {
                    let who = changes(&journey, &from).await?;
                    let now = journey.app.clock.now();
                    let options = journey.passkeys.options(&who, now).await?;
                    Ok(private(warp::reply::json(&options)))
                };
                asker::answered(&journey, asked.await).await
            }
        });
    Routes::new("passkey-options", route)
}

fn add(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys")
        .and(warp::post())
        .and(asker::asked())
        .and(body::json::<PasskeyRequest>(PUBLIC_BODY_MAX))
        .then(move |from: Asked, request: PasskeyRequest| {
            let (journey, answering) = (journey.clone(), journey.clone());
            let work = async move {
                let who = changes(&journey, &from).await?;
                let now = journey.app.clock.now();
                let added = journey.passkeys.add(&who, &request, now).await?;
                let mut response = private(warp::reply::json(&added));
                *response.status_mut() = StatusCode::CREATED;
                Ok(response)
            };
            hurried(async move { asker::answered(&answering, to_the_end(work).await).await })
        });
    Routes::new("passkey-add", route)
}

fn list(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys")
        .and(warp::get())
        .and(asker::asked())
        .then(move |from: Asked| {
            let journey = journey.clone();
            async move {
                let asked = async {
                    let who = looks(&journey, &from).await?;
                    let list = journey.passkeys.list(&who).await?;
                    Ok(private(warp::reply::json(&list)))
                };
                asker::answered(&journey, asked.await).await
            }
        });
    Routes::new("passkey-list", route)
}

fn rename(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys" / String)
        .and(warp::post())
        .and(asker::asked())
        .and(body::json::<PasskeyRename>(PUBLIC_BODY_MAX))
        .then(move |id: String, from: Asked, request: PasskeyRename| {
            let (journey, answering) = (journey.clone(), journey.clone());
            let work = async move {
                let who = changes(&journey, &from).await?;
                let (passkeys, now) = (&journey.passkeys, journey.app.clock.now());
                passkeys.rename(&who, &id, &request.name, now).await?;
                Ok(nothing())
            };
            hurried(async move { asker::answered(&answering, to_the_end(work).await).await })
        });
    Routes::new("passkey-rename", route)
}

fn remove(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "passkeys" / String)
        .and(warp::delete())
        .and(asker::asked())
        .then(move |id: String, from: Asked| {
            let (journey, answering) = (journey.clone(), journey.clone());
            let work = async move {
                let who = changes(&journey, &from).await?;
                let now = journey.app.clock.now();
                journey.passkeys.remove(&who, &id, now).await?;
                Ok(nothing())
            };
            hurried(async move { asker::answered(&answering, to_the_end(work).await).await })
        });
    Routes::new("passkey-remove", route)
}

/// Who changes something: an app, or a page of ours.
async fn changes(journey: &Journey, from: &Asked) -> Result<SignedIn, Failure> {
    match from.headers.contains_key(AUTHORIZATION) {
        true => app(journey, from).await,
        false => web::of_script(journey, &from.headers).await?.signed_in(),
    }
}

/// Who looks: other sites cannot read what they are answered.
async fn looks(journey: &Journey, from: &Asked) -> Result<SignedIn, Failure> {
    match from.headers.contains_key(AUTHORIZATION) {
        true => app(journey, from).await,
        false => web::visitor_of(journey, &from.headers).await?.signed_in(),
    }
}

async fn app(journey: &Journey, from: &Asked) -> Result<SignedIn, Failure> {
    from.must_be_signed_in(journey, journey.app.clock.now())
        .await
}

fn nothing() -> Response {
    private(StatusCode::NO_CONTENT.into_response())
}
