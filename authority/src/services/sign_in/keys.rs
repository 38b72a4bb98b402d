//! Which keys does an identity provider sign with, now?
//!
//! Fetched when they are needed, kept for a while, fetched again for a kid that is not among them,
//! but not more often than the limit says: a stranger's invented kid must not hammer the provider.

use std::net::IpAddr;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::time::{Millis, Timestamp};
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url, redirect};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::token::BadToken;
use crate::config::IdentityProvider;

/// From the request to the last byte of the key set.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest key set, in bytes, and most keys that are looked at.
const JWKS_BYTES_MAX: usize = 128 * 1024;
const KEYS_MAX: usize = 64;
/// Between two fetches, whatever tokens ask for.
pub(in crate::services) const REFRESH_MIN_MS: Millis = 10_000;
/// How long keys are taken as they are.
pub(in crate::services) const KEYS_FRESH_MS: Millis = 10 * 60 * 1000;
/// How long they still count while the provider does not answer.
pub(in crate::services) const KEYS_STALE_MS: Millis = 60 * 60 * 1000;

/// A provider's section of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("identity provider {name}: {problem}")]
pub struct ProviderError {
    pub name: String,
    pub problem: String,
}

/// May keys be fetched from there? Over TLS, or from this very machine.
pub fn is_trustworthy(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    match url.scheme() {
        "https" => url.has_host(),
        "http" => url.host_str().is_some_and(is_loopback),
        _ => false,
    }
}

/// How an access token may be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::services) enum Algorithm {
    Es256,
    Rs256,
    Ps256,
}

impl Algorithm {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }
}

/// A public key that a provider published for signatures.
#[derive(Debug, Clone)]
pub(in crate::services) struct ProviderKey {
    kid: String,
    /// The one algorithm it is for, where the provider says so.
    only: Option<String>,
    public: Public,
}

#[derive(Debug, Clone)]
enum Public {
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl ProviderKey {
    /// The key's own kind decides which algorithms are possible, never the token.
    pub(super) fn verifies(&self, algorithm: Algorithm, input: &[u8], signature: &[u8]) -> bool {
        let rsa = |n: &[u8], e: &[u8], parameters: &RsaParameters| {
            RsaPublicKeyComponents { n, e }.verify(parameters, input, signature)
        };
        let verified = match (&self.public, algorithm) {
            (Public::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input, signature)
            }
            (Public::Rsa { n, e }, Algorithm::Rs256) => rsa(n, e, &RSA_PKCS1_2048_8192_SHA256),
            (Public::Rsa { n, e }, Algorithm::Ps256) => rsa(n, e, &RSA_PSS_2048_8192_SHA256),
            (Public::P256(_), Algorithm::Rs256 | Algorithm::Ps256)
            | (Public::Rsa { .. }, Algorithm::Es256) => return false,
        };
        self.is_for(algorithm) && verified.is_ok()
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        let only = self.only.as_deref();
        only.is_none_or(|only| only == algorithm.name())
    }
}

/// The keys of one provider, as far as they are known here.
pub(in crate::services) struct ProviderKeys {
    name: String,
    url: Url,
    client: Client,
    known: StdMutex<Known>,
    /// One fetch at a time; who has a fresh key does not come here.
    fetching: Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Arc<Vec<ProviderKey>>,
    fetched_at: Option<Timestamp>,
    tried_at: Option<Timestamp>,
}

impl Known {
    fn find(&self, kid: &str, within: Millis, now: Timestamp) -> Option<ProviderKey> {
        let young = self.fetched_at.is_some_and(|at| now - at < within);
        let key = self.keys.iter().find(|key| key.kid == kid);
        key.filter(|_| young).cloned()
    }

    fn may_fetch(&self, now: Timestamp) -> bool {
        self.tried_at.is_none_or(|at| now - at >= REFRESH_MIN_MS)
    }

    fn last_fetch_failed(&self) -> bool {
        self.fetched_at != self.tried_at
    }
}

