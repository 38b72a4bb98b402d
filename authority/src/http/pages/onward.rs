//! How does a browser get from a form of ours to an identity provider?
//!
//! Not by a redirect: some browsers hold the redirects of a form against `form-action`, at every hop, and
//! where a provider's own redirects lead nobody here can know. So the form ends at a page of ours, and
//! that leads on by itself. A program that asks gets the redirect.

use askama::Template;
use http::StatusCode;
use http::header::{LOCATION, SET_COOKIE};
use warp::reply::Response;

use super::visit::Visit;
use super::{Frame, Site};

#[derive(Template)]
#[template(path = "onward.html")]
struct Onward<'a> {
    f: &'a Frame<'a>,
    host: String,
    address: String,
}

/// The address of another house that this response sends the browser to.
pub(super) fn leads_away(site: &Site, response: &Response) -> Option<String> {
    if response.status() != StatusCode::SEE_OTHER {
        return None;
    }
    let address = response.headers().get(LOCATION)?.to_str().ok()?;
    let ours = address.starts_with('/') || address.starts_with(&format!("{}/", site.origin));
    (!ours).then(|| address.to_owned())
}

/// The page that leads there, with the cookies that came with the redirect.
pub(super) fn page(site: &Site, visit: &Visit, address: String, instead_of: &Response) -> Response {
    let frame = site.frame(visit, "/");
    let page = Onward {
        host: host_of(&address).to_owned(),
        address,
        f: &frame,
    };
    let mut shown = match site.page(visit, &page) {
        Ok(shown) => shown,
        Err(failure) => return site.refused(visit, failure),
    };
    for cookie in instead_of.headers().get_all(SET_COOKIE) {
        shown.headers_mut().append(SET_COOKIE, cookie.clone());
    }
    shown
}

fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split(['/', '?', ':']).next().unwrap_or_default()
}
