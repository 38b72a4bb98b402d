//! How does a terminal learn of the roots? `GET /v1/trust`, agents' listener.
//!
//! Without a client certificate, and good even over a connection that the asker does not trust: the
//! bundle proves itself. So a terminal that was away for years gets back in.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use pki::TrustBundle;
use protocol::problem::{Problem, ProblemType};
use warp::{Filter, Reply};

use super::problem::{Answer, answer};
use super::public::insert;
use super::{Private, Routes};
use crate::app::App;

pub fn routes(app: &Arc<App>) -> Routes<Private> {
    let app = app.clone();
    let route = warp::path!("v1" / "trust").and(warp::get());
    Routes::new("trust", route.map(move || answer(bundle(&app)))).at("/v1/trust")
}

fn bundle(app: &App) -> Answer {
    let trust = app.trust();
    let document = trust.bundle().map(TrustBundle::to_json).ok_or_else(|| {
        Problem::new(ProblemType::Unknown).with_detail("no root was ever rotated here")
    })?;
    let mut response = http::Response::new(document).into_response();
    insert(&mut response, CONTENT_TYPE, "application/json");
    insert(&mut response, CACHE_CONTROL, "no-store");
    Ok(response)
}