impl ProviderKeys {
    /// The keys at `url`, over the connection that the configuration allows to this provider.
    pub(in crate::services) fn new(
        config: &IdentityProvider,
        url: &str,
    ) -> Result<Self, ProviderError> {
        let failed = |problem: String| ProviderError {
            name: config.name.clone(),
            problem,
        };
        if !is_trustworthy(url) {
            return Err(failed("its keys are at no https address".into()));
        }
        let url = Url::parse(url).map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            client: client(config, &url).map_err(failed)?,
            name: config.name.clone(),
            url,
            known: StdMutex::default(),
            fetching: Mutex::default(),
        })
    }

    /// The key of this name, if the provider publishes it.
    pub(in crate::services) async fn find(
        &self,
        kid: &str,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<ProviderKey, BadToken> {
        if let Some(key) = self.known().find(kid, KEYS_FRESH_MS, now) {
            return fitting(key, algorithm);
        }
        self.refresh(kid, now).await;
        let known = self.known();
        match known.find(kid, KEYS_STALE_MS, now) {
            Some(key) => fitting(key, algorithm),
            None if known.last_fetch_failed() => Err(BadToken::ProviderDown),
            None => Err(BadToken::UnknownKey),
        }
    }

    /// Fetches once for everybody who waits, and not too often.
    async fn refresh(&self, kid: &str, now: Timestamp) {
        let _one_at_a_time = self.fetching.lock().await;
        {
            let mut known = self.known();
            let here_by_now = known.find(kid, KEYS_FRESH_MS, now).is_some();
            if here_by_now || !known.may_fetch(now) {
                return;
            }
            known.tried_at = Some(now);
        }
        match self.fetch().await {
            Ok(keys) => {
                let mut known = self.known();
                known.keys = Arc::new(keys);
                known.fetched_at = Some(now);
            }
            Err(error) => {
                tracing::warn!(provider = %self.name, %error, "no keys from the provider")
            }
        }
    }

    async fn fetch(&self) -> Result<Vec<ProviderKey>, String> {
        let request = self.client.get(self.url.clone());
        let (status, body) = answer(request, JWKS_BYTES_MAX).await?;
        match status.is_success() {
            true => read_keys(&body),
            false => Err(format!("it answered {status}")),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fitting(key: ProviderKey, algorithm: Algorithm) -> Result<ProviderKey, BadToken> {
    match key.is_for(algorithm) {
        true => Ok(key),
        false => Err(BadToken::Algorithm),
    }
}

/// What a provider answers, at most `max` bytes of it.
pub(in crate::services) async fn answer(
    request: RequestBuilder,
    max: usize,
) -> Result<(StatusCode, Vec<u8>), String> {
    let mut response = request.send().await.map_err(chain)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(chain)? {
        if body.len() + chunk.len() > max {
            return Err(format!("its answer is larger than {max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

/// Follows no redirect, waits for nothing long, and speaks without TLS to this machine alone.
pub(in crate::services) fn client(config: &IdentityProvider, url: &Url) -> Result<Client, String> {
    // The one provider of this process; whoever comes second finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .timeout(FETCH_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .https_only(url.scheme() == "https");
    let builder = match url.host_str().is_some_and(is_loopback) {
        true => builder.no_proxy(),
        false => builder,
    };
    let builder = match &config.ca_file {
        None => builder,
        Some(path) => {
            let failed = |error: String| format!("{}: {error}", path.display());
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|e| failed(e.to_string()))?;
            builder.tls_certs_only(roots)
        }
    };
    builder.build().map_err(chain)
}

pub(in crate::services) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The error and what is behind it; addresses are the operator's own.
pub(in crate::services) fn chain(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    use_: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Keys of kinds that are not known here, or not for signatures, are passed over.
fn read_keys(json: &[u8]) -> Result<Vec<ProviderKey>, String> {
    let set: RawSet = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let read = |value| serde_json::from_value::<RawKey>(value).ok()?.read();
    Ok(set
        .keys
        .into_iter()
        .take(KEYS_MAX)
        .filter_map(read)
        .collect())
}

impl RawKey {
    fn read(self) -> Option<ProviderKey> {
        if self.use_.as_deref().is_some_and(|it| it != "sig") {
            return None;
        }
        let part = |text: &Option<String>| Base64UrlUnpadded::decode_vec(text.as_deref()?).ok();
        let public = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => Public::P256(point(&part(&self.x)?, &part(&self.y)?)?),
            ("RSA", _) => Public::Rsa {
                n: part(&self.n)?,
                e: part(&self.e)?,
            },
            _ => return None,
        };
        Some(ProviderKey {
            kid: self.kid,
            only: self.alg,
            public,
        })
    }
}

/// Uncompressed SEC 1.
fn point(x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    let whole = x.len() == 32 && y.len() == 32;
    whole.then(|| [&[4], x, y].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://login.example/jwks",
            "http://127.0.0.1:9/jwks",
            "http://[::1]/jwks",
            "http://localhost:80/jwks",
        ] {
            assert!(is_trustworthy(good), "{good}");
        }
        for bad in [
            "http://login.example/jwks",
            "http://127.0.0.1.example/",
            "ftp://127.0.0.1/",
            "jwks",
        ] {
            assert!(!is_trustworthy(bad), "{bad}");
        }
    }
}
