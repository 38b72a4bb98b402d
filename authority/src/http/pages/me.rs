//! What does a shopper see and change of their own profile?

use std::sync::Arc;

use askama::Template;
use protocol::ids::AccountId;
use protocol::problem::Problem;
use protocol::wire::passkeys::PasskeyView;
use serde::Deserialize;
use uuid::Uuid;
use warp::Filter;
use warp::reply::Response;

use super::figures::Moment;
use super::history::{self, Entries};
use super::limits::{self, Limits, Typed};
use super::pay::{masked, name_of_account};
use super::providers::{self, Choice};
use super::start::SignIn;
use super::visit::{Visit, form, visit};
use super::words::Words;
use super::{Frame, Site, answer};
use crate::http::problem::Answer;
use crate::http::web::add_cookie;
use crate::http::{Public, Routes};
use crate::services::Failure;
use crate::services::profiles::{Joining, SignInSeen};
use crate::services::sessions::{Session, SessionCookie};

/// Sign-ins on the page; the service knows more.
const SIGN_INS_MAX: usize = 10;

struct Account {
    id: String,
    name: String,
    reference: String,
    currency: String,
    default: bool,
}

struct Identity {
    handle: String,
    provider: String,
    since: Moment,
    current: bool,
}

struct Seen {
    provider: String,
    at: Moment,
    current: bool,
    open: bool,
}

#[derive(Template)]
#[template(path = "me.html")]
struct Me<'a> {
    f: &'a Frame<'a>,
    accounts: Vec<Account>,
    identities: Vec<Identity>,
    /// To link with; to sign in with once more, unless that was in the last minutes.
    providers: Vec<Choice>,
    fresh: bool,
    passkeys: Vec<Passkey>,
    sign_ins: Vec<Seen>,
    locked: Option<Moment>,
    limits: Vec<Limits>,
    limits_bad: bool,
    history: Entries,
}

#[derive(Template)]
#[template(path = "join.html")]
struct Join<'a> {
    f: &'a Frame<'a>,
    provider: String,
    action: String,
    brings: Vec<String>,
    joins: Vec<String>,
}

struct Passkey {
    id: String,
    name: String,
    since: Moment,
}

#[derive(Clone, Deserialize)]
struct RemovePasskey {
    passkey: String,
}

#[derive(Clone, Deserialize)]
struct Default {
    account: AccountId,
}

#[derive(Clone, Deserialize)]
struct Unlink {
    identity: String,
}

/// A form with nothing but a button.
#[derive(Clone, Deserialize)]
struct Press {}

pub(super) fn routes(site: &Arc<Site>) -> Routes<Public> {
    show(site)
        .or(set_default(site))
        .or(unlink(site))
        .or(joining(site))
        .or(join(site))
        .or(delete(site))
        .or(remove_passkey(site))
}

