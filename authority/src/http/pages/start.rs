//! Where does somebody begin who has nothing but the screen of a terminal in front of them?

use std::sync::Arc;

use askama::Template;
use warp::Filter;
use warp::reply::Response;

use super::providers::{self, Choice};
use super::secure::Camera;
use super::visit::{Visit, visit};
use super::words::Refusal;
use super::{Frame, Site, answer};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};

#[derive(Template)]
#[template(path = "start.html")]
struct Start<'a> {
    f: &'a Frame<'a>,
    signed_in: bool,
    bad: Option<Refusal>,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignIn<'a> {
    pub(super) f: &'a Frame<'a>,
    pub(super) title: &'static str,
    pub(super) lead: String,
    pub(super) providers: Vec<Choice>,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path::end().and(warp::get()).and(visit(&of));
    let route = route.then(move |visit: Arc<Visit>| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move { page(&work_site, &work_visit, None) };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-start", route)
}

/// The start page, perhaps with what was wrong with the code.
pub(super) fn page(site: &Site, visit: &Visit, bad: Option<Refusal>) -> Answer<Response> {
    let frame = site.frame(visit, "/");
    let page = Start {
        signed_in: visit.signed_in.is_some(),
        bad,
        f: &frame,
    };
    site.page_with(visit, &page, Camera::Ours)
}

/// For somebody who typed a code and is not signed in.
pub(super) fn sign_in_first(site: &Site, visit: &Visit) -> Answer<Response> {
    let frame = site.frame(visit, "/");
    let page = SignIn {
        title: frame.w.code_sign_in_title(),
        lead: frame.w.code_sign_in_lead().to_owned(),
        providers: providers::choices(site, &[]),
        f: &frame,
    };
    site.page(visit, &page)
}
