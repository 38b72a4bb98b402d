//! What can a till be built against, in a form that its tools read?
//!
//! OpenAPI 3.1 of the till's interface, for everybody on this machine: there is no secret in it. The
//! document is a file that is served as it is; a test makes it from the wire types and the table of problems
//! again, and compares the two.

use warp::filters::BoxedFilter;
use warp::http::{HeaderValue, header};
use warp::reply::Response;
use warp::{Filter, Reply};

/// Where the document is.
pub const OPENAPI_PATH: &str = "/v1/openapi.json";
pub const DOCUMENT: &str = include_str!("../../assets/till-openapi.json");

pub(super) fn route() -> BoxedFilter<(Response,)> {
    warp::path!("v1" / "openapi.json")
        .and(warp::get())
        .map(|| {
            let mut reply = DOCUMENT.into_response();
            let json = HeaderValue::from_static("application/json");
            reply.headers_mut().insert(header::CONTENT_TYPE, json);
            reply
        })
        .boxed()
}

#[cfg(test)]
mod tests;
