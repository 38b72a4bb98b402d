//! What may anybody ask? Phones claim and approve; everybody may have the keys that verify.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use protocol::ids::ClaimId;
use protocol::problem::ProblemType;
use protocol::wire::claims::{ApprovalRequest, CLAIM_COOKIE, ClaimRequest, PUBLIC_BODY_MAX};
use warp::reply::Response;
use warp::{Filter, Reply};

use super::problem::{Answer, answer};
use super::{Public, Routes, body, jwks, landing};
use crate::app::App;
use crate::services::Failure;
use crate::services::approvals;
use crate::services::claims::{self, PhoneSecret};
use crate::services::sign_in::SignedIn;

/// Everything the public listener serves.
pub fn routes(app: &Arc<App>) -> Routes<Public> {
    claim(app)
        .or(look(app))
        .or(approve(app))
        .or(jwks::routes(app))
        .or(landing::routes())
}

fn claim(app: &Arc<App>) -> Routes<Public> {
    let app = app.clone();
    let route = warp::path!("v1" / "claims")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(body::json::<ClaimRequest>(PUBLIC_BODY_MAX))
        .then(move |headers: HeaderMap, request: ClaimRequest| {
            let app = app.clone();
            async move { answer(do_claim(&app, &headers, &request).await) }
        });
    Routes::new("claim", route)
}

fn look(app: &Arc<App>) -> Routes<Public> {
    let app = app.clone();
    let route = warp::path!("v1" / "claims" / ClaimId)
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .then(move |id: ClaimId, headers: HeaderMap| {
            let app = app.clone();
            async move { answer(do_look(&app, id, &headers).await) }
        });
    Routes::new("claim-look", route)
}

fn approve(app: &Arc<App>) -> Routes<Public> {
    let app = app.clone();
    let route = warp::path!("v1" / "claims" / ClaimId / "approval")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(body::json::<ApprovalRequest>(PUBLIC_BODY_MAX))
        .then(
            move |id: ClaimId, headers: HeaderMap, request: ApprovalRequest| {
                let app = app.clone();
                async move { answer(do_approve(&app, id, &headers, &request).await) }
            },
        );
    Routes::new("approval", route)
}

async fn do_claim(app: &App, headers: &HeaderMap, request: &ClaimRequest) -> Answer {
    let signed_in = signed_in(app, headers).await?;
    let (view, secret) = claims::claim(app, request, signed_in.as_ref()).await?;
    let mut response = private(&view);
    *response.status_mut() = StatusCode::CREATED;
    response
        .headers_mut()
        .insert(SET_COOKIE, cookie(view.claim, &secret));
    Ok(response)
}

async fn do_look(app: &App, id: ClaimId, headers: &HeaderMap) -> Answer {
    let claim = claims::of_phone(app, id, phone(headers, id).as_ref()).await?;
    Ok(private(&claims::view(claim.record())))
}

async fn do_approve(
    app: &App,
    id: ClaimId,
    headers: &HeaderMap,
    request: &ApprovalRequest,
) -> Answer {
    let claim = claims::of_phone(app, id, phone(headers, id).as_ref()).await?;
    let shopper = signed_in(app, headers)
        .await?
        .ok_or(ProblemType::SignInNeeded)?;
    Ok(private(
        &approvals::approve(app, claim, &shopper, request).await?,
    ))
}

/// None without an Authorization header; one that does not hold is a refusal, not nobody.
async fn signed_in(app: &App, headers: &HeaderMap) -> Result<Option<SignedIn>, Failure> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let bearer = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    let token = bearer.ok_or(ProblemType::SignInRefused)?;
    app.sign_in
        .verify(token, app.clock.now(), &app.metrics)
        .await
        .map(Some)
}

/// `<claim>.<secret>`: bound to this origin, out of reach of scripts, gone with the browser session.
fn cookie(claim: ClaimId, secret: &PhoneSecret) -> HeaderValue {
    let secret = secret.text();
    let text = format!("{CLAIM_COOKIE}={claim}.{secret}; Secure; HttpOnly; SameSite=Lax; Path=/");
    let mut value = HeaderValue::from_str(&text).expect("a UUID and base64url are header text");
    value.set_sensitive(true);
    value
}

/// The secret this phone shows for this claim.
fn phone(headers: &HeaderMap, id: ClaimId) -> Option<PhoneSecret> {
    let cookies = headers.get_all(http::header::COOKIE).into_iter();
    let pairs = cookies
        .filter_map(|header| header.to_str().ok())
        .flat_map(|text| text.split(';'));
    let mut values =
        pairs.filter_map(|pair| pair.trim().strip_prefix(CLAIM_COOKIE)?.strip_prefix('='));
    values.find_map(|value| {
        let (claim, secret) = value.split_once('.')?;
        (claim.parse::<ClaimId>() == Ok(id)).then(|| PhoneSecret::parse(secret))?
    })
}

/// JSON that is for this phone alone.
fn private<T: serde::Serialize>(body: &T) -> Response {
    let mut response = warp::reply::json(body).into_response();
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
