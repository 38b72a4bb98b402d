//! How does a shopper sign in here on another site's behalf? OpenID Connect, authorization code with PKCE.
//!
//! ```text
//!  browser ──GET /connect/authorize?…──▶ bank      shows its own form
//!  browser ──POST /connect/authorize───▶ bank      name and password; 303 back with a code, good once
//!            authority ──POST /connect/token──▶ bank      code and verifier; answers an ID token
//! ```
//! What OpenID Connect Core 3.1 asks for and no more, with `iss` in the answer (RFC 9207) and the shopper's
//! accounts in the claim `m2key_accounts`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use http::StatusCode;
use http::header::{CACHE_CONTROL, LOCATION};
use protocol::jws::Purpose;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use warp::filters::BoxedFilter;
use warp::reply::{Response, html, json as json_reply, with_header, with_status};
use warp::{Filter, Reply};

use crate::{Bank, RelyingParty, Shopper, now};

mod page;

/// Largest form that is read, in bytes.
const FORM_MAX: u64 = 4_096;
/// How long a code is good, in seconds.
const CODE_LIFE_S: i64 = 60;
/// Most codes that wait to be redeemed; one more pushes the oldest out.
const CODES_MAX: usize = 1_024;
/// How long an ID token is good, in seconds.
const ID_TOKEN_LIFE_S: i64 = 300;
/// What this bank calls a sign-in with a password; a real one asks for two factors and says so.
const ACR: &str = "urn:demo-bank:password";

/// What the relying party asks for (OpenID Connect Core, 3.1.2.1), and PKCE (RFC 7636, 4.3).
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    scope: String,
    state: String,
    nonce: String,
    code_challenge: String,
    code_challenge_method: String,
}

/// The bank's own form.
#[derive(Deserialize)]
struct Filled {
    #[serde(flatten)]
    request: Request,
    shopper: String,
    password: String,
}

/// `POST /connect/token` (OpenID Connect Core, 3.1.3.1).
#[derive(Deserialize)]
struct Redeem {
    grant_type: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

/// What the ID token says (OpenID Connect Core, section 2).
#[derive(Serialize, Deserialize)]
struct IdToken {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    iat: i64,
    auth_time: i64,
    nonce: String,
    acr: String,
    m2key_accounts: Vec<AccountClaim>,
}

impl Purpose for IdToken {
    const TYP: &'static str = "JWT";
}

/// An account that the shopper may pay from.
#[derive(Serialize, Deserialize)]
struct AccountClaim {
    /// What the bank's payment interface calls it.
    id: String,
    /// What the shopper calls it.
    name: String,
    currency: String,
}

/// Codes that were given out and not redeemed yet.
#[derive(Default)]
pub(crate) struct Codes(Mutex<HashMap<String, Granted>>);

struct Granted {
    request: Request,
    shopper: String,
    at: i64,
}

impl Codes {
    fn give(&self, granted: Granted) -> String {
        let code = random_text();
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, it| granted.at - it.at < CODE_LIFE_S);
        let oldest = codes.iter().min_by_key(|(_, it)| it.at);
        if let Some(oldest) = oldest
            .map(|(code, _)| code.clone())
            .filter(|_| codes.len() >= CODES_MAX)
        {
            codes.remove(&oldest);
        }
        codes.insert(code.clone(), granted);
        code
    }

    /// Good once, whatever comes of it.
    fn take(&self, code: &str, at: i64) -> Option<Granted> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.remove(code).filter(|it| at - it.at < CODE_LIFE_S)
    }
}

/// `GET` and `POST /connect/authorize`, `POST /connect/token`, `GET /.well-known/openid-configuration`.
pub(crate) fn routes(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    ask(bank)
        .or(filled(bank))
        .unify()
        .or(redeem(bank))
        .unify()
        .or(metadata(bank))
        .unify()
        .boxed()
}

fn ask(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let bank = bank.clone();
    warp::path!("connect" / "authorize")
        .and(warp::get())
        .and(warp::query())
        .map(move |request: Request| match bank.check(&request) {
            Ok(party) => shown(&page::form(&party.name, &request, None)),
            Err(refused) => refused,
        })
        .boxed()
}

fn filled(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let bank = bank.clone();
    warp::path!("connect" / "authorize")
        .and(warp::post())
        .and(warp::body::content_length_limit(FORM_MAX))
        .and(warp::body::form())
        .map(move |filled: Filled| bank.sign_in_for(filled))
        .boxed()
}

fn redeem(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let bank = bank.clone();
    warp::path!("connect" / "token")
        .and(warp::post())
        .and(warp::header("authorization"))
        .and(warp::body::content_length_limit(FORM_MAX))
        .and(warp::body::form())
        .map(move |authorization: String, redeem: Redeem| {
            let answer = bank.id_token(&authorization, &redeem);
            answer.unwrap_or_else(|error| {
                let body = json_reply(&json!({ "error": error }));
                with_status(body, StatusCode::BAD_REQUEST).into_response()
            })
        })
        .boxed()
}

/// OpenID Connect Discovery 1.0, section 3.
fn metadata(bank: &Arc<Bank>) -> BoxedFilter<(Response,)> {
    let issuer = &bank.config.issuer;
    let metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/connect/authorize"),
        "token_endpoint": format!("{issuer}/connect/token"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid"],
        "claims_supported": ["sub", "auth_time", "acr", "m2key_accounts"],
        "acr_values_supported": [ACR],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        "authorization_response_iss_parameter_supported": true,
    });
    warp::path!(".well-known" / "openid-configuration")
        .and(warp::get())
        .map(move || json_reply(&metadata).into_response())
        .boxed()
}

