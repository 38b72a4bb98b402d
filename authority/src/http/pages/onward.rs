//! How does a browser get from a form of ours to an identity provider?
//!
//! Not by a redirect: some browsers hold redirects of a form against `form-action`, at every hop, and
//! where a provider's own redirects lead nobody here can know. So the form ends at a page of ours, and
//! that leads on by itself.

use askama::Template;
use warp::reply::Response;

use super::visit::Visit;
use super::{Frame, Site};
use crate::http::problem::Answer;

#[derive(Template)]
#[template(path = "onward.html")]
struct Onward<'a> {
    f: &'a Frame<'a>,
    provider: String,
    address: String,
}

/// The page that leads to `address`, an identity provider's.
pub(super) fn page(site: &Site, visit: &Visit, provider: &str, address: &str) -> Answer<Response> {
    let frame = site.frame(visit, "/");
    let page = Onward {
        provider: provider.to_owned(),
        address: address.to_owned(),
        f: &frame,
    };
    site.page(visit, &page)
}
