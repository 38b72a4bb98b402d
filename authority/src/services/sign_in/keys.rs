//! Which keys does a provider sign with today?
//!
//! Its JWK set is fetched when a key is asked for that is not known, at most every so often, and kept
//! until the next fetch.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use protocol::time::{Millis, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::config::IdentityProvider;
use crate::listen::tls;

/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest JWK set that is read, in bytes.
const JWKS_MAX: usize = 256 * 1024;
/// Between two fetches, so that made-up key ids are no way to hammer the provider.
const FETCH_PAUSE_MS: Millis = 10_000;
/// After this long the set is fetched again even if every key is known: a provider may withdraw one.
const KEYS_LIFE_MS: Millis = 3_600_000;

/// A key of a provider, as it publishes it (RFC 7517).
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ProviderKey {
    pub(super) kty: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default, rename = "use")]
    pub(super) use_: Option<String>,
    #[serde(default)]
    pub(super) alg: Option<String>,
    #[serde(default)]
    pub(super) crv: Option<String>,
    #[serde(default)]
    pub(super) x: Option<String>,
    #[serde(default)]
    pub(super) y: Option<String>,
    #[serde(default)]
    pub(super) n: Option<String>,
    #[serde(default)]
    pub(super) e: Option<String>,
}

/// The keys of one provider.
pub(super) struct ProviderKeys {
    url: String,
    client: reqwest::Client,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    keys: Vec<ProviderKey>,
    tried_at: Option<Timestamp>,
    fetched_at: Option<Timestamp>,
}

/// Why a provider cannot be asked for its keys.
#[derive(Debug, thiserror::Error)]
pub enum ProviderKeysError {
    #[error("identity provider {name:?}: {} cannot be used ({detail})", .path.display())]
    CaFile {
        name: String,
        path: PathBuf,
        detail: String,
    },
    #[error("identity provider {name:?}: no TLS client ({detail})")]
    Client { name: String, detail: String },
}

/// The provider did not answer with a JWK set.
#[derive(Debug)]
pub(super) struct NotFetched;

impl ProviderKeys {
    pub(super) fn new(provider: &IdentityProvider) -> Result<Self, ProviderKeysError> {
        Ok(Self {
            url: provider.jwks_url.clone(),
            client: client(provider)?,
            held: Mutex::default(),
        })
    }

    /// The key with this id; none if the provider has no such key.
    pub(super) async fn find(
        &self,
        kid: &str,
        now: Timestamp,
    ) -> Result<Option<ProviderKey>, NotFetched> {
        let mut held = self.held.lock().await;
        if held.is_stale(now) || (held.get(kid).is_none() && held.may_try(now)) {
            self.refresh(&mut held, now).await;
        }
        match (held.get(kid), held.fetched_at) {
            (None, None) => Err(NotFetched),
            (found, _) => Ok(found.cloned()),
        }
    }

    /// Keys fetched before stay in use while the provider does not answer.
    async fn refresh(&self, held: &mut Held, now: Timestamp) {
        held.tried_at = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                held.keys = keys;
                held.fetched_at = Some(now);
            }
            Err(why) => tracing::warn!(url = %self.url, %why, "an identity provider's keys"),
        }
    }

    async fn fetch(&self) -> Result<Vec<ProviderKey>, String> {
        let answer = self
            .client
            .get(&self.url)
            .send()
            .await
            .map_err(|e| e.to_string())?;
        let answer = answer.error_for_status().map_err(|e| e.to_string())?;
        let mut body = Vec::new();
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk.map_err(|e| e.to_string())?);
            if body.len() > JWKS_MAX {
                return Err(format!("a JWK set of more than {JWKS_MAX} bytes"));
            }
        }
        read_set(&body).map_err(|e| e.to_string())
    }
}

impl Held {
    fn get(&self, kid: &str) -> Option<&ProviderKey> {
        self.keys.iter().find(|key| key.kid.as_deref() == Some(kid))
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        let old = self.fetched_at.is_none_or(|at| now - at >= KEYS_LIFE_MS);
        old && self.may_try(now)
    }

    fn may_try(&self, now: Timestamp) -> bool {
        self.tried_at.is_none_or(|at| now - at >= FETCH_PAUSE_MS)
    }
}

/// Keys of kinds not known here are passed over.
fn read_set(json: &[u8]) -> serde_json::Result<Vec<ProviderKey>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(json)?;
    Ok(set
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value(key).ok())
        .collect())
}

fn client(provider: &IdentityProvider) -> Result<reqwest::Client, ProviderKeysError> {
    let failed = |detail: String| ProviderKeysError::Client {
        name: provider.name.clone(),
        detail,
    };
    let builder = reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    let builder = match &provider.ca_file {
        Some(path) => builder.tls_backend_preconfigured(private_roots(provider, path)?),
        None => {
            // The system's roots are read by a verifier that takes the provider of the process.
            let _ = rustls::crypto::ring::default_provider().install_default();
            builder
        }
    };
    builder.build().map_err(|error| failed(error.to_string()))
}

fn private_roots(
    provider: &IdentityProvider,
    path: &Path,
) -> Result<rustls::ClientConfig, ProviderKeysError> {
    let failed = |detail: String| ProviderKeysError::CaFile {
        name: provider.name.clone(),
        path: path.to_path_buf(),
        detail,
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in tls::chain(path).map_err(|error| failed(error.to_string()))? {
        roots.add(root).map_err(|error| failed(error.to_string()))?;
    }
    let versions = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}
