//! How do browsers sign in and out? Public listener.
//!
//! Answers are redirects, or problems; pages are elsewhere.

use std::sync::Arc;

use http::StatusCode;
use http::header::CACHE_CONTROL;
use protocol::ids::ClaimId;
use protocol::problem::{Problem, ProblemType};
use protocol::wire::claims::PUBLIC_BODY_MAX;
use serde::Deserialize;
use warp::{Filter, Reply};

use super::problem::{Answer, answer, refuse};
use super::public::{cookie, insert, key_set};
use super::web::{OwnPath, Posted, add_cookie, posted, redirect, see_other, visitor, with_cookie};
use super::{Public, Routes, body};
use crate::services::journey::Journey;
use crate::services::phone::{self, PhoneCookie};
use crate::services::relying_party::{Callback, Next, What};
use crate::services::sessions::{SessionCookie, Visitor};
use crate::store::hurried;

/// A logout token and its field.
const LOGOUT_BODY_MAX: u64 = 16 * 1024;

/// `POST /sign-in/{provider}`.
#[derive(Deserialize)]
struct SignInForm {
    #[serde(default)]
    purpose: Purpose,
    /// The claim that is to be paid afterwards.
    claim: Option<ClaimId>,
    /// The password is asked for even if the provider knows the browser.
    #[serde(default)]
    fresh: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    #[default]
    Pay,
    Link,
    Profile,
}

/// What browsers, and providers behind their backs, ask for a sign-in.
pub fn routes(journey: &Arc<Journey>) -> Routes<Public> {
    callback(journey)
        .or(client_keys(journey))
        .or(begin(journey))
        .or(sign_out(journey))
        .or(backchannel(journey))
}

fn begin(journey: &Arc<Journey>) -> Routes<Public> {
    let shared = journey.clone();
    let route = warp::path!("sign-in" / String)
        .and(posted::<SignInForm>(journey))
        .and(cookie())
        .then(
            move |provider: String, posted: Posted<SignInForm>, phone: Option<PhoneCookie>| {
                let journey = shared.clone();
                async move {
                    let (visitor, form) = (posted.visitor(), posted.form());
                    let begun = begun(&journey, visitor, &provider, form, phone.as_ref()).await;
                    answer(begun.map(|address| redirect(&address)))
                }
            },
        );
    Routes::new("sign-in", route)
}

async fn begun(
    journey: &Journey,
    visitor: &Visitor,
    provider: &str,
    form: &SignInForm,
    phone: Option<&PhoneCookie>,
) -> Answer<String> {
    let now = journey.app.clock.now();
    let what = match (&form.purpose, form.claim) {
        (Purpose::Pay, Some(claim)) => {
            crate::logging::follow_claim(claim);
            let own = phone::find(&*journey.app.store, claim, phone).await?;
            What::Pay(Some(Box::new(own)))
        }
        (Purpose::Pay, None) => What::Pay(None),
        (Purpose::Profile, _) => What::Profile,
        (Purpose::Link, _) => What::Link,
    };
    let fresh = form.fresh.is_some();
    let relying_party = &journey.relying_party;
    relying_party
        .begin(visitor, provider, what, fresh, now)
        .await
}

fn callback(journey: &Arc<Journey>) -> Routes<Public> {
    let shared = journey.clone();
    let route = warp::path!("sign-in" / "callback")
        .and(warp::get())
        .and(visitor(journey))
        .and(warp::query::<Callback>())
        .then(move |visitor: Visitor, back: Callback| {
            let journey = shared.clone();
            // A browser that hangs up does not leave half a sign-in.
            let work = async move {
                let now = journey.app.clock.now();
                let back = journey.relying_party.complete(&visitor, &back, now).await?;
                let mut response = see_other(&path(back.next));
                match back.cookie {
                    Some(cookie) => add_cookie(&mut response, &cookie.set_cookie()),
                    None => response = with_cookie(response, &visitor),
                }
                Ok(response)
            };
            hurried(async move { answer(super::public::to_the_end(work).await) })
        });
    Routes::new("sign-in-callback", route)
}

fn path(next: Next) -> OwnPath {
    match next {
        Next::Start => OwnPath::start(),
        Next::Pay(claim) => OwnPath::pay(claim),
        Next::Profile => OwnPath::me(),
        Next::Confirm(link) => OwnPath::confirm_link(link),
    }
}

fn client_keys(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("sign-in" / String / "jwks.json")
        .and(warp::get())
        .then(move |provider: String| {
            let journey = journey.clone();
            async move {
                let keys = journey.relying_party.client_keys(&provider).await;
                let json = |keys| serde_json::to_vec(&keys).expect("a key set is plain strings");
                answer(keys.map(|keys| key_set(json(keys).into())))
            }
        });
    Routes::new("client-jwks", route)
}

#[derive(Deserialize)]
struct SignOutForm {
    /// On every browser, not only on this one.
    everywhere: Option<String>,
}

fn sign_out(journey: &Arc<Journey>) -> Routes<Public> {
    let shared = journey.clone();
    let route = warp::path!("sign-out")
        .and(posted::<SignOutForm>(journey))
        .then(move |posted: Posted<SignOutForm>| {
            let journey = shared.clone();
            async move { answer(signed_out(&journey, &posted).await) }
        });
    Routes::new("sign-out", route)
}

/// The browser gets a new secret, too: the old one is no guard of forms any more.
async fn signed_out(journey: &Journey, posted: &Posted<SignOutForm>) -> Answer {
    let now = journey.app.clock.now();
    if let Some(session) = posted.visitor().session() {
        let sessions = &journey.sessions;
        match posted.form().everywhere {
            Some(_) => drop(sessions.end_everywhere(session, now).await?),
            None => sessions.end(session, now).await?,
        }
    }
    let mut response = see_other(&OwnPath::start());
    add_cookie(&mut response, &SessionCookie::generate().set_cookie());
    Ok(response)
}

#[derive(Deserialize)]
struct Logout {
    logout_token: String,
}

/// From the provider itself: no browser, no cookie, no form token; the signature is the proof.
fn backchannel(journey: &Arc<Journey>) -> Routes<Public> {
    let journey = journey.clone();
    let route = warp::path!("logout" / "backchannel" / String)
        .and(warp::post())
        .and(body::bytes(LOGOUT_BODY_MAX.max(PUBLIC_BODY_MAX)))
        .and_then(|provider: String, body: Vec<u8>| async move {
            let read = serde_urlencoded::from_bytes::<Logout>(&body);
            let malformed = |_| Problem::new(ProblemType::MalformedRequest);
            let logout = read.map_err(|error| refuse(malformed(error)))?;
            Ok::<_, warp::Rejection>((provider, logout.logout_token))
        })
        .untuple_one()
        .then(move |provider: String, token: String| {
            let journey = journey.clone();
            async move {
                let now = journey.app.clock.now();
                let done = journey.relying_party.log_out(&provider, &token, now).await;
                answer(done.map(|()| {
                    let mut response = StatusCode::OK.into_response();
                    insert(&mut response, CACHE_CONTROL, "no-store");
                    response
                }))
            }
        });
    Routes::new("backchannel-logout", route)
}
