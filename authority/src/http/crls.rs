//! How do others fetch a revocation list? `GET /crl/<key identifier of the issuing CA>.crl`.
//!
//! On the public listener, and on the loopback one for a proxy that serves it over plain HTTP.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{HeaderMap, StatusCode};
use protocol::problem::{Problem, ProblemType};
use warp::reply::Response;
use warp::{Filter, Reply};

use super::Routes;
use super::problem::{Answer, answer};
use super::public::insert;
use crate::clock::unix_seconds;
use crate::services::crls::{CRL_MAX_AGE_S, Crls, Published};

/// The media type of a list (RFC 2585, 4.2).
const PKIX_CRL: &str = "application/pkix-crl";

/// The same on every listener that has it.
pub fn routes<L: 'static>(crls: &Arc<Crls>) -> Routes<L> {
    let crls = crls.clone();
    let route = warp::path!("crl" / String)
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .map(move |file: String, asked: HeaderMap| answer(list(&crls, &file, &asked)));
    Routes::new("crl", route)
}

fn list(crls: &Crls, file: &str, asked: &HeaderMap) -> Answer {
    let key = file.strip_suffix(".crl").map(str::to_ascii_lowercase);
    let Some(published) = key.and_then(|key| crls.get(&key)) else {
        let detail =
            "no issuing CA of this authority has that key, or its first list is being made";
        return Err(Problem::new(ProblemType::NotFound)
            .with_detail(detail)
            .into());
    };
    let known = is_known(&published, asked);
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => http::Response::new(published.der.clone()).into_response(),
    };
    if !known {
        insert(&mut response, CONTENT_TYPE, PKIX_CRL);
    }
    caching(&mut response, &published);
    Ok(response)
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
