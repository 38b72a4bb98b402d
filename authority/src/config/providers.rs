//! Whose word do we take for who a shopper is?
//!
//! A provider whose access tokens are accepted needs an audience; one that browsers are sent to needs a
//! section `sign_in`. Many have both.

use std::path::{Path, PathBuf};

use pki::Segment;
use protocol::money::Currency;
use serde::Deserialize;

use super::check::Mistakes;
use crate::services::sign_in::is_trustworthy;

const ALGORITHMS: [&str; 3] = ["ES256", "RS256", "PS256"];
/// Longest name of a provider, in bytes.
const NAME_MAX: usize = 64;

/// Whose word is taken for who a shopper is.
#[derive(Debug, Clone)]
pub struct IdentityProvider {
    /// As shoppers see it.
    pub name: String,
    pub issuer: String,
    /// Whom its access tokens are for; none: they are not accepted.
    pub audience: Option<String>,
    /// None: where its metadata says; access tokens need it here.
    pub jwks_url: Option<String>,
    /// A private CA that the provider's TLS certificate leads to; the public ones otherwise.
    pub ca_file: Option<PathBuf>,
    pub algorithms: Vec<String>,
    /// Every access token must be bound to a key, and come with a proof of it.
    pub sender_constrained: bool,
    /// What it calls strong customer authentication.
    pub strong_acr: Vec<String>,
    /// None: browsers are not sent there.
    pub sign_in: Option<BrowserSignIn>,
}

/// How browsers sign in there (OpenID Connect, authorization code).
#[derive(Debug, Clone)]
pub struct BrowserSignIn {
    /// In addresses of ours.
    pub id: Segment,
    pub kind: ProviderKind,
    pub client_id: String,
    pub client: ClientKey,
    pub scopes: Vec<String>,
    /// What its customers pay with; none: they bring no accounts.
    pub rail: Option<ProviderRail>,
}

/// What a shopper would call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    Bank,
    Wallet,
    Carrier,
}

/// How we show the provider that it is us.
#[derive(Debug, Clone)]
pub enum ClientKey {
    /// A P-256 key, PKCS#8 PEM: `private_key_jwt`.
    Key(PathBuf),
    /// A shared secret: `client_secret_basic`.
    Secret(PathBuf),
}

