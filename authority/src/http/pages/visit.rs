//! Which browser is this, in which language, and who is signed in on it?

use std::convert::Infallible;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use http::HeaderMap;
use http::header::{ACCEPT_LANGUAGE, COOKIE, HeaderValue, SET_COOKIE};
use protocol::wire::claims::CLAIM_COOKIE;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use warp::Filter;

use super::Site;
use super::words::{LANGUAGE_COOKIE, Language};
use crate::ids;
use crate::services::phone::PhoneCookie;
use crate::services::sign_in::SignedIn;

const SESSION_COOKIE: &str = "__Host-m2key-session";

/// One browser that asks.
pub(super) struct Visit {
    pub(super) language: Language,
    pub(super) claim: Option<PhoneCookie>,
    pub(super) signed_in: Option<SignedIn>,
    secret: [u8; 32],
    /// It is told its secret with the answer.
    fresh: bool,
}

impl Visit {
    /// For the forms of this browser.
    pub(super) fn form_token(&self) -> String {
        Base64UrlUnpadded::encode_string(&self.derived(b"m2key/form/1\0", b""))
    }

    pub(super) fn is_form_token(&self, token: &str) -> bool {
        token.as_bytes().ct_eq(self.form_token().as_bytes()).into()
    }

    /// What this browser keeps of a claim with this token: the same each time.
    pub(super) fn secret_for(&self, token: &str) -> [u8; 32] {
        self.derived(b"m2key/phone/1\0", token.trim().as_bytes())
    }

    fn derived(&self, domain: &[u8], of: &[u8]) -> [u8; 32] {
        let hash = Sha256::new_with_prefix(domain).chain_update(self.secret);
        hash.chain_update(of).finalize().into()
    }

    /// Gives a new browser its secret.
    pub(super) fn remember(&self, headers: &mut HeaderMap) {
        if self.fresh {
            let secret = Base64UrlUnpadded::encode_string(&self.secret);
            let cookie =
                format!("{SESSION_COOKIE}={secret}; Secure; HttpOnly; SameSite=Lax; Path=/");
            let cookie = HeaderValue::from_str(&cookie).expect("base64 is visible ASCII");
            headers.append(SET_COOKIE, cookie);
        }
    }
}

/// Everybody is somebody: a browser without cookies gets them with its first page.
pub(super) fn visit(
    site: &Arc<Site>,
) -> impl Filter<Extract = (Arc<Visit>,), Error = Infallible> + Clone + use<> {
    let site = site.clone();
    warp::header::headers_cloned().then(move |headers: HeaderMap| {
        let site = site.clone();
        async move { Arc::new(read(&site, &headers).await) }
    })
}

async fn read(_site: &Site, headers: &HeaderMap) -> Visit {
    let known = cookie(headers, SESSION_COOKIE).and_then(|text| {
        let mut bytes = [0; 32];
        let decoded = Base64UrlUnpadded::decode(text, &mut bytes).ok()?.len();
        (decoded == 32).then_some(bytes)
    });
    Visit {
        language: language(headers),
        claim: cookie(headers, CLAIM_COOKIE).and_then(PhoneCookie::parse),
        signed_in: None,
        secret: known.unwrap_or_else(ids::random),
        fresh: known.is_none(),
    }
}

/// As chosen here, else as the browser says.
fn language(headers: &HeaderMap) -> Language {
    let chosen = cookie(headers, LANGUAGE_COOKIE).and_then(Language::of_tag);
    let asked = || headers.get(ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok());
    chosen.unwrap_or_else(|| Language::negotiate(asked().unwrap_or_default()))
}

/// The first cookie of this name. HTTP/2 may send each in a header of its own.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}
