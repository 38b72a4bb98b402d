//! How do phones claim, look and approve? Public listener.

use std::future::Future;
use std::sync::Arc;

use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
};
use http::{HeaderName, StatusCode};
use protocol::ids::ClaimId;
use protocol::problem::ProblemType;
use protocol::wire::claims::{
    ApprovalRequest, CLAIM_COOKIE, CLAIMS_PATH, ClaimRequest, PUBLIC_BODY_MAX, Pending,
    PendingResponse,
};
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::asker::{self, Asked};
use super::problem::{Answer, answer};
use super::{Public, Routes, body, openapi, passkeys, wallet};
use crate::services::approvals::Answered;
use crate::services::journey::Journey;
use crate::services::jwks;
use crate::services::payments::PENDING_RETRY_S;
use crate::services::phone::PhoneCookie;
use crate::services::sources::Source;
use crate::services::to_the_end;
use crate::store::hurried;

/// Everything a phone or a browser may ask.
pub fn routes(journey: &Arc<Journey>) -> Routes<Public> {
    claim(journey)
        .or(view(journey))
        .or(approve(journey))
        .or(passkeys::routes(journey))
        .or(keys(journey))
        .or(wallet::routes(journey))
        .or(openapi::routes(journey))
        .or(super::books::shoppers(journey))
}

fn claim(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "claims")
        .and(warp::post())
        .and(warp::ext::optional::<Source>())
        .and(asker::asked())
        .and(body::json::<ClaimRequest>(PUBLIC_BODY_MAX))
        .then(
            move |from: Option<Source>, asked: Asked, request: ClaimRequest| {
                let (journey, answering) = (journey.clone(), journey.clone());
                let work = async move {
                    let now = journey.app.clock.now();
                    let signed_in = asked.signed_in(&journey, now).await?;
                    let claims = &journey.claims;
                    let claimed = claims.claim(&request.token, signed_in.as_ref(), now).await;
                    let hears = |terminal| journey.push.hears(terminal);
                    let places = &journey.places;
                    places.note(&request.token, from, &claimed, hears, now);
                    let new = claimed?;
                    let mut response = private(warp::reply::json(&new.view));
                    *response.status_mut() = StatusCode::CREATED;
                    let place = format!("{CLAIMS_PATH}/{}", new.view.claim);
                    insert(&mut response, LOCATION, &place);
                    insert(&mut response, SET_COOKIE, &new.cookie.set_cookie());
                    Ok(response)
                };
                hurried(async move { asker::answered(&answering, to_the_end(work).await).await })
            },
        );
    Routes::new("claim", route)
}

fn view(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "claims" / ClaimId)
        .and(warp::get())
        .and(cookie())
        .then(move |claim: ClaimId, cookie: Option<PhoneCookie>| {
            let journey = journey.clone();
            async move {
                crate::logging::follow_claim(claim);
                let now = journey.app.clock.now();
                let view = journey.claims.view(claim, cookie.as_ref(), now).await;
                if let (Ok(_), Some(cookie)) = (&view, &cookie) {
                    journey.sources.note_holder(cookie);
                }
                answer(view.map(|view| private(warp::reply::json(&view))))
            }
        });
    Routes::new("claim-view", route)
}

fn approve(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "claims" / ClaimId / "approval")
        .and(warp::post())
        .and(cookie())
        .and(asker::asked())
        .and(body::json::<ApprovalRequest>(PUBLIC_BODY_MAX))
        .then(
            move |claim: ClaimId,
                  cookie: Option<PhoneCookie>,
                  asked: Asked,
                  request: ApprovalRequest| {
                let (journey, answering) = (journey.clone(), journey.clone());
                let work = async move {
                    let now = journey.app.clock.now();
                    let signed_in = asked.must_be_signed_in(&journey, now).await?;
                    let (approvals, cookie) = (&journey.approvals, cookie.as_ref());
                    let paid = approvals.approve(claim, cookie, &signed_in, &request, now);
                    Ok(approved(paid.await?))
                };
                hurried(async move { asker::answered(&answering, to_the_end(work).await).await })
            },
        );
    Routes::new("approval", route)
}

fn keys(journey: &Arc<Journey>) -> Routes<Public> {
    let app = journey.app.clone();
    let route = warp::path!(".well-known" / "jwks.json")
        .and(warp::get())
        .map(move || key_set(jwks::published(&app.keyring())));
    Routes::new("jwks", route)
}

/// The same on both listeners.
pub(super) fn key_set(set: bytes::Bytes) -> Response {
    let mut response = http::Response::new(set).into_response();
    let kept = format!("public, max-age={}", jwks::JWKS_MAX_AGE_S);
    insert(&mut response, CONTENT_TYPE, "application/jwk-set+json");
    insert(&mut response, CACHE_CONTROL, &kept);
    response
}

/// Goes on when the phone hangs up: money that has moved gets its receipt, and the till hears of it.
pub(super) async fn to_the_end<W>(work: W) -> Answer
where
    W: Future<Output = Answer> + Send + 'static,
{
    let done = to_the_end::to_the_end(work).await;
    done.unwrap_or_else(|| Err(ProblemType::Internal.into()))
}

/// What is not a cookie of ours is no cookie.
pub(super) fn cookie() -> BoxedFilter<(Option<PhoneCookie>,)> {
    warp::cookie::optional::<String>(CLAIM_COOKIE)
        .map(|value: Option<String>| value.and_then(|value| PhoneCookie::parse(&value)))
        .boxed()
}

pub(super) fn approved(answered: Answered) -> Response {
    match answered {
        Answered::Receipt(bytes) => json_bytes(bytes),
        Answered::Pending(payment) => {
            let state = Pending::Pending;
            let pending = PendingResponse { state, payment };
            let mut response = private(warp::reply::json(&pending));
            *response.status_mut() = StatusCode::ACCEPTED;
            insert(&mut response, RETRY_AFTER, &PENDING_RETRY_S.to_string());
            response
        }
    }
}

pub(super) fn json_bytes(bytes: Vec<u8>) -> Response {
    let mut response = private(http::Response::new(bytes));
    insert(&mut response, CONTENT_TYPE, "application/json");
    response
}

/// For this phone only: kept nowhere, passed on nowhere.
pub(super) fn private(reply: impl Reply) -> Response {
    let mut response = reply.into_response();
    insert(&mut response, CACHE_CONTROL, "no-store");
    insert(&mut response, REFERRER_POLICY, "no-referrer");
    response
}

pub(super) fn insert(response: &mut Response, name: HeaderName, value: &str) {
    let value = HeaderValue::from_str(value).expect("made here of visible ASCII");
    response.headers_mut().insert(name, value);
}
