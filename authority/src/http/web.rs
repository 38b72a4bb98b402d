//! Does this request come from a browser that shows a page of ours?
//!
//! ```text
//! cookie ─▶ Visitor          every GET of a page
//! Origin, Sec-Fetch-Site ─▶ cookie ─▶ form_token ─▶ Posted<T>     every POST: nothing else reaches a handler
//! ```
//! A page with a form must not be sent with `Referrer-Policy: no-referrer`: browsers then send
//! `Origin: null` with the form. [`REFERRER`] keeps addresses secret and the Origin there.

use std::sync::Arc;

use http::header::{
    CACHE_CONTROL, COOKIE, HeaderValue, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE,
};
use http::{HeaderMap, StatusCode};
use protocol::ids::ClaimId;
use protocol::problem::{Problem, ProblemType};
use protocol::wire::claims::PUBLIC_BODY_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::body;
use super::problem::refuse;
use super::public::insert;
use crate::services::Failure;
use crate::services::journey::Journey;
use crate::services::sessions::{SESSION_COOKIE, Visitor};

/// For every page with a form on it.
pub const REFERRER: &str = "strict-origin";
const FORM: &str = "application/x-www-form-urlencoded";
const FETCH_SITE: &str = "sec-fetch-site";

/// Whoever asks. Hand [`with_cookie`] the answer, so that a new visitor keeps their secret.
pub fn visitor(journey: &Arc<Journey>) -> BoxedFilter<(Visitor,)> {
    let journey = journey.clone();
    warp::header::headers_cloned()
        .and_then(move |headers: HeaderMap| {
            let journey = journey.clone();
            async move { visitor_of(&journey, &headers).await.map_err(refuse) }
        })
        .boxed()
}

/// A form that a page of ours carried, and who sent it. Only [`posted`] makes one.
#[derive(Debug, Clone)]
pub struct Posted<T> {
    visitor: Visitor,
    form: T,
}

impl<T> Posted<T> {
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    pub fn form(&self) -> &T {
        &self.form
    }
}

/// The form of a `POST`: from our own origin, with the visitor's own form token. Fields that `T` does not
/// name are passed over.
pub fn posted<T>(journey: &Arc<Journey>) -> BoxedFilter<(Posted<T>,)>
where
    T: DeserializeOwned + Send + 'static,
{
    let journey = journey.clone();
    warp::post()
        .and(warp::header::headers_cloned())
        .and(body::bytes(PUBLIC_BODY_MAX))
        .and_then(move |headers: HeaderMap, body: Vec<u8>| {
            let journey = journey.clone();
            async move { check(&journey, &headers, &body).await.map_err(refuse) }
        })
        .boxed()
}

/// Who sends this with a script of a page of ours: the form token is in the header `x-form-token`.
pub(super) async fn of_script(journey: &Journey, headers: &HeaderMap) -> Result<Visitor, Failure> {
    let visitor = guarded(journey, headers).await?;
    visitor.check_form(text(headers, "x-form-token").unwrap_or_default())?;
    Ok(visitor)
}

#[derive(Deserialize)]
struct Tokened {
    #[serde(default)]
    form_token: String,
}

