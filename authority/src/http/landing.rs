//! What does a browser see that opens the link of a tag or QR code?
//!
//! A page that says how to go on. It spends nothing, because previews and crawlers open links too,
//! and it takes the token nowhere: no script, no referrer, no store.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use warp::{Filter, Reply};

use super::{Public, Routes};

const PAGE: &str = include_str!("landing.html");
const CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-HSGfRZ03HjJcdKEhnIN7ci0U2PLTU5HlagE4kBp8PY8='; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// `GET /t/<terminal>.<token>`.
pub fn routes() -> Routes<Public> {
    let route = warp::path!("t" / String)
        .and(warp::get())
        .map(|_token: String| page());
    Routes::new("landing", route)
}

fn page() -> warp::reply::Response {
    let mut response = PAGE.into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, CSP);
    response
}
