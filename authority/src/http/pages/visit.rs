//! Which browser is this, in which language, and who is signed in on it?

use std::sync::Arc;

use http::header::ACCEPT_LANGUAGE;
use http::{HeaderMap, Method};
use protocol::wire::claims::CLAIM_COOKIE;
use serde::de::DeserializeOwned;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::Site;
use super::words::{LANGUAGE_COOKIE, Language};
use crate::http::web::{self, Posted, cookie};
use crate::services::looks::Own;
use crate::services::phone::PhoneCookie;
use crate::services::sessions::{SESSION_COOKIE, Sessions, Visitor};
use crate::services::sign_in::SignedIn;

/// One browser that asks.
pub(super) struct Visit {
    pub(super) language: Language,
    pub(super) claim: Option<PhoneCookie>,
    pub(super) signed_in: Option<SignedIn>,
    pub(super) visitor: Visitor,
    /// Whether a browser without a secret gets one with the answer.
    greets: bool,
}

impl Visit {
    fn new(headers: &HeaderMap, visitor: Visitor, greets: bool) -> Self {
        Self {
            language: language_of(headers),
            claim: cookie(headers, CLAIM_COOKIE).and_then(PhoneCookie::parse),
            signed_in: visitor.signed_in().ok(),
            visitor,
            greets,
        }
    }

    /// What this browser has to show for a token.
    pub(super) fn own(&self, token: &str) -> Own<'_> {
        Own {
            secret: self.visitor.secret_for(token),
            claim: self.claim.as_ref(),
        }
    }

    /// The answer, with the secret of a browser that had none.
    pub(super) fn remember(&self, response: Response) -> Response {
        match self.greets {
            true => web::with_cookie(response, &self.visitor),
            false => response,
        }
    }
}

/// For `GET`: everybody is somebody, and a browser without cookies gets them with its first page.
pub(super) fn visit(site: &Arc<Site>) -> BoxedFilter<(Arc<Visit>,)> {
    web::visitor(&site.journey)
        .and(warp::header::headers_cloned())
        .map(|visitor, headers: HeaderMap| Arc::new(Visit::new(&headers, visitor, true)))
        .boxed()
}

/// Whose request this was; none if that cannot be looked up just now.
///
/// Another website can have a browser post here without its cookies. A new secret would take the place
/// of the one it has and sign its shopper out: only who looks gets one.
pub(super) async fn of(site: &Site, method: &Method, headers: &HeaderMap) -> Option<Visit> {
    let visitor = web::visitor_of(&site.journey, headers).await.ok()?;
    let looks = [Method::GET, Method::HEAD].contains(method);
    Some(Visit::new(headers, visitor, looks))
}

/// The same at no cost: whoever asked too much is not looked up.
pub(super) fn unknown(headers: &HeaderMap) -> Visit {
    let visitor = Sessions::unknown(cookie(headers, SESSION_COOKIE));
    Visit::new(headers, visitor, false)
}

/// A form of ours, and the visit that sent it.
pub(super) fn form<T>(site: &Arc<Site>) -> BoxedFilter<(Arc<Visit>, T)>
where
    T: DeserializeOwned + Clone + Send + 'static,
{
    web::posted::<T>(&site.journey)
        .and(warp::header::headers_cloned())
        .map(|posted: Posted<T>, headers: HeaderMap| {
            // It had its secret: the form token follows from it.
            let visit = Visit::new(&headers, posted.visitor().clone(), false);
            (Arc::new(visit), posted.form().clone())
        })
        .untuple_one()
        .boxed()
}

/// As chosen here, else as the browser says.
pub(super) fn language_of(headers: &HeaderMap) -> Language {
    let chosen = cookie(headers, LANGUAGE_COOKIE).and_then(Language::of_tag);
    let asked = || headers.get(ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok());
    chosen.unwrap_or_else(|| Language::negotiate(asked().unwrap_or_default()))
}