#[derive(Debug, Clone)]
pub struct ProviderRail {
    pub name: String,
    /// Of an account for which the provider names none.
    pub currency: Currency,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProvider {
    pub name: String,
    pub issuer: String,
    pub audience: Option<String>,
    pub jwks_url: Option<String>,
    pub ca_file: Option<PathBuf>,
    #[serde(default = "algorithms")]
    pub algorithms: Vec<String>,
    #[serde(default = "sender_constrained")]
    pub sender_constrained: bool,
    #[serde(default)]
    pub strong_acr: Vec<String>,
    pub sign_in: Option<RawSignIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignIn {
    pub id: String,
    pub kind: ProviderKind,
    pub client_id: String,
    pub client_key: Option<PathBuf>,
    pub client_secret: Option<PathBuf>,
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    pub rail: Option<String>,
    pub currency: Option<String>,
}

/// The providers, with every mistake told.
pub(super) fn check(
    raw: Vec<RawProvider>,
    folder: &Path,
    m: &mut Mistakes,
) -> Vec<IdentityProvider> {
    for (place, provider) in raw.iter().enumerate() {
        check_one(provider, place, m);
        let before = &raw[..place];
        let key = |field: &str| format!("identity_providers[{place}].{field}");
        if before.iter().any(|p| p.issuer == provider.issuer) {
            m.add(&key("issuer"), "configured twice", "one section per issuer");
        }
        let id = |p: &RawProvider| p.sign_in.as_ref().map(|it| it.id.clone());
        if id(provider).is_some_and(|own| before.iter().any(|p| id(p).as_ref() == Some(&own))) {
            let hint = "every provider needs one of its own";
            m.add(&key("sign_in.id"), "configured twice", hint);
        }
    }
    let resolve = |(place, provider): (usize, RawProvider)| provider.resolve(place, folder, m);
    raw.into_iter().enumerate().filter_map(resolve).collect()
}

fn check_one(provider: &RawProvider, place: usize, m: &mut Mistakes) {
    let key = |field: &str| format!("identity_providers[{place}].{field}");
    let is_name = (1..=NAME_MAX).contains(&provider.name.len());
    if !is_name || provider.name.chars().any(char::is_control) {
        m.add(
            &key("name"),
            "not a name",
            "1 to 64 bytes, as shoppers see it",
        );
    }
    let jwks_url = provider.jwks_url.as_ref();
    if jwks_url.is_some_and(|url| !is_trustworthy(url)) {
        m.add(
            &key("jwks_url"),
            "not an https address",
            "keys must come over TLS",
        );
    }
    if jwks_url.is_none() && provider.audience.is_some() {
        let hint = "where the keys of its access tokens are published";
        m.add(&key("jwks_url"), "missing", hint);
    }
    if provider.sign_in.is_some() && !is_trustworthy(&provider.issuer) {
        let hint = "browsers are sent there: it must be an https address";
        m.add(&key("issuer"), "not an https address", hint);
    }
    if provider.audience.is_none() && provider.sign_in.is_none() {
        let hint = "an audience for access tokens, or a section sign_in for browsers, or both";
        m.add(&key("audience"), "nobody signs in there", hint);
    }
    if provider.algorithms.is_empty() {
        m.add(
            &key("algorithms"),
            "no algorithm is allowed",
            "e.g. [\"ES256\"]",
        );
    }
    for algorithm in &provider.algorithms {
        if !ALGORITHMS.contains(&algorithm.as_str()) {
            m.add(
                &key("algorithms"),
                format!("{algorithm:?} is not known"),
                "ES256, RS256 or PS256",
            );
        }
    }
}

impl RawProvider {
    fn resolve(self, place: usize, folder: &Path, m: &mut Mistakes) -> Option<IdentityProvider> {
        let sign_in = match self.sign_in {
            Some(sign_in) => Some(sign_in.resolve(place, folder, m)?),
            None => None,
        };
        Some(IdentityProvider {
            name: self.name,
            issuer: self.issuer,
            audience: self.audience,
            jwks_url: self.jwks_url,
            ca_file: self.ca_file.map(|file| folder.join(file)),
            algorithms: self.algorithms,
            sender_constrained: self.sender_constrained,
            strong_acr: self.strong_acr,
            sign_in,
        })
    }
}

impl RawSignIn {
    fn resolve(self, place: usize, folder: &Path, m: &mut Mistakes) -> Option<BrowserSignIn> {
        let key = |field: &str| format!("identity_providers[{place}].sign_in.{field}");
        let hint = "1 to 64 of a-z 0-9 . _ -, e.g. bank";
        let id = m.take(&key("id"), self.id.parse::<Segment>(), hint);
        if self.client_id.is_empty() {
            m.add(&key("client_id"), "empty", "as the provider registered us");
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            m.add(&key("scopes"), "without openid", "e.g. [\"openid\"]");
        }
        let client = match (self.client_key, self.client_secret) {
            (Some(file), None) => Some(ClientKey::Key(folder.join(file))),
            (None, Some(file)) => Some(ClientKey::Secret(folder.join(file))),
            _ => {
                let hint =
                    "either client_key, a file with a key, or client_secret, one with a secret";
                m.add(&key("client_key"), "the provider could not tell us", hint);
                None
            }
        };
        let rail = match (self.rail, self.currency) {
            (None, None) => Some(None),
            (Some(name), Some(currency)) => {
                let currency = m.take(&key("currency"), currency.parse(), "e.g. EUR");
                currency.map(|currency| Some(ProviderRail { name, currency }))
            }
            _ => {
                m.add(&key("rail"), "half of it", "rail and currency, or neither");
                None
            }
        };
        Some(BrowserSignIn {
            id: id?,
            kind: self.kind,
            client_id: self.client_id,
            client: client?,
            scopes: self.scopes,
            rail: rail?,
        })
    }
}

fn sender_constrained() -> bool {
    true
}

fn algorithms() -> Vec<String> {
    vec!["ES256".into()]
}

fn scopes() -> Vec<String> {
    vec!["openid".into()]
}
