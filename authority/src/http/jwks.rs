//! Which keys verify what we sign? For everybody, on both outer listeners.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use warp::{Filter, Reply};

use super::Routes;
use crate::app::App;

/// How long a copy may be used; a new key is published longer than this before it signs.
const MAX_AGE: HeaderValue = HeaderValue::from_static("public, max-age=300");
const JWK_SET_JSON: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

/// `GET /.well-known/jwks.json` (RFC 7517).
pub fn routes<L: 'static>(app: &Arc<App>) -> Routes<L> {
    let app = app.clone();
    let serve = move || {
        let mut response = warp::reply::json(app.keyring.jwks()).into_response();
        response.headers_mut().insert(CACHE_CONTROL, MAX_AGE);
        response.headers_mut().insert(CONTENT_TYPE, JWK_SET_JSON);
        response
    };
    Routes::new(
        "jwks",
        warp::path!(".well-known" / "jwks.json")
            .and(warp::get())
            .map(serve),
    )
}
