//! How much does a shopper let themselves pay, and how do they stop paying at all?

use std::sync::Arc;

use protocol::money::{Currency, Money};
use protocol::problem::{Problem, ProblemType};
use serde::Deserialize;
use warp::Filter;
use warp::reply::Response;

use super::figures::{plain, read_amount};
use super::visit::{Visit, form};
use super::words::Language;
use super::{Site, answer, me, with_status};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};
use crate::services::Failure;
use crate::services::sessions::Session;
use crate::store::OwnLimits;

/// What stands in the fields of one currency.
pub(super) struct Limits {
    pub(super) currency: String,
    pub(super) each: String,
    pub(super) day: String,
    /// Paid today.
    pub(super) today: String,
    pub(super) each_bad: bool,
    pub(super) day_bad: bool,
}

/// Limits of one currency as they were typed.
#[derive(Clone, Deserialize)]
pub(super) struct Typed {
    currency: Currency,
    each: String,
    day: String,
}

/// What was typed can mean no limit, or more than one.
struct Unreadable;

/// A form with nothing but a button.
#[derive(Clone, Deserialize)]
struct Press {}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    set(site).or(lock(site))
}

fn set(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "limits").and(form::<Typed>(&of));
    let route = route.then(move |visit: Arc<Visit>, typed: Typed| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move { limit(&work_site, &work_visit, &typed).await };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-limits", route)
}

async fn limit(site: &Site, visit: &Visit, typed: &Typed) -> Answer<Response> {
    let signed_in = visit.visitor.signed_in()?;
    let Ok(own) = typed.read() else {
        let page = me::page(site, visit, Some(typed)).await?;
        return Ok(with_status(
            page,
            &Problem::new(ProblemType::MalformedRequest),
        ));
    };
    let (shoppers, now) = (&site.journey.shoppers, site.journey.app.clock.now());
    shoppers.limit(&signed_in, typed.currency, own, now).await?;
    Ok(site.see_other(visit, "/me"))
}

fn lock(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "lock").and(form::<Press>(&of));
    let route = route.then(move |visit: Arc<Visit>, _press: Press| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let (journey, now) = (&work_site.journey, work_site.journey.app.clock.now());
            let signed_in = work_visit.visitor.signed_in()?;
            journey.shoppers.lock(&signed_in, now).await?;
            Ok(work_site.see_other(&work_visit, "/me"))
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-lock", route)
}

/// One for each currency that the shopper has an account in, has paid in or has limited.
pub(super) async fn shown(
    site: &Site,
    visit: &Visit,
    session: &Session,
    unread: Option<&Typed>,
) -> Result<Vec<Limits>, Failure> {
    let (journey, language) = (&site.journey, visit.language);
    let (signed_in, now) = (session.signed_in(), journey.app.clock.now());
    let known = journey.shoppers.allowances(&signed_in, now).await?;
    let known = known
        .into_iter()
        .map(|it| (it.currency, it.own, it.day_minor));
    let mut all: Vec<_> = known.collect();
    let accounts = journey.app.store.service_accounts(session.person().clone());
    for account in accounts.await? {
        if all.iter().all(|(it, ..)| *it != account.currency) {
            all.push((account.currency, OwnLimits::default(), 0));
        }
    }
    let limits = |(currency, own, today)| {
        let unread = unread.filter(|it| it.currency == currency);
        Limits::of(currency, own, today, language).or_as(unread)
    };
    Ok(all.into_iter().map(limits).collect())
}

impl Limits {
    fn of(currency: Currency, own: OwnLimits, today_minor: i64, language: Language) -> Self {
        let shown = |minor| plain(minor, currency, language);
        Self {
            currency: currency.to_string(),
            each: own.each_minor.map(shown).unwrap_or_default(),
            day: own.day_minor.map(shown).unwrap_or_default(),
            today: format!("{}\u{a0}{currency}", shown(today_minor)),
            each_bad: false,
            day_bad: false,
        }
    }

    /// With what was typed in the place of what holds.
    fn or_as(self, typed: Option<&Typed>) -> Self {
        let Some(typed) = typed else {
            return self;
        };
        Self {
            each_bad: read(&typed.each, typed.currency).is_err(),
            day_bad: read(&typed.day, typed.currency).is_err(),
            each: typed.each.clone(),
            day: typed.day.clone(),
            ..self
        }
    }
}

impl Typed {
    fn read(&self) -> Result<OwnLimits, Unreadable> {
        Ok(OwnLimits {
            each_minor: read(&self.each, self.currency)?,
            day_minor: read(&self.day, self.currency)?,
        })
    }
}

/// Nothing is no limit, and zero is one.
fn read(text: &str, currency: Currency) -> Result<Option<i64>, Unreadable> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let zero = |text: &str| text.trim_end_matches('0').trim_end_matches(['.', ',']) == "0";
    if text == "0" || zero(text) {
        return Ok(Some(0));
    }
    let read = read_amount(text, currency).map(Money::amount_minor);
    read.map(Some).ok_or(Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_is_no_limit_and_zero_is_one() {
        let read = |text| read(text, Currency::EUR).ok();
        assert_eq!(read(" "), Some(None));
        for zero in ["0", "0.00", "0,0"] {
            assert_eq!(read(zero), Some(Some(0)), "{zero}");
        }
        assert_eq!(read("12,5"), Some(Some(1_250)));
        for nothing in ["none", "-1", ".", "1,234"] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}
