//! How does a person's press of a button spend a token?

use std::sync::Arc;

use protocol::presented::Presented;
use protocol::problem::ProblemType;
use serde::Deserialize;
use warp::Filter;
use warp::reply::Response;

use super::visit::{Visit, form};
use super::{Site, add_cookie, answer, start, with_status};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};
use crate::services::Failure;
use crate::services::sources::Source;

/// Mute, because the token in it may not be spent yet.
#[derive(Clone, Deserialize)]
struct Spend {
    token: String,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("claim")
        .and(form::<Spend>(&of))
        .and(warp::ext::optional::<Source>())
        .then(
            move |visit: Arc<Visit>, spend: Spend, from: Option<Source>| {
                let (work_site, work_visit) = (site.clone(), visit.clone());
                let work = async move { claim(&work_site, &work_visit, &spend.token, from).await };
                answer(site.clone(), visit, work)
            },
        );
    Routes::new("page-claim", route)
}

async fn claim(site: &Site, visit: &Visit, token: &str, from: Option<Source>) -> Answer<Response> {
    let presented = Presented::parse(token).ok();
    let token_of_link = presented.as_ref().and_then(Presented::machine_token);
    let typed = token_of_link.is_none();
    let (now, claims) = (site.journey.app.clock.now(), &site.journey.claims);
    // The same for the other of two taps: what a tag adds is no part of the token.
    let written = presented.map_or_else(|| token.to_owned(), |it| it.written());
    let own = visit.own(&written);
    let signed_in = visit.signed_in.as_ref();
    let claimed = claims.claim_once(token, &own, signed_in, now).await;
    let hears = |terminal| site.journey.push.hears(terminal);
    let places = &site.journey.places;
    places.note(token, from, &claimed, hears, now);
    match claimed {
        Ok(new) => {
            let path = format!("/pay/{}", new.view.claim);
            let mut response = site.see_other(visit, &path);
            add_cookie(&mut response, &new.cookie.set_cookie());
            Ok(response)
        }
        Err(refused) if typed => again(site, visit, refused),
        Err(refused) => Err(refused),
    }
}

/// Who typed stays where the field is.
fn again(site: &Site, visit: &Visit, refused: Failure) -> Answer<Response> {
    let problem = refused.into_problem();
    let page = match problem.problem_type() {
        Some(ProblemType::SignInNeeded) => start::sign_in_first(site, visit)?,
        _ => {
            let words = super::Words(visit.language);
            start::page(site, visit, Some(words.refusal(&problem)))?
        }
    };
    Ok(with_status(page, &problem))
}
