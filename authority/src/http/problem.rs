//! How does a refusal leave this house?

use std::convert::Infallible;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use protocol::problem::{PROBLEM_JSON, Problem, ProblemType};
use warp::reject::{self, Reject};
use warp::reply::Response;
use warp::{Rejection, Reply};

use crate::services::Failure;

/// A refusal is about this request and this moment.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// What a handler answers: its reply, or why not.
pub type Answer<R = Response> = Result<R, Failure>;

/// Turns what a handler answers into a response.
pub fn answer<R: Reply>(result: Answer<R>) -> Response {
    match result {
        Ok(reply) => reply.into_response(),
        Err(failure) => response(&failure.into_problem()),
    }
}

/// The problem as a response, with Retry-After where there is something to wait for.
pub fn response(problem: &Problem) -> Response {
    let body = serde_json::to_vec(problem).expect("a problem is strings and numbers");
    let mut response = http::Response::new(body).into_response();
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(CACHE_CONTROL, NOT_KEPT);
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(scheme) = scheme_of(problem) {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    }
    response
}

/// A refusal that was given before: the same bytes.
pub fn again(status: u16, body: Vec<u8>) -> Response {
    let mut response = http::Response::new(body).into_response();
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media = HeaderValue::from_static(PROBLEM_JSON);
    response.headers_mut().insert(CONTENT_TYPE, media);
    response.headers_mut().insert(CACHE_CONTROL, NOT_KEPT);
    response
}

/// How to authenticate where that was missing or not good (RFC 9110, section 11.6.1; RFC 9449, section 7.1).
fn scheme_of(problem: &Problem) -> Option<&'static str> {
    match problem.problem_type()? {
        ProblemType::JoinTokenRefused => Some("Basic realm=\"m2key enrolment\""),
        ProblemType::SignInNeeded => Some("DPoP algs=\"ES256\""),
        ProblemType::SignInRefused => Some("DPoP error=\"invalid_token\", algs=\"ES256\""),
        ProblemType::ProofRefused => Some("DPoP error=\"invalid_dpop_proof\", algs=\"ES256\""),
        ProblemType::NonceNeeded => Some("DPoP error=\"use_dpop_nonce\", algs=\"ES256\""),
        _ => None,
    }
}

/// A refusal of an extractor, on its way through warp.
#[derive(Debug)]
pub struct Refused(pub Problem);

impl Reject for Refused {}

/// Refuses from within a filter.
pub fn refuse(failure: impl Into<Failure>) -> Rejection {
    reject::custom(Refused(failure.into().into_problem()))
}

/// The last stop: whatever no route took. Never a bare 404, 405 or 500.
pub async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    if let Some(Refused(problem)) = rejection.find() {
        return Ok(response(problem));
    }
    Ok(response(&of_rejection(&rejection)))
}

fn of_rejection(rejection: &Rejection) -> Problem {
    if rejection.is_not_found() {
        return Problem::new(ProblemType::NotFound);
    }
    if rejection.find::<reject::MethodNotAllowed>().is_some() {
        return Problem::new(ProblemType::MethodNotAllowed);
    }
    if rejection.find::<reject::PayloadTooLarge>().is_some() {
        return Problem::new(ProblemType::BodyTooLarge);
    }
    match malformed(rejection) {
        Some(detail) => Problem::new(ProblemType::MalformedRequest).with_detail(detail),
        None => {
            tracing::error!(?rejection, "a rejection that nothing here explains");
            Problem::new(ProblemType::Internal)
        }
    }
}

fn malformed(rejection: &Rejection) -> Option<String> {
    fn of<E: std::fmt::Display + 'static>(rejection: &Rejection) -> Option<String> {
        rejection.find::<E>().map(ToString::to_string)
    }
    of::<reject::InvalidQuery>(rejection)
        .or_else(|| of::<reject::MissingHeader>(rejection))
        .or_else(|| of::<reject::InvalidHeader>(rejection))
        .or_else(|| of::<reject::MissingCookie>(rejection))
        .or_else(|| of::<reject::LengthRequired>(rejection))
        .or_else(|| of::<reject::UnsupportedMediaType>(rejection))
        .or_else(|| of::<warp::filters::body::BodyDeserializeError>(rejection))
}
