//! How do others fetch a revocation list? `GET /crl/<key identifier of the issuing CA>.crl`.
//!
//! On the public listener, and on the loopback one for a proxy that serves it over plain HTTP.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use http::{HeaderMap, Method, StatusCode};
use http_body::Body;
use protocol::problem::{Problem, ProblemType};
use warp::reply::Response;
use warp::{Filter, Reply};

use super::Routes;
use super::problem::{Answer, answer};
use super::public::insert;
use crate::clock::unix_seconds;
use crate::services::Failure;
use crate::services::crls::{CRL_MAX_AGE_S, CRL_RETRY, Crls, Published};

/// The media type of a list (RFC 2585, 4.2).
const PKIX_CRL: &str = "application/pkix-crl";

/// The same on every listener that has it.
pub fn routes<L: 'static>(crls: &Arc<Crls>) -> Routes<L> {
    let crls = crls.clone();
    let read = warp::get().or(warp::head()).unify();
    let route = warp::path!("crl" / String)
        .and(read)
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .map(move |file: String, method, asked: HeaderMap| {
            let found = list(&crls, &file);
            let whole = answer(found.map(|published| sent(&published, &asked)));
            if method == Method::HEAD {
                return without_body(whole);
            }
            whole
        });
    Routes::new("crl", route)
}

fn list(crls: &Crls, file: &str) -> Answer<Arc<Published>> {
    let key = file.strip_suffix(".crl").map(str::to_ascii_lowercase);
    let key = key.unwrap_or_default();
    crls.get(&key).ok_or_else(|| missing(crls, &key))
}

fn sent(published: &Published, asked: &HeaderMap) -> Response {
    let known = is_known(published, asked);
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => http::Response::new(published.der.clone()).into_response(),
    };
    if !known {
        insert(&mut response, CONTENT_TYPE, PKIX_CRL);
    }
    caching(&mut response, published);
    response
}

/// As HEAD is answered (RFC 9110, 9.3.2); under HTTP/2 nobody below drops the body.
fn without_body(whole: Response) -> Response {
    let (parts, body) = whole.into_parts();
    let length = body.size_hint().exact();
    let mut response = http::Response::from_parts(parts, Bytes::new()).into_response();
    if let Some(length) = length {
        insert(&mut response, CONTENT_LENGTH, &length.to_string());
    }
    response
}

fn missing(crls: &Crls, key: &str) -> Failure {
    if crls.is_awaited(key) {
        let detail = "the first list since the start of this authority is being made";
        let problem = Problem::new(ProblemType::NotReady).with_detail(detail);
        return problem.with_retry_after(CRL_RETRY.as_secs() as u32).into();
    }
    let detail = "no issuing CA of this authority has that key";
    let problem = Problem::new(ProblemType::NotFound);
    problem.with_detail(detail).into()
}

fn caching(response: &mut Response, published: &Published) {
    let kept = format!("public, max-age={CRL_MAX_AGE_S}");
    insert(response, CACHE_CONTROL, &kept);
    insert(response, ETAG, &published.etag);
    let modified = UNIX_EPOCH + Duration::from_secs(unix_seconds(published.this_update));
    insert(response, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
}

/// Whether the asker has this list already; a tag counts before a date (RFC 9110, 13.2.2).
fn is_known(published: &Published, asked: &HeaderMap) -> bool {
    let text = |name| asked.get(name).and_then(|value| value.to_str().ok());
    if let Some(tags) = text(IF_NONE_MATCH) {
        let mut tags = tags
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"));
        return tags.any(|tag| tag == "*" || tag == published.etag);
    }
    let since = text(IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date).ok());
    let since = since.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    since.is_some_and(|since| unix_seconds(published.this_update) <= since.as_secs())
}
