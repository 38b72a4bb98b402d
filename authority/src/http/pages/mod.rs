//! What do shoppers see?
//!
//! ```text
//!  GET /            type a code, or scan ──┐
//!  GET /t/{link}    looks, spends nothing ─┴▶ POST /claim ──▶ GET /pay/{claim} ──▶ POST /pay/{claim}
//!                                                                ▲     │ sign in       │
//!  GET|POST /verify   GET /me …                                  └─────┴───────────────┘ receipt
//! ```
//! Every page works without a script, except for making and using a passkey; templates escape by default
//! and are checked when they compile.

use std::future::Future;
use std::sync::Arc;

use askama::Template;
use http::header::{HeaderValue, LOCATION, RETRY_AFTER};
use http::{StatusCode, header};
use protocol::problem::{Problem, ProblemType};
use warp::Reply;
use warp::reply::Response;

use super::problem::Answer;
use super::public::{insert, to_the_end};
use super::web::add_cookie;
use super::{Public, Routes, source};
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::store::hurried;

mod assets;
mod claim;
mod figures;
mod history;
mod in_words;
mod language;
mod limits;
mod me;
mod onward;
mod pay;
mod providers;
mod receipt;
mod secure;
mod start;
mod terminal;
mod verify;
mod visit;
mod words;

use assets::Assets;
use secure::{Camera, Policy};
use visit::Visit;
use words::{Language, Refusal, Words};

/// What all pages have in common.
pub(super) struct Site {
    pub(super) journey: Arc<Journey>,
    /// What the service calls itself.
    pub(super) name: String,
    /// Scheme, host and port that forms of ours come from.
    origin: String,
    assets: Assets,
    policy: Policy,
}

/// The frame around one page.
pub(super) struct Frame<'a> {
    site: &'a Site,
    language: Language,
    w: Words,
    /// Where a change of the language leads back to.
    here: String,
    /// What makes a form one of this browser's.
    form: String,
}

/// The pages of the public listener, and these other routes of it, behind the limits per address; what
/// they refuse people is shown as a page, too.
pub fn around(journey: &Arc<Journey>, others: Routes<Public>) -> Routes<Public> {
    let site = Arc::new(Site::new(journey));
    let all = others.or(pages(&site));
    in_words::in_words(site, source::limited(journey, all))
}

fn pages(site: &Arc<Site>) -> Routes<Public> {
    site.assets
        .routes()
        .or(start::routes(site))
        .or(terminal::routes(site))
        .or(claim::routes(site))
        .or(pay::routes(site))
        .or(receipt::routes(site))
        .or(verify::routes(site))
        .or(me::routes(site))
        .or(limits::routes(site))
        .or(history::routes(site))
        .or(language::routes(site))
}

impl Site {
    fn new(journey: &Arc<Journey>) -> Self {
        let config = &journey.app.config;
        let host = config.public.link_host.as_str();
        let origin = config.public.origin();
        let assets = Assets::new(&config.pages);
        Self {
            name: config.pages.service_name.trim().to_owned(),
            policy: Policy::new(&origin, &assets, !host.contains(':')),
            journey: journey.clone(),
            origin,
            assets,
        }
    }

    fn style(&self) -> &str {
        &self.assets.style.path
    }

    fn script(&self) -> &str {
        &self.assets.script.path
    }

    fn passkey(&self) -> &str {
        &self.assets.passkey.path
    }

    fn icon(&self) -> &str {
        &self.assets.icon.path
    }

    fn frame<'a>(&'a self, visit: &Visit, here: impl Into<String>) -> Frame<'a> {
        Frame {
            site: self,
            language: visit.language,
            w: Words(visit.language),
            here: here.into(),
            form: visit.visitor.form_token(),
        }
    }

    /// A page for this browser.
    fn page(&self, visit: &Visit, page: &impl Template) -> Answer {
        self.page_with(visit, page, Camera::Shut)
    }

    fn page_with(&self, visit: &Visit, page: &impl Template, camera: Camera) -> Answer {
        let text = page.render().map_err(|error| {
            tracing::error!(%error, "a page is not written");
            ProblemType::Internal
        })?;
        let mut response = warp::reply::html(text).into_response();
        self.policy.apply(&mut response, camera);
        let language = HeaderValue::from_static(visit.language.tag());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LANGUAGE, language);
        Ok(visit.remember(response))
    }

    /// To another page of ours.
    fn see_other(&self, visit: &Visit, path: &str) -> Response {
        let mut response = http::Response::new("").into_response();
        *response.status_mut() = StatusCode::SEE_OTHER;
        insert(&mut response, LOCATION, path);
        self.policy.apply(&mut response, Camera::Shut);
        visit.remember(response)
    }

    /// Bytes for this browser only.
    fn bytes(&self, media: &str, bytes: Vec<u8>) -> Response {
        let mut response = http::Response::new(bytes).into_response();
        self.policy.apply(&mut response, Camera::Shut);
        insert(&mut response, header::CONTENT_TYPE, media);
        response
    }

    /// A refusal as a page with its next step.
    fn refused(&self, visit: &Visit, failure: Failure) -> Response {
        let problem = failure.into_problem();
        let page = match problem.problem_type() {
            Some(ProblemType::FreshSignInNeeded) => me::sign_in_again(self, visit, &problem),
            _ => self.refusal(visit, &problem),
        };
        with_status(page.unwrap_or_else(|_| Response::default()), &problem)
    }

    fn refusal(&self, visit: &Visit, problem: &Problem) -> Answer {
        let frame = self.frame(visit, "/");
        let page = Refused {
            refused: frame.w.refusal(problem),
            f: &frame,
        };
        self.page(visit, &page)
    }
}

impl Frame<'_> {
    /// The languages this page is not in.
    fn others(&self) -> impl Iterator<Item = Language> {
        let here = self.language;
        Language::ALL.into_iter().filter(move |it| *it != here)
    }
}

#[derive(Template)]
#[template(path = "refused.html")]
struct Refused<'a> {
    f: &'a Frame<'a>,
    refused: Refusal,
}

/// The same page, with the status and the time to wait of a refusal.
fn with_status(mut response: Response, problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = problem.retry_after_s {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Answers a visit: with its page, or with the page of the refusal. Goes on when the browser hangs up, as
/// money that has moved needs its receipt.
async fn answer<W>(site: Arc<Site>, visit: Arc<Visit>, work: W) -> Response
where
    W: Future<Output = Answer> + Send + 'static,
{
    let done = hurried(to_the_end(work)).await;
    done.unwrap_or_else(|failure| site.refused(&visit, failure))
}
