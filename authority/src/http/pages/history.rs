//! What has this shopper paid, and what was given back?

use std::sync::Arc;

use askama::Template;
use protocol::money::Money;
use protocol::wire::history::{EntryKind, HistoryEntry, HistoryQuery};
use serde::Deserialize;
use warp::Filter;
use warp::reply::Response;

use super::figures::{Moment, line};
use super::visit::{Visit, visit};
use super::words::Language;
use super::{Frame, Site, answer, me};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};
use crate::services::{Failure, history, sessions::Session};
use crate::store::HistoryOf;

/// Entries on one page.
const SHOWN_MAX: u32 = 20;

/// Some of them, the newest first.
pub(super) struct Entries {
    pub(super) entries: Vec<Entry>,
    /// Where those before these begin.
    pub(super) older: Option<String>,
}

pub(super) struct Entry {
    pub(super) refund: bool,
    pub(super) payee: String,
    pub(super) amount: String,
    pub(super) at: Moment,
    pub(super) receipt: String,
    /// Of a payment, in all.
    pub(super) given_back: Option<String>,
}

#[derive(Template)]
#[template(path = "history.html")]
struct History<'a> {
    f: &'a Frame<'a>,
    history: Entries,
}

#[derive(Clone, Deserialize)]
struct Older {
    cursor: Option<String>,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "history").and(warp::get());
    let route = route.and(visit(&of)).and(warp::query::<Older>());
    let route = route.then(move |visit: Arc<Visit>, older: Older| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move { page(&work_site, &work_visit, older).await };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-history", route)
}

async fn page(site: &Site, visit: &Visit, older: Older) -> Answer<Response> {
    let Some(session) = visit.visitor.session() else {
        return me::sign_in(site, visit);
    };
    let page = History {
        history: entries(site, visit, session, older.cursor).await?,
        f: &site.frame(visit, "/me/history"),
    };
    site.page(visit, &page)
}

/// The newest, or those before `cursor`.
pub(super) async fn entries(
    site: &Site,
    visit: &Visit,
    session: &Session,
    cursor: Option<String>,
) -> Result<Entries, Failure> {
    let query = HistoryQuery {
        cursor,
        limit: Some(SHOWN_MAX),
    };
    let of = HistoryOf::Person(session.person().clone());
    let page = history::page(&site.journey.app, of, &query).await?;
    let entries = page.entries.into_iter();
    Ok(Entries {
        entries: entries.map(|it| Entry::of(it, visit.language)).collect(),
        older: page.next,
    })
}

impl Entry {
    fn of(entry: HistoryEntry, language: Language) -> Self {
        let refund = entry.kind == EntryKind::Refund;
        let back = Money::new(entry.refunded_minor, entry.amount.currency()).ok();
        Self {
            refund,
            payee: entry.payee.name,
            amount: line(entry.amount, language),
            at: Moment::of(entry.at, language),
            receipt: entry.receipt.to_string(),
            given_back: back.filter(|_| !refund).map(|it| line(it, language)),
        }
    }
}