async fn check<T: DeserializeOwned>(
    journey: &Journey,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Posted<T>, Failure> {
    let visitor = guarded(journey, headers).await?;
    let media = text(headers, "content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case(FORM) {
        return Err(malformed("the body must be a form").into());
    }
    let read = |error: serde_urlencoded::de::Error| Failure::from(malformed(error));
    let token: Tokened = serde_urlencoded::from_bytes(body).map_err(read)?;
    visitor.check_form(&token.form_token)?;
    let form = serde_urlencoded::from_bytes(body).map_err(read)?;
    Ok(Posted { visitor, form })
}

/// The visitor of a request that our own page sent.
async fn guarded(journey: &Journey, headers: &HeaderMap) -> Result<Visitor, Failure> {
    let own = journey.app.config.public.origin();
    check_origin(
        &own,
        text(headers, ORIGIN.as_str()),
        text(headers, FETCH_SITE),
    )?;
    visitor_of(journey, headers).await
}

/// Browsers say where a `POST` comes from, and pages cannot lie about it.
fn check_origin(own: &str, origin: Option<&str>, fetch_site: Option<&str>) -> Result<(), Failure> {
    let from_here = origin == Some(own);
    let navigated = matches!(fetch_site, None | Some("same-origin" | "none"));
    match from_here && navigated {
        true => Ok(()),
        false => Err(ProblemType::FormRefused.into()),
    }
}

pub(super) async fn visitor_of(journey: &Journey, headers: &HeaderMap) -> Result<Visitor, Failure> {
    let cookie = cookie(headers, SESSION_COOKIE);
    let now = journey.app.clock.now();
    journey.sessions.of(cookie, now).await
}

/// The value of a cookie; the first, if a browser has several of one name.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(COOKIE).into_iter();
    let pairs = all
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('='));
    values
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn malformed(detail: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemType::MalformedRequest).with_detail(detail)
}

/// A place of our own. Nothing that a stranger wrote becomes one, so nobody is sent elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPath(String);

impl OwnPath {
    /// The start page.
    pub fn start() -> Self {
        Self("/".into())
    }

    /// Where a claim is looked at and approved.
    pub fn pay(claim: ClaimId) -> Self {
        Self(format!("/pay/{claim}"))
    }

    /// The shopper's profile.
    pub fn me() -> Self {
        Self("/me".into())
    }

    /// Where a shopper confirms that an identity joins the profile.
    pub fn confirm_link(link: Uuid) -> Self {
        Self(format!("/me/link/{link}"))
    }

    /// One written in the program, e.g. `OwnPath::fixed("/verify")`.
    pub fn fixed(path: &'static str) -> Self {
        Self(path.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// 303: go there with a GET.
pub fn see_other(path: &OwnPath) -> Response {
    redirect(path.as_str())
}

/// 303 to somewhere else: for the sign-in at a provider alone.
pub(super) fn redirect(address: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    match HeaderValue::from_str(address) {
        Ok(value) => {
            response.headers_mut().insert(LOCATION, value);
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    insert(&mut response, CACHE_CONTROL, "no-store");
    insert(&mut response, REFERRER_POLICY, REFERRER);
    response
}

/// The answer, with the secret of a visitor who had none.
pub fn with_cookie(mut response: Response, visitor: &Visitor) -> Response {
    if let Some(cookie) = visitor.set_cookie() {
        add_cookie(&mut response, &cookie);
    }
    response
}

/// One more cookie, beside those that are there.
pub fn add_cookie(response: &mut Response, cookie: &str) {
    let value = HeaderValue::from_str(cookie).expect("made here of visible ASCII");
    response.headers_mut().append(SET_COOKIE, value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: &str = "https://pay.example";

    #[test]
    fn a_form_comes_from_exactly_our_own_origin() {
        check_origin(OWN, Some(OWN), None).unwrap();
        check_origin(OWN, Some(OWN), Some("same-origin")).unwrap();
        check_origin(OWN, Some(OWN), Some("none")).unwrap();
        for origin in [
            None,
            Some("null"),
            Some("http://pay.example"),
            Some("https://pay.example:8443"),
            Some("https://pay.example.evil.example"),
            Some("https://PAY.example"),
            Some("https://a.pay.example"),
            Some("https://pay.example/"),
        ] {
            assert!(check_origin(OWN, origin, None).is_err(), "{origin:?}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert!(check_origin(OWN, Some(OWN), Some(site)).is_err(), "{site}");
        }
    }

    #[test]
    fn the_first_cookie_of_a_name_counts() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; b=2;b=3"));
        headers.append(COOKIE, HeaderValue::from_static("c=4"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "c"), Some("4"));
        assert_eq!(cookie(&headers, "d"), None);
    }
}
