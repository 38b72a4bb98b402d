//! How do phone and authority talk to the bank?
//!
//! Answers and errors have the form of RFC 6749, so that ordinary client libraries read them.

use std::sync::Arc;

use http::StatusCode;
use protocol::dpop::{BadProof, PROOF_HEADER, SignedProof, Target, Thumbprint};
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use warp::filters::BoxedFilter;
use warp::reply::{Response, json as json_reply, with_header, with_status};
use warp::{Filter, Reply};

use crate::connect;
use crate::token::LIFETIME_S;
use crate::{Bank, Shopper, now, rail};

/// Largest form that is read, in bytes.
const FORM_MAX: u64 = 1_024;

/// What the phone sends to `POST /token`.
#[derive(Deserialize)]
struct SignIn {
    shopper: String,
    password: String,
}

/// What it gets (RFC 6749, section 5.1), and the name of the account that will pay.
#[derive(Serialize)]
struct SignedIn<'a> {
    access_token: String,
    token_type: &'static str,
    expires_in: i64,
    account: &'a str,
}

/// What the rail is asked, what `connect.rs` has, `POST /token`, `GET /.well-known/jwks.json`,
/// `GET /.well-known/oauth-authorization-server`.
pub fn routes(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let all = token(bank)
        .or(jwks(bank))
        .unify()
        .or(metadata(bank))
        .unify()
        .or(connect::routes(bank))
        .unify()
        .boxed();
    match &bank.rail {
        Some(desk) => all.or(rail::routes(desk)).unify().boxed(),
        None => all,
    }
}

fn token(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let bank = bank.clone();
    warp::path!("token")
        .and(warp::post())
        .and(warp::header::optional::<String>(PROOF_HEADER))
        .and(warp::body::content_length_limit(FORM_MAX))
        .and(warp::body::form())
        .map(move |proof: Option<String>, form: SignIn| {
            let key = match holder(&bank, proof.as_deref()) {
                Ok(key) => key,
                Err(bad) => return bad_proof(bad),
            };
            match bank.sign_in(&form.shopper, &form.password) {
                Some(shopper) => signed_in(&bank, shopper, key),
                None => refused(),
            }
        })
        .boxed()
}

/// The key that the phone proved to hold (RFC 9449, section 5). A real bank gives out nonces as well, and
/// remembers which proofs it has seen.
fn holder(bank: &Bank, proof: Option<&str>) -> Result<Thumbprint, BadProof> {
    let target = Target {
        method: "POST",
        origin: &bank.config.issuer,
        path: "/token",
    };
    let proof = SignedProof::read(proof.unwrap_or_default())?;
    let proof = proof.check(&target, None, Timestamp::from_secs(now()))?;
    Ok(proof.thumbprint())
}

fn bad_proof(bad: BadProof) -> Response {
    tracing::info!(%bad, "a proof was refused");
    let error = json!({ "error": "invalid_dpop_proof", "error_description": bad.to_string() });
    with_status(json_reply(&error), StatusCode::BAD_REQUEST).into_response()
}

fn signed_in(bank: &Bank, shopper: &Shopper, key: Thumbprint) -> Response {
    let config = &bank.config;
    tracing::info!(shopper = shopper.name, "signed in");
    let answer = SignedIn {
        access_token: bank.signer.issue(
            &config.issuer,
            &shopper.name,
            &config.audience,
            key,
            now(),
        ),
        token_type: "DPoP",
        expires_in: LIFETIME_S,
        account: &shopper.account,
    };
    with_header(json_reply(&answer), "cache-control", "no-store").into_response()
}

/// The same words for an unknown shopper and a wrong password.
fn refused() -> Response {
    tracing::info!("a sign-in was refused");
    let error = json!({
        "error": "invalid_grant",
        "error_description": "shopper or password is not right",
    });
    with_status(json_reply(&error), StatusCode::BAD_REQUEST).into_response()
}

fn jwks(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let keys = bank.signer.published();
    warp::path!(".well-known" / "jwks.json")
        .and(warp::get())
        .map(move || json_reply(&keys).into_response())
        .boxed()
}

/// RFC 8414, the members that an authority needs.
fn metadata(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let issuer = &bank.config.issuer;
    let metadata = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "response_types_supported": [],
        "grant_types_supported": ["password"],
        "dpop_signing_alg_values_supported": ["ES256"],
    });
    warp::path!(".well-known" / "oauth-authorization-server")
        .and(warp::get())
        .map(move || json_reply(&metadata).into_response())
        .boxed()
}
