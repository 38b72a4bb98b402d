//! Who would be paid at this terminal, and how much? Opening the page spends nothing.

use std::sync::Arc;

use askama::Template;
use protocol::charge::ChargeKind;
use protocol::presented::Presented;
use protocol::problem::ProblemType;
use warp::Filter;
use warp::reply::Response;

use super::figures::{Figure, line};
use super::visit::{Visit, visit};
use super::{Frame, Site, answer};
use crate::http::problem::Answer;
use crate::http::{Public, Routes};
use crate::services::looks::Look;

#[derive(Template)]
#[template(path = "terminal.html")]
struct Terminal<'a> {
    f: &'a Frame<'a>,
    heading: String,
    figure: Option<Figure>,
    cap: Option<String>,
    terminal: String,
    reference: Option<String>,
    offline: bool,
    token: String,
}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("t" / String).and(warp::get()).and(visit(&of));
    let route = route.then(move |link: String, visit: Arc<Visit>| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move { look(&work_site, &work_visit, &link).await };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-terminal", route)
}

async fn look(site: &Site, visit: &Visit, link: &str) -> Answer<Response> {
    // Nothing but a token, and what its tag added, goes back into a page.
    let presented = Presented::parse(link).map_err(|_| ProblemType::MalformedToken)?;
    let token = match &presented {
        Presented::Machine { .. } => presented.written(),
        Presented::Signed(link) => link.written(),
        Presented::Typed(_) => return Err(ProblemType::MalformedToken.into()),
    };
    let claims = &site.journey.claims;
    let now = site.journey.app.clock.now();
    match claims.look(&token, now).await {
        Ok(look) => page(site, visit, look, token),
        Err(refused) => {
            // Back, reload, or the other of two taps: to what this browser is paying already.
            let own = visit.own(&presented.written());
            match claims.earlier(&token, &own, now).await {
                Ok(Some(earlier)) => {
                    let path = format!("/pay/{}", earlier.view.claim);
                    let mut response = site.see_other(visit, &path);
                    super::add_cookie(&mut response, &earlier.cookie.set_cookie());
                    Ok(response)
                }
                _ => Err(refused),
            }
        }
    }
}

fn page(site: &Site, visit: &Visit, look: Look, token: String) -> Answer<Response> {
    let frame = site.frame(visit, format!("/t/{token}"));
    let language = visit.language;
    let heading = match look.kind {
        ChargeKind::Open => frame.w.look_open_title(&look.payee.name),
        ChargeKind::Till | ChargeKind::Fixed => frame.w.look_title(&look.payee.name),
    };
    let page = Terminal {
        heading,
        figure: look.amount.map(|it| Figure::of(it, language)),
        cap: look.cap.map(|it| line(it, language)),
        terminal: look.terminal_name,
        reference: look.reference,
        // The till's charge is only there because the terminal was, a moment ago.
        offline: !look.connected && look.kind != ChargeKind::Till,
        token,
        f: &frame,
    };
    site.page(visit, &page)
}
