//! Does this call come from the authority, just now, whole, and for the first time?

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use protocol::http_signature::{
    BadSignature, Demands, LIFETIME_S, SKEW_S, Verified, content_digest, verify,
};
use protocol::jwk::JwkSet;
use protocol::typ;
use protocol::wire::rails::COVERED;
use tokio::sync::Mutex;

use crate::RailConfig;

/// How long a key set is taken as it is, and the least time between two fetches, in seconds.
const KEYS_FRESH_S: i64 = 300;
const FETCH_MIN_S: i64 = 1;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Most nonces that are remembered; each is for as long as its signature could be shown again.
const NONCES_MAX: usize = 100_000;

/// A call as it came.
pub(crate) struct Arrived<'a> {
    pub(crate) url: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Why a call is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is not signed")]
    Unsigned,
    #[error("the body does not fit its digest")]
    Digest,
    #[error(transparent)]
    Signature(#[from] BadSignature),
    #[error("it was here before")]
    Replayed,
    #[error("too many calls to remember")]
    Full,
    #[error("the keys of the authority cannot be fetched")]
    NoKeys,
}

/// Checks calls against the keys that the authority publishes.
pub(crate) struct Signatures {
    keys: String,
    ca: Option<PathBuf>,
    known: Mutex<Known>,
    nonces: Mutex<HashMap<(String, String), i64>>,
}

#[derive(Default)]
struct Known {
    set: JwkSet,
    fetched_at: Option<i64>,
}

impl Signatures {
    pub(crate) fn new(config: &RailConfig) -> Self {
        Self {
            keys: config.authority_keys.clone(),
            ca: config.authority_ca.clone(),
            known: Mutex::default(),
            nonces: Mutex::default(),
        }
    }

    pub(crate) async fn check(&self, arrived: &Arrived<'_>, now: i64) -> Result<(), Refused> {
        if header(arrived.headers, "content-digest") != Some(content_digest(arrived.body)) {
            return Err(Refused::Digest);
        }
        let verified = match self.verify(arrived, now, KEYS_FRESH_S).await {
            // Perhaps a key that is younger than the set.
            Err(Refused::Signature(BadSignature::Key)) => {
                self.verify(arrived, now, FETCH_MIN_S).await?
            }
            other => other?,
        };
        self.remember(&verified, now).await
    }

    async fn verify(
        &self,
        arrived: &Arrived<'_>,
        now: i64,
        fresh_s: i64,
    ) -> Result<Verified, Refused> {
        let keys = self.keys(now, fresh_s).await?;
        let of = |name| header(arrived.headers, name).ok_or(Refused::Unsigned);
        let component = |name: &str| match name {
            "@method" => Some("POST".to_owned()),
            "@target-uri" => Some(arrived.url.to_owned()),
            derived if derived.starts_with('@') => None,
            name => header(arrived.headers, name),
        };
        let demands = Demands {
            tag: typ::RAIL_REQUEST,
            covered: &COVERED,
            now,
        };
        let (input, signature) = (of("signature-input")?, of("signature")?);
        Ok(verify(&input, &signature, component, &keys, &demands)?)
    }

    /// A signature is shown once: whoever sees it on the way cannot show it again.
    async fn remember(&self, verified: &Verified, now: i64) -> Result<(), Refused> {
        let parameters = verified.parameters();
        let mut nonces = self.nonces.lock().await;
        if nonces.len() >= NONCES_MAX {
            nonces.retain(|_, until| *until >= now);
            if nonces.len() >= NONCES_MAX {
                return Err(Refused::Full);
            }
        }
        let until = parameters.created + LIFETIME_S + 2 * SKEW_S;
        let nonce = (parameters.keyid.clone(), parameters.nonce.clone());
        match nonces.insert(nonce, until) {
            None => Ok(()),
            Some(_) => Err(Refused::Replayed),
        }
    }

    async fn keys(&self, now: i64, fresh_s: i64) -> Result<JwkSet, Refused> {
        let mut known = self.known.lock().await;
        if known.fetched_at.is_none_or(|at| now - at >= fresh_s) {
            match self.fetch().await {
                Ok(set) => {
                    *known = Known {
                        set,
                        fetched_at: Some(now),
                    }
                }
                // The keys of before are still the keys of before.
                Err(error) => tracing::warn!(error, "no keys from the authority"),
            }
        }
        match known.fetched_at {
            Some(_) => Ok(known.set.clone()),
            None => Err(Refused::NoKeys),
        }
    }

    /// Over TLS, or from a file that somebody has carried here.
    async fn fetch(&self) -> Result<JwkSet, String> {
        let bytes = if self.keys.starts_with("https://") {
            self.download().await.map_err(|error| error.to_string())?
        } else {
            std::fs::read(&self.keys).map_err(|error| error.to_string())?
        };
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    async fn download(&self) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        // The one provider of this process; whoever comes second finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder().timeout(FETCH_TIMEOUT).no_proxy();
        if let Some(ca) = &self.ca {
            client =
                client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&std::fs::read(ca)?)?);
        }
        let answer = client.build()?.get(&self.keys).send().await?;
        Ok(answer.error_for_status()?.bytes().await?.to_vec())
    }
}

/// One header, if it is there once and can be read.
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?.trim().to_owned();
    all.next().is_none().then_some(first)
}