fn show(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me").and(warp::get()).and(visit(&of));
    let route = route.then(move |visit: Arc<Visit>| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move { page(&work_site, &work_visit, None).await };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-me", route)
}

/// The profile, perhaps with limits that cannot be read as they were typed.
pub(super) async fn page(site: &Site, visit: &Visit, unread: Option<&Typed>) -> Answer<Response> {
    let Some(session) = visit.visitor.session() else {
        return sign_in(site, visit);
    };
    let profiles = &site.journey.profiles;
    let profile = profiles.of(session).await?;
    let sign_ins = profiles.sign_ins(session).await?;
    let frame = site.frame(visit, "/me");
    let moment = |at| Moment::of(at, visit.language);
    let identity = |it: crate::services::profiles::OwnIdentity| Identity {
        handle: it.handle,
        provider: it.provider,
        since: moment(it.linked_at),
        current: it.is_current,
    };
    let seen = |it: SignInSeen| Seen {
        provider: it.provider,
        at: moment(it.started_at),
        current: it.is_current,
        open: it.ended.is_none(),
    };
    let passkeys = site.journey.passkeys.list(&session.signed_in()).await?;
    let passkey = |it: PasskeyView| Passkey {
        id: it.id,
        name: it.name,
        since: moment(it.added_at),
    };
    let fresh = session.is_fresh(site.journey.app.clock.now());
    let page = Me {
        passkeys: passkeys.passkeys.into_iter().map(passkey).collect(),
        accounts: accounts(site, session, frame.w).await?,
        identities: profile.identities.into_iter().map(identity).collect(),
        providers: match fresh {
            true => providers::choices(site, &[("purpose", "link".into())]),
            false => again(site),
        },
        fresh,
        sign_ins: sign_ins.into_iter().take(SIGN_INS_MAX).map(seen).collect(),
        locked: profile.locked.map(|(at, _)| moment(at)),
        limits: limits::shown(site, visit, session, unread).await?,
        limits_bad: unread.is_some(),
        history: history::entries(site, visit, session, None).await?,
        f: &frame,
    };
    site.page(visit, &page)
}

async fn accounts(site: &Site, session: &Session, words: Words) -> Result<Vec<Account>, Failure> {
    let person = session.person().clone();
    let all = site.journey.app.store.service_accounts(person).await?;
    let shown = all.into_iter().map(|it| Account {
        id: it.id.to_string(),
        reference: masked(&it),
        name: name_of_account(&it, words),
        currency: it.currency.to_string(),
        default: it.default,
    });
    Ok(shown.collect())
}

pub(super) fn sign_in(site: &Site, visit: &Visit) -> Answer<Response> {
    let frame = site.frame(visit, "/me");
    let page = SignIn {
        title: frame.w.me_title(),
        lead: frame.w.me_sign_in_lead().to_owned(),
        providers: providers::choices(site, &[("purpose", "profile".into())]),
        f: &frame,
    };
    site.page(visit, &page)
}

/// What changes who gets in was asked for by a sign-in of long ago: a young one is the next step.
pub(super) fn sign_in_again(site: &Site, visit: &Visit, problem: &Problem) -> Answer<Response> {
    let frame = site.frame(visit, "/me");
    let refusal = frame.w.refusal(problem);
    let page = SignIn {
        title: refusal.title,
        lead: refusal.next,
        providers: again(site),
        f: &frame,
    };
    site.page(visit, &page)
}

fn again(site: &Site) -> Vec<Choice> {
    providers::again(site, ("purpose", "profile".into()))
}

fn session(visit: &Visit) -> Result<&Session, Failure> {
    visit.visitor.demand_session()
}

fn set_default(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "default").and(form::<Default>(&of));
    let route = route.then(move |visit: Arc<Visit>, chosen: Default| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let (journey, now) = (&work_site.journey, work_site.journey.app.clock.now());
            let own = session(&work_visit)?;
            journey
                .profiles
                .set_default(own, chosen.account, now)
                .await?;
            Ok(work_site.see_other(&work_visit, "/me"))
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-default", route)
}

fn unlink(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "unlink").and(form::<Unlink>(&of));
    let route = route.then(move |visit: Arc<Visit>, unlink: Unlink| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let (journey, now) = (&work_site.journey, work_site.journey.app.clock.now());
            let own = session(&work_visit)?;
            let profiles = &journey.profiles;
            profiles.unlink(own, &unlink.identity, now).await?;
            Ok(work_site.see_other(&work_visit, "/me"))
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-unlink", route)
}

/// Names what joins and what it joins, before anything does.
fn joining(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "link" / Uuid);
    let route = route.and(warp::get()).and(visit(&of));
    let route = route.then(move |link: Uuid, visit: Arc<Visit>| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let (journey, now) = (&work_site.journey, work_site.journey.app.clock.now());
            let joining = journey.profiles.joining(session(&work_visit)?, link, now);
            confirm(&work_site, &work_visit, joining.await?)
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-joining", route)
}

fn confirm(site: &Site, visit: &Visit, joining: Joining) -> Answer<Response> {
    let action = format!("/me/link/{}", joining.link);
    let frame = site.frame(visit, action.clone());
    let identities = joining.profile.identities.into_iter();
    let page = Join {
        provider: joining.provider,
        action,
        brings: joining.accounts.into_iter().map(|it| it.name).collect(),
        joins: identities.map(|it| it.provider).collect(),
        f: &frame,
    };
    site.page(visit, &page)
}

fn join(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "link" / Uuid).and(form::<Press>(&of));
    let route = route.then(move |link: Uuid, visit: Arc<Visit>, _press: Press| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let (journey, now) = (&work_site.journey, work_site.journey.app.clock.now());
            journey
                .profiles
                .join(session(&work_visit)?, link, now)
                .await?;
            Ok(work_site.see_other(&work_visit, "/me"))
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-join", route)
}

/// The browser gets a new secret, too.
fn delete(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "delete").and(form::<Press>(&of));
    let route = route.then(move |visit: Arc<Visit>, _press: Press| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let (journey, now) = (&work_site.journey, work_site.journey.app.clock.now());
            let own = session(&work_visit)?;
            journey.profiles.delete(own, now).await?;
            let mut response = work_site.see_other(&work_visit, "/me");
            add_cookie(&mut response, &SessionCookie::generate().set_cookie());
            Ok(response)
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-delete", route)
}

fn remove_passkey(site: &Arc<Site>) -> Routes<Public> {
    let (of, site) = (site.clone(), site.clone());
    let route = warp::path!("me" / "passkeys" / "remove").and(form::<RemovePasskey>(&of));
    let route = route.then(move |visit: Arc<Visit>, remove: RemovePasskey| {
        let (work_site, work_visit) = (site.clone(), visit.clone());
        let work = async move {
            let (journey, now) = (&work_site.journey, work_site.journey.app.clock.now());
            let who = session(&work_visit)?.signed_in();
            let passkeys = &journey.passkeys;
            passkeys.remove(&who, &remove.passkey, now).await?;
            Ok(work_site.see_other(&work_visit, "/me"))
        };
        answer(site.clone(), visit, work)
    });
    Routes::new("page-passkey", route)
}