impl Bank {
    /// The site that asks, if it is known here and asks properly. A foreign address is told nothing and
    /// sent nowhere.
    #[expect(clippy::result_large_err, reason = "a refusal is the whole answer")]
    fn check(&self, request: &Request) -> Result<&RelyingParty, Response> {
        let parties = &self.config.relying_parties;
        let known = parties.iter().find(|it| {
            it.client_id == request.client_id && it.redirect_uri == request.redirect_uri
        });
        let party = known.ok_or_else(|| {
            let page = page::refused("This bank does not know the site that sent you.");
            with_status(shown(&page), StatusCode::BAD_REQUEST).into_response()
        })?;
        let openid = request.scope.split(' ').any(|scope| scope == "openid");
        let pkce = request.code_challenge_method == "S256" && request.code_challenge.len() == 43;
        match request.response_type == "code" && openid && pkce {
            true => Ok(party),
            false => Err(self.back(request, "error", "invalid_request")),
        }
    }

    fn sign_in_for(&self, filled: Filled) -> Response {
        let party = match self.check(&filled.request) {
            Ok(party) => party,
            Err(refused) => return refused,
        };
        let Some(shopper) = self.sign_in(&filled.shopper, &filled.password) else {
            tracing::info!("a sign-in was refused");
            let again = "Name or password is not right.";
            return shown(&page::form(&party.name, &filled.request, Some(again)));
        };
        tracing::info!(shopper = shopper.name, party = party.name, "signed in");
        let code = self.codes.give(Granted {
            request: filled.request.clone(),
            shopper: shopper.name.clone(),
            at: now(),
        });
        self.back(&filled.request, "code", &code)
    }

    fn back(&self, request: &Request, name: &str, value: &str) -> Response {
        let joint = if request.redirect_uri.contains('?') {
            '&'
        } else {
            '?'
        };
        let (state, issuer) = (encoded(&request.state), encoded(&self.config.issuer));
        let to = format!(
            "{}{joint}{name}={}&state={state}&iss={issuer}",
            request.redirect_uri,
            encoded(value)
        );
        let reply = with_header(StatusCode::SEE_OTHER, LOCATION, to);
        with_header(reply, CACHE_CONTROL, "no-store").into_response()
    }

    fn id_token(&self, authorization: &str, redeem: &Redeem) -> Result<Response, &'static str> {
        let party = self.party(authorization).ok_or("invalid_client")?;
        if redeem.grant_type != "authorization_code" {
            return Err("unsupported_grant_type");
        }
        let at = now();
        let granted = self.codes.take(&redeem.code, at).ok_or("invalid_grant")?;
        let request = &granted.request;
        let challenge = Base64UrlUnpadded::encode_string(&Sha256::digest(&redeem.code_verifier));
        let fits = request.client_id == party.client_id
            && request.redirect_uri == redeem.redirect_uri
            && request.code_challenge == challenge;
        let shopper = self.named(&granted.shopper).filter(|_| fits);
        let shopper = shopper.ok_or("invalid_grant")?;
        let id_token = self.signer.sign(&self.claims(shopper, request, at));
        let answer = json!({
            "access_token": random_text(),
            "token_type": "Bearer",
            "expires_in": ID_TOKEN_LIFE_S,
            "id_token": id_token,
        });
        Ok(with_header(json_reply(&answer), CACHE_CONTROL, "no-store").into_response())
    }

    fn claims(&self, shopper: &Shopper, request: &Request, at: i64) -> IdToken {
        IdToken {
            iss: self.config.issuer.clone(),
            sub: shopper.name.clone(),
            aud: request.client_id.clone(),
            exp: at + ID_TOKEN_LIFE_S,
            iat: at,
            auth_time: at,
            nonce: request.nonce.clone(),
            acr: ACR.into(),
            m2key_accounts: vec![AccountClaim {
                id: shopper.name.clone(),
                name: shopper.account.clone(),
                currency: "EUR".into(),
            }],
        }
    }

    /// The relying party that knows its secret (RFC 6749, 2.3.1).
    fn party(&self, authorization: &str) -> Option<&RelyingParty> {
        let basic = authorization.strip_prefix("Basic ")?;
        let pair = String::from_utf8(Base64::decode_vec(basic).ok()?).ok()?;
        let (id, secret) = pair.split_once(':')?;
        let parties = &self.config.relying_parties;
        let party = parties.iter().find(|it| it.client_id == id)?;
        // Hashes are compared, so that the time it takes says nothing about the secret.
        (Sha256::digest(&party.client_secret) == Sha256::digest(secret)).then_some(party)
    }

    fn named(&self, name: &str) -> Option<&Shopper> {
        self.config.shoppers.iter().find(|it| it.name == name)
    }
}

fn shown(page: &str) -> Response {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    let reply = with_header(html(page.to_owned()), "content-security-policy", policy);
    let reply = with_header(reply, "referrer-policy", "no-referrer");
    with_header(reply, CACHE_CONTROL, "no-store").into_response()
}

/// Percent-encoded for a query (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => (byte as char).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// 256 random bits; without random bytes the process has no key either.
fn random_text() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("random bytes were there when the key was made");
    Base64UrlUnpadded::encode_string(&bytes)
}
