//! Is this receipt genuine, and what does it prove?
//!
//! With a script the browser judges, by the published keys, and the receipt goes nowhere; without one it
//! is sent here in a form. Both say the same.

use std::sync::Arc;

use askama::Template;
use protocol::jws;
use protocol::receipt::ReceiptClaims;
use protocol::time::Timestamp;
use serde::Deserialize;
use warp::Filter;
use warp::reply::Response;

use super::figures::{Moment, line};
use super::visit::{Visit, form, visit};
use super::{Frame, Site, answer};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};

/// What a genuine receipt says.
struct Found {
    amount: String,
    payee: String,
    mark: String,
    at: Moment,
    terminal: String,
    reference: String,
    rail: String,
    receipt: String,
}

#[derive(Template)]
#[template(path = "verify.html")]
struct Verify<'a> {
    f: &'a Frame<'a>,
    text: String,
    found: Option<Found>,
    bad: bool,
    tainted: bool,
}

#[derive(Clone, Deserialize)]
struct Judge {
    receipt: String,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    let (of, empty) = (site.clone(), site.clone());
    let route = warp::path!("verify").and(warp::get()).and(visit(&of));
    let route = route.then(move |visit: Arc<Visit>| {
        let (work_site, work_visit) = (empty.clone(), visit.clone());
        let work = async move { page(&work_site, &work_visit, None) };
        answer(empty.clone(), visit, work)
    });
    let site = site.clone();
    let judge = warp::path!("verify").and(form::<Judge>(&of)).then(
        move |visit: Arc<Visit>, judge: Judge| {
            let (work_site, work_visit) = (site.clone(), visit.clone());
            let work = async move { page(&work_site, &work_visit, Some(&judge.receipt)) };
            answer(site.clone(), visit, work)
        },
    );
    Routes::new("page-verify", route).or(Routes::new("page-verify-form", judge))
}

/// The form, with what is to be said of the receipt in it.
fn page(site: &Site, visit: &Visit, receipt: Option<&str>) -> Answer<Response> {
    let frame = site.frame(visit, "/verify");
    let text: String = receipt.unwrap_or_default().split_whitespace().collect();
    let keys = site.journey.app.keyring();
    let judged = receipt.map(|_| jws::verify_kept::<ReceiptClaims>(&text, keys.jwks()));
    let (found, bad, tainted) = match judged {
        None => (None, false, false),
        Some(Err(_)) => (None, true, false),
        Some(Ok(verified)) => {
            let tainted = verified.tainted_at().is_some();
            (Some(found(visit, verified.into_claims())), false, tainted)
        }
    };
    let page = Verify {
        text,
        found,
        bad,
        tainted,
        f: &frame,
    };
    site.page(visit, &page)
}

fn found(visit: &Visit, claims: ReceiptClaims) -> Found {
    Found {
        amount: line(claims.amount, visit.language),
        payee: claims.payee.name,
        mark: claims.mark.to_string(),
        at: Moment::of(Timestamp::from_secs(claims.iat), visit.language),
        terminal: claims.terminal.to_string(),
        reference: claims.reference.unwrap_or_else(|| "–".into()),
        rail: format!("{} {}", claims.rail, claims.rail_reference),
        receipt: claims.receipt.to_string(),
    }
}
