//! How does a terminal get its certificate? EST (RFC 7030) on the agents' listener.
//!
//! ```text
//! GET  /.well-known/est/cacerts        issuing and root certificate; compare the root's fingerprint
//! POST /.well-known/est/simpleenroll   Authorization: Basic <terminal>:<join token>, PKCS#10 in base64
//! ```

use std::sync::Arc;

use base64ct::{Base64, Encoding};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use pki::{Certificate, csr, est};
use protocol::problem::{Problem, ProblemType};
use warp::reply::Response;
use warp::{Filter, Reply};
use zeroize::Zeroizing;

use super::problem::{Answer, answer};
use super::{Private, Routes, body};
use crate::app::App;
use crate::services::enrolment;
use crate::services::join::JoinToken;

const CONTENT_TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// Both take no client certificate: a terminal that enrols has none yet.
pub fn routes(app: &Arc<App>) -> Routes<Private> {
    cacerts(app).or(simpleenroll(app))
}

fn cacerts(app: &Arc<App>) -> Routes<Private> {
    let app = app.clone();
    let route = warp::path!(".well-known" / "est" / "cacerts").and(warp::get());
    let serve = move || answer(certs_only(&enrolment::chain(&app)));
    Routes::new("est-cacerts", route.map(serve))
}

fn simpleenroll(app: &Arc<App>) -> Routes<Private> {
    let app = app.clone();
    let route = warp::path!(".well-known" / "est" / "simpleenroll")
        .and(warp::post())
        .and(warp::header::optional::<String>(AUTHORIZATION.as_str()))
        .and(body::bytes(csr::CSR_MAX_BYTES as u64))
        .then(move |authorization: Option<String>, body: Vec<u8>| {
            let (app, authorization) = (app.clone(), authorization.map(Zeroizing::new));
            async move { answer(enrol(&app, authorization, &body).await) }
        });
    Routes::new("est-simpleenroll", route)
}

async fn enrol(app: &App, authorization: Option<Zeroizing<String>>, body: &[u8]) -> Answer {
    let token = authorization
        .and_then(|header| join_token(&header))
        .ok_or_else(no_join_token)?;
    let certificate = enrolment::enrol(app, &token, body).await?;
    certs_only(&[certificate])
}

fn certs_only(certificates: &[Certificate]) -> Answer {
    let all: Vec<_> = certificates.iter().collect();
    let mut response: Response = est::encode(&all)?.into_response();
    let headers = response.headers_mut();
    let media = http::HeaderValue::from_static(est::EST_CERTS_ONLY);
    headers.insert(CONTENT_TYPE, media);
    let base64 = http::HeaderValue::from_static("base64");
    headers.insert(CONTENT_TRANSFER_ENCODING, base64);
    Ok(response)
}

fn join_token(authorization: &str) -> Option<JoinToken> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(Base64::decode_vec(credentials.trim()).ok()?);
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    JoinToken::from_credentials(name, password).ok()
}

fn no_join_token() -> Problem {
    Problem::new(ProblemType::JoinTokenRefused)
        .with_detail("send the terminal id and its join token as HTTP Basic credentials")
}
