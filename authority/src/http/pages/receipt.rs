//! What does a shopper keep of a payment?

use std::sync::Arc;

use askama::Template;
use http::header::CONTENT_DISPOSITION;
use protocol::ids::ClaimId;
use protocol::problem::ProblemType;
use protocol::token::Channel;
use protocol::wire::claims::ClaimView;
use warp::Filter;
use warp::reply::Response;

use super::figures::{Figure, Moment};
use super::visit::{Visit, visit};
use super::words::Words;
use super::{Frame, Site, answer, pay};
use crate::http::problem::Answer;
use crate::http::public::insert;
use crate::http::{Public, Routes};
use crate::store::Payment;

/// How soon a page without a script asks again for a receipt that is due.
const REFRESH_S: u32 = 2;
/// A compact JWS (RFC 7515, section 9.2.1).
const MEDIA: &str = "application/jose";

#[derive(Template)]
#[template(path = "receipt.html")]
struct Receipt<'a> {
    f: &'a Frame<'a>,
    figure: Figure,
    payee: String,
    mark: String,
    at: Moment,
    channel: &'static str,
    reference: Option<String>,
    rail: String,
    number: String,
    pseudonym: String,
    jws: Option<String>,
    signed: bool,
    file: String,
    verify: String,
    refresh_s: u32,
    state: &'static str,
    state_path: String,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("pay" / ClaimId / "receipt.jws");
    let route = route.and(warp::get()).and(visit(&of));
    let route = route.then(move |claim: ClaimId, visit: Arc<Visit>| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move { file(&work_site, &work_visit, claim).await };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-receipt", route)
}

async fn file(site: &Site, visit: &Visit, claim: ClaimId) -> Answer<Response> {
    let (now, claims) = (site.journey.app.clock.now(), &site.journey.claims);
    let paying = claims.paying(claim, visit.claim.as_ref(), now).await?;
    let payment = paying.payment.ok_or(ProblemType::ClaimUnknown)?;
    let jws = payment.receipt_jws.clone().ok_or(ProblemType::Busy)?;
    let mut response = site.bytes(MEDIA, jws.into_bytes());
    let kept_as = format!("attachment; filename=\"receipt-{}.jws\"", payment.receipt);
    insert(&mut response, CONTENT_DISPOSITION, &kept_as);
    Ok(response)
}

/// The page of a claim that is paid.
pub(super) fn page(
    site: &Site,
    visit: &Visit,
    view: &ClaimView,
    payment: &Payment,
) -> Answer<Response> {
    let claim = view.claim;
    let frame = site.frame(visit, pay::path_of(claim));
    let jws = payment.receipt_jws.clone();
    let page = Receipt {
        figure: Figure::of(payment.approved.amount(), visit.language),
        payee: payment.payee_name.clone(),
        mark: view.mark.to_string(),
        at: Moment::of(payment.paid_at, visit.language),
        channel: channel(frame.w, view.channel),
        reference: view.reference.clone(),
        rail: payment.rail_reference.clone(),
        number: payment.receipt.to_string(),
        pseudonym: payment.pseudonym.clone(),
        signed: jws.is_some(),
        file: format!("/pay/{claim}/receipt.jws"),
        // Behind the #, so that checking it sends it nowhere.
        verify: jws
            .as_ref()
            .map_or_else(String::new, |jws| format!("{}/verify#{jws}", site.origin)),
        jws,
        refresh_s: REFRESH_S,
        state: "receipt-due",
        state_path: pay::state_path_of(claim),
        f: &frame,
    };
    site.page(visit, &page)
}

fn channel(words: Words, channel: Channel) -> &'static str {
    match channel {
        Channel::Nfc => words.channel_nfc(),
        Channel::Qr => words.channel_qr(),
        Channel::Code => words.channel_code(),
    }
}
