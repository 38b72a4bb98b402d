//! Who may talk to the interfaces on this machine, and how are they refused?
//!
//! Loopback is not authentication: any web page in any browser here can send requests. So the Host
//! must be this listener, an Origin (if there is one) its own, what a browser says of the page that asks
//! must name this one or nobody, and kiosk and till want a secret.

use std::convert::Infallible;
use std::net::SocketAddr;

use protocol::problem::{PROBLEM_JSON, Problem, ProblemType};
use serde::Serialize;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode, header};
use warp::reject::{Reject, Rejection};
use warp::reply::Response;
use warp::{Filter, Reply};

/// On every answer: nothing from elsewhere, nothing inline, nothing kept.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Browsers say with it whose page asks, also where they send no Origin: an image, a script, a link.
const SEC_FETCH_SITE: header::HeaderName = header::HeaderName::from_static("sec-fetch-site");
/// A page of this listener, or a person who typed the address.
const OWN_SITES: [&str; 2] = ["same-origin", "none"];
/// Nothing of ours is drawn or run in a page of another origin.
const CORP: header::HeaderName = header::HeaderName::from_static("cross-origin-resource-policy");

/// A refusal on its way out.
#[derive(Debug)]
pub struct Refusal(pub Box<Problem>);

impl Reject for Refusal {}

pub fn refuse(problem: ProblemType, detail: impl std::fmt::Display) -> Rejection {
    reject(Problem::new(problem).with_detail(detail))
}

pub fn reject(problem: Problem) -> Rejection {
    warp::reject::custom(Refusal(Box::new(problem)))
}

/// Lets only requests through that were meant for this listener.
pub fn own_host(address: SocketAddr) -> BoxedFilter<()> {
    warp::header::headers_cloned()
        .and_then(move |headers: HeaderMap| async move {
            let text = |name| {
                headers
                    .get(name)
                    .map(|v| v.to_str().unwrap_or("?").to_owned())
            };
            let host_fits = text(header::HOST).is_some_and(|h| is_own_host(&h, address));
            let origin_fits = text(header::ORIGIN).is_none_or(|o| is_own_origin(&o, address));
            let site_fits = text(SEC_FETCH_SITE).is_none_or(|s| OWN_SITES.contains(&s.as_str()));
            if host_fits && origin_fits && site_fits {
                Ok(())
            } else {
                Err(reject(Problem::new(ProblemType::ForeignCaller)))
            }
        })
        .untuple_one()
        .boxed()
}

/// Turns every rejection into problem+json.
pub async fn refusals(rejection: Rejection) -> Result<Response, Infallible> {
    if let Some(Refusal(problem)) = rejection.find() {
        return Ok(problem_reply(problem));
    }
    let problem = if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        ProblemType::BodyTooLarge
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        ProblemType::MethodNotAllowed
    } else if rejection.is_not_found() {
        ProblemType::NotFound
    } else {
        ProblemType::MalformedRequest
    };
    Ok(problem_reply(&Problem::new(problem)))
}

pub fn problem_reply(problem: &Problem) -> Response {
    let mut reply = json_reply(problem);
    *reply.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static(PROBLEM_JSON);
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(seconds) = problem.retry_after_s {
        reply
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    reply
}

pub fn json_reply(body: &impl Serialize) -> Response {
    warp::reply::json(body).into_response()
}

/// The headers that every answer carries.
pub fn hardened(mut reply: Response) -> Response {
    let headers = reply.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (CORP, "same-origin"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    reply
}

fn is_own_host(host: &str, address: SocketAddr) -> bool {
    let port = address.port();
    host == address.to_string() || host == format!("localhost:{port}")
}

fn is_own_origin(origin: &str, address: SocketAddr) -> bool {
    origin
        .strip_prefix("http://")
        .is_some_and(|host| is_own_host(host, address))
}
