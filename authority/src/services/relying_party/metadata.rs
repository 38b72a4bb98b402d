//! What does a provider say of itself?
//!
//! Fetched when it is needed, kept for a while, and still believed for a while when the provider does not
//! answer, as its keys are.

use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use protocol::time::Timestamp;
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::trouble::Trouble;
use crate::config::IdentityProvider;
use crate::services::sign_in::is_trustworthy;
use crate::services::sign_in::keys::{
    KEYS_FRESH_MS, KEYS_STALE_MS, ProviderKeys, REFRESH_MIN_MS, answer,
};

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// Largest metadata, in bytes.
const METADATA_BYTES_MAX: usize = 64 * 1024;

/// What was checked of it.
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization: Url,
    pub(super) token: Url,
    pub(super) user_info: Option<Url>,
    /// Where requests are left beforehand (RFC 9126).
    pub(super) pushed: Option<Url>,
    pub(super) keys: Arc<ProviderKeys>,
    jwks_url: String,
    says_issuer: bool,
}

impl Metadata {
    /// Did the provider that was asked send the browser back (RFC 9207)?
    pub(super) fn check_issuer(&self, iss: Option<&str>) -> Result<(), Trouble> {
        match iss {
            Some(iss) if iss == self.issuer => Ok(()),
            None if !self.says_issuer => Ok(()),
            Some(_) => Err(Trouble::Refused("another provider sent it".into())),
            None => Err(Trouble::Refused("it does not say that it sent it".into())),
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    jwks_uri: String,
    pushed_authorization_request_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
}

/// The metadata of one provider, as far as it is known here.
pub(super) struct Kept {
    config: IdentityProvider,
    client: Client,
    url: String,
    known: StdMutex<Known>,
    /// One fetch at a time.
    fetching: Mutex<()>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(Arc<Metadata>, Timestamp)>,
    tried_at: Option<Timestamp>,
    trouble: Option<Trouble>,
}

impl Known {
    fn within(&self, age_ms: i64, now: Timestamp) -> Option<Arc<Metadata>> {
        let young = self.metadata.as_ref().filter(|(_, at)| now - *at < age_ms);
        young.map(|(metadata, _)| metadata.clone())
    }
}

impl Kept {
    pub(super) fn new(config: &IdentityProvider, client: Client) -> Self {
        let base = config.issuer.strip_suffix('/').unwrap_or(&config.issuer);
        Self {
            url: format!("{base}{WELL_KNOWN}"),
            config: config.clone(),
            client,
            known: StdMutex::default(),
            fetching: Mutex::default(),
        }
    }

    pub(super) async fn get(&self, now: Timestamp) -> Result<Arc<Metadata>, Trouble> {
        if let Some(fresh) = self.known().within(KEYS_FRESH_MS, now) {
            return Ok(fresh);
        }
        self.refresh(now).await;
        let known = self.known();
        known.within(KEYS_STALE_MS, now).ok_or_else(|| {
            let trouble = known.trouble.clone();
            trouble.unwrap_or_else(|| Trouble::Down("no metadata".into()))
        })
    }

    async fn refresh(&self, now: Timestamp) {
        let _one_at_a_time = self.fetching.lock().await;
        let before = {
            let mut known = self.known();
            let lately = known.tried_at.is_some_and(|at| now - at < REFRESH_MIN_MS);
            if lately || known.within(KEYS_FRESH_MS, now).is_some() {
                return;
            }
            known.tried_at = Some(now);
            known.metadata.as_ref().map(|(it, _)| it.clone())
        };
        let fetched = self.fetch(before).await;
        let mut known = self.known();
        match fetched {
            Ok(metadata) => {
                known.metadata = Some((Arc::new(metadata), now));
                known.trouble = None;
            }
            Err(trouble) => {
                tracing::warn!(provider = %self.config.name, %trouble, "no metadata");
                known.trouble = Some(trouble);
            }
        }
    }

    async fn fetch(&self, before: Option<Arc<Metadata>>) -> Result<Metadata, Trouble> {
        let request = self.client.get(&self.url);
        let (status, body) = answer(request, METADATA_BYTES_MAX)
            .await
            .map_err(Trouble::Down)?;
        if !status.is_success() {
            return Err(Trouble::Down(format!("its metadata: {status}")));
        }
        let raw: Raw = serde_json::from_slice(&body)
            .map_err(|error| Trouble::Refused(format!("its metadata: {error}")))?;
        self.check(raw, before)
    }

    fn check(&self, raw: Raw, before: Option<Arc<Metadata>>) -> Result<Metadata, Trouble> {
        let refused = |what: &str| Err(Trouble::Refused(format!("its metadata: {what}")));
        if raw.issuer != self.config.issuer {
            return refused("it names another issuer");
        }
        let methods = raw.code_challenge_methods_supported;
        if methods.is_some_and(|known| !known.iter().any(|method| method == "S256")) {
            return refused("it knows no PKCE with S256");
        }
        let jwks_url = self.config.jwks_url.clone().unwrap_or(raw.jwks_uri);
        let keys = match before.filter(|before| before.jwks_url == jwks_url) {
            Some(before) => before.keys.clone(),
            None => {
                let keys = ProviderKeys::new(&self.config, &jwks_url);
                Arc::new(keys.map_err(|error| Trouble::Refused(error.to_string()))?)
            }
        };
        Ok(Metadata {
            authorization: endpoint(&raw.authorization_endpoint)?,
            token: endpoint(&raw.token_endpoint)?,
            user_info: raw.userinfo_endpoint.as_deref().map(endpoint).transpose()?,
            pushed: raw
                .pushed_authorization_request_endpoint
                .as_deref()
                .map(endpoint)
                .transpose()?,
            issuer: raw.issuer,
            keys,
            jwks_url,
            says_issuer: raw.authorization_response_iss_parameter_supported,
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn endpoint(url: &str) -> Result<Url, Trouble> {
    let parsed = Url::parse(url).ok().filter(|_| is_trustworthy(url));
    parsed.ok_or_else(|| Trouble::Refused("its metadata: an address without TLS".into()))
}
