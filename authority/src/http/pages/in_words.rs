//! What does a person see where a program would read a problem?
//!
//! Whoever navigates with a browser asks for `text/html`. Whatever refuses them on this listener, also an
//! address that leads nowhere or a form that is not ours, is shown as a page with its next step; and what
//! leads to another house leads there by a page.

use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use protocol::problem::{PROBLEM_JSON, Problem, ProblemType};
use warp::Filter;
use warp::reply::Response;

use super::visit::Visit;
use super::{Site, onward, visit};
use crate::http::problem;
use crate::http::{Public, RouteName, Routes};

/// Longest problem that is read again; ours have a few hundred bytes.
const PROBLEM_MAX: usize = 16 * 1024;

/// These routes; refusals of people as pages.
pub(super) fn in_words(site: Arc<Site>, routes: Routes<Public>) -> Routes<Public> {
    routes.each(|filter| {
        let site = site.clone();
        let asked = warp::method().and(warp::header::headers_cloned());
        let whole = filter.recover(problem::recover).unify().and(asked);
        let shown = whole.then(move |response: Response, method, headers| {
            let site = site.clone();
            async move { for_people(&site, response, &method, &headers).await }
        });
        shown.boxed()
    })
}

async fn for_people(
    site: &Site,
    response: Response,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    let away = onward::leads_away(site, &response);
    if !wants_page(headers) || !(is_problem(&response) || away.is_some()) {
        return response;
    }
    // What was answered is never lost over who is to see it.
    let visit = match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Some(visit::unknown(headers)),
        _ => visit::of(site, method, headers).await,
    };
    let Some(visit) = visit else {
        return response;
    };
    match away {
        Some(address) => onward::page(site, &visit, address, &response),
        None => as_page(site, &visit, response).await,
    }
}

fn is_problem(response: &Response) -> bool {
    let media = response.headers().get(CONTENT_TYPE);
    media.is_some_and(|it| it.as_bytes() == PROBLEM_JSON.as_bytes())
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).into_iter();
    accepts
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|range| range.split(';').next().map(str::trim) == Some("text/html"))
}

async fn as_page(site: &Site, visit: &Visit, response: Response) -> Response {
    let (head, body) = response.into_parts();
    let problem = read(body).await;
    let mut page = site.refused(visit, problem.into());
    // Cookies that came with it count all the same.
    for cookie in head.headers.get_all(http::header::SET_COOKIE) {
        page.headers_mut()
            .append(http::header::SET_COOKIE, cookie.clone());
    }
    if let Some(name) = head.extensions.get::<RouteName>() {
        page.extensions_mut().insert(*name);
    }
    page
}

async fn read<B>(body: B) -> Problem
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = http_body_util::Limited::new(body, PROBLEM_MAX);
    let bytes = match whole.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => bytes::Bytes::new(),
    };
    let problem = serde_json::from_slice(&bytes);
    problem.unwrap_or_else(|_| Problem::new(ProblemType::Internal))
}
