//! How do phones claim, look and approve? Public listener.

use std::future::Future;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION,
    REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, StatusCode};
use protocol::ids::ClaimId;
use protocol::problem::ProblemType;
use protocol::wire::claims::{
    ApprovalRequest, CLAIM_COOKIE, CLAIMS_PATH, ClaimRequest, PUBLIC_BODY_MAX, Pending,
    PendingResponse,
};
use sha2::{Digest, Sha256};
use tracing::Instrument;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::problem::{Answer, answer};
use super::{Public, Routes, body};
use crate::services::Failure;
use crate::services::approvals::Answered;
use crate::services::journey::Journey;
use crate::services::jwks;
use crate::services::payments::PENDING_RETRY_S;
use crate::services::phone::PhoneCookie;
use crate::services::sign_in::SignedIn;

/// Everything a phone or a browser may ask.
pub fn routes(journey: &Arc<Journey>) -> Routes<Public> {
    claim(journey)
        .or(view(journey))
        .or(approve(journey))
        .or(keys(journey))
        .or(super::books::shoppers(journey))
        .or(landing())
}

fn claim(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("v1" / "claims")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(body::json::<ClaimRequest>(PUBLIC_BODY_MAX))
        .then(move |headers: HeaderMap, request: ClaimRequest| {
            let journey = journey.clone();
            let work = async move {
                let now = journey.app.clock.now();
                let signed_in = signed_in(&journey, &headers).await?;
                let claims = &journey.claims;
                let new = claims
                    .claim(&request.token, signed_in.as_ref(), now)
                    .await?;
                let mut response = private(warp::reply::json(&new.view));
                *response.status_mut() = StatusCode::CREATED;
                let place = format!("{CLAIMS_PATH}/{}", new.view.claim);
                insert(&mut response, LOCATION, &place);
                insert(&mut response, SET_COOKIE, &new.cookie.set_cookie());
                Ok(response)
            };
            async move { answer(to_the_end(work).await) }
        });
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
        .and(warp::header::headers_cloned())
        .and(body::json::<ApprovalRequest>(PUBLIC_BODY_MAX))
        .then(
            move |claim: ClaimId,
                  cookie: Option<PhoneCookie>,
                  headers: HeaderMap,
                  request: ApprovalRequest| {
                let journey = journey.clone();
                let work = async move {
                    let now = journey.app.clock.now();
                    let signed_in = signed_in(&journey, &headers).await?;
                    let signed_in = signed_in.ok_or(ProblemType::SignInNeeded)?;
                    let (approvals, cookie) = (&journey.approvals, cookie.as_ref());
                    let paid = approvals.approve(claim, cookie, &signed_in, &request, now);
                    Ok(approved(paid.await?))
                };
                async move { answer(to_the_end(work).await) }
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

/// A link from a tag or a QR code, opened in a browser: says how to go on, and spends nothing. The
/// token is in the address only; the page neither reads it nor lets the browser pass it on.
fn landing() -> Routes<Public> {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; frame-ancestors 'none'; base-uri 'none'",
        Base64::encode_string(&Sha256::digest(STYLE))
    );
    let page = format!("{PAGE_HEAD}<style>{STYLE}</style>{PAGE_BODY}");
    let route = warp::path!("t" / String)
        .and(warp::get())
        .map(move |_unread: String| {
            let mut response = private(warp::reply::html(page.clone()));
            insert(&mut response, CONTENT_SECURITY_POLICY, &policy);
            response
        });
    Routes::new("landing", route)
}

const STYLE: &str = "body{font:1.125rem/1.5 system-ui,sans-serif;max-width:32rem;\
    margin:15vh auto;padding:0 1.5rem;color:#1b1f24;background:#fff}h1{font-size:1.5rem}\
    @media(prefers-color-scheme:dark){body{color:#e6e9ed;background:#14171a}}";
const PAGE_HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
    <meta name=\"referrer\" content=\"no-referrer\"><meta name=\"robots\" content=\"noindex\">\
    <title>Pay at this terminal</title>";
const PAGE_BODY: &str = "</head><body><main><h1>You are at a terminal</h1>\
    <p>Nothing has been paid, and nothing was used up by opening this page.</p>\
    <p>Open your payment app and tap or scan the terminal again from there. The app shows who is \
    paid and how much before you approve.</p>\
    <p>No app that takes this terminal? Ask the merchant for another way to pay.</p>\
    </main></body></html>";

/// Goes on when the phone hangs up: money that has moved gets its receipt, and the till hears of it.
pub(super) async fn to_the_end<W>(work: W) -> Answer
where
    W: Future<Output = Answer> + Send + 'static,
{
    let done = tokio::spawn(work.instrument(tracing::Span::current())).await;
    done.unwrap_or_else(|_panicked| Err(ProblemType::Internal.into()))
}

/// Who is signed in: nobody without the header, and nobody with one that is not good.
pub(super) async fn signed_in(
    journey: &Journey,
    headers: &HeaderMap,
) -> Result<Option<SignedIn>, Failure> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let access_token = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let access_token = access_token.ok_or(ProblemType::SignInRefused)?;
    let now = journey.app.clock.now();
    journey.sign_in.verify(access_token, now).await.map(Some)
}

/// What is not a cookie of ours is no cookie.
fn cookie()
-> impl Filter<Extract = (Option<PhoneCookie>,), Error = std::convert::Infallible> + Clone {
    warp::cookie::optional::<String>(CLAIM_COOKIE)
        .map(|value: Option<String>| value.and_then(|value| PhoneCookie::parse(&value)))
}

fn approved(answered: Answered) -> Response {
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

fn json_bytes(bytes: Vec<u8>) -> Response {
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
