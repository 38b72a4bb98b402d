//! How does a terminal get its certificates? EST (RFC 7030) on the agents' listener.
//!
//! ```text
//! GET  /.well-known/est/cacerts          issuing and root certificates; compare the root's fingerprint
//! GET  /.well-known/est/csrattrs         what a request must be like
//! POST /.well-known/est/simpleenroll     Authorization: Basic <terminal>:<join token>, PKCS#10 in base64
//! POST /.well-known/est/simplereenroll   under the certificate that is renewed, PKCS#10 in base64
//! ```

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use pki::{Certificate, IssuingCa, csr, est};
use protocol::problem::{Problem, ProblemType};
use warp::reply::Response;
use warp::{Filter, Reply};
use zeroize::Zeroizing;

use super::extract::{Renewing, renewing};
use super::problem::{Answer, answer};
use super::{Private, Routes, body};
use crate::app::App;
use crate::services::join::JoinToken;
use crate::services::trust::Trust;
use crate::services::{enrolment, renewal};

const CONTENT_TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// Only the last demands a client certificate: a terminal that enrols has none yet.
pub fn routes(app: &Arc<App>) -> Routes<Private> {
    let all = cacerts(app)
        .or(csrattrs())
        .or(simpleenroll(app))
        .or(simplereenroll(app));
    all.at("/.well-known/est")
}

fn cacerts(app: &Arc<App>) -> Routes<Private> {
    let app = app.clone();
    let route = warp::path!(".well-known" / "est" / "cacerts").and(warp::get());
    let kept = Arc::new(Kept::default());
    let serve = move || answer(kept.shown(&app));
    Routes::new("est-cacerts", route.map(serve))
}

fn csrattrs() -> Routes<Private> {
    let route = warp::path!(".well-known" / "est" / "csrattrs").and(warp::get());
    Routes::new("est-csrattrs", route.map(|| answer(attributes())))
}

/// The same for everybody, and so encoded once.
fn attributes() -> Answer {
    static ATTRIBUTES: OnceLock<Bytes> = OnceLock::new();
    let body = match ATTRIBUTES.get() {
        Some(body) => body.clone(),
        None => {
            let body = Bytes::from(est::csr_attributes()?);
            ATTRIBUTES.get_or_init(|| body).clone()
        }
    };
    Ok(base64(body, est::EST_CSR_ATTRIBUTES))
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

fn simplereenroll(app: &Arc<App>) -> Routes<Private> {
    let asked_app = app.clone();
    let route = warp::path!(".well-known" / "est" / "simplereenroll")
        .and(warp::post())
        .and(renewing(app))
        .and(body::bytes(csr::CSR_MAX_BYTES as u64))
        .then(move |terminal: Renewing, body: Vec<u8>| {
            let app = asked_app.clone();
            async move { answer(renew(&app, &terminal, &body).await) }
        });
    Routes::new("est-simplereenroll", route)
}

async fn renew(app: &App, terminal: &Renewing, body: &[u8]) -> Answer {
    let renewed = renewal::renew(app, terminal.id(), terminal.serial(), body).await?;
    certs_only(&[renewed])
}

async fn enrol(app: &App, authorization: Option<Zeroizing<String>>, body: &[u8]) -> Answer {
    let token = authorization
        .and_then(|header| join_token(&header))
        .ok_or_else(no_join_token)?;
    let certificate = enrolment::enrol(app, &token, body).await?;
    certs_only(&[certificate])
}

/// The body as of now, encoded once for each change of what is shown.
#[derive(Default)]
struct Kept(Mutex<Option<Shown>>);

struct Shown {
    /// What it was made from.
    trust: Arc<Trust>,
    issuing: Vec<IssuingCa>,
    body: Bytes,
}

impl Kept {
    fn shown(&self, app: &App) -> Answer {
        let (trust, issuing) = (app.trust(), app.issuer.issuing_cas());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |it: &&mut Shown| Arc::ptr_eq(&it.trust, &trust) && it.issuing == issuing;
        if let Some(shown) = kept.as_mut().filter(is_same) {
            return Ok(base64(shown.body.clone(), est::EST_CERTS_ONLY));
        }
        let certificates = enrolment::chain(app);
        let all: Vec<_> = certificates.iter().collect();
        let body = Bytes::from(est::encode(&all)?);
        *kept = Some(Shown {
            trust,
            issuing,
            body: body.clone(),
        });
        Ok(base64(body, est::EST_CERTS_ONLY))
    }
}

fn certs_only(certificates: &[Certificate]) -> Answer {
    let all: Vec<_> = certificates.iter().collect();
    Ok(base64(est::encode(&all)?, est::EST_CERTS_ONLY))
}

fn base64(body: impl Into<Bytes>, media: &'static str) -> Response {
    let mut response = http::Response::new(body.into()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(media));
    let base64 = http::HeaderValue::from_static("base64");
    headers.insert(CONTENT_TRANSFER_ENCODING, base64);
    response
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
