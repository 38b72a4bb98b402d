//! How does a request of ours prove who sent it?
//!
//! The request key signs in the HSM; whoever is asked verifies with the published key set.

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use hsm::{Hsm, Priority};
use protocol::http_signature::{Component, LIFETIME_S, Parameters, Unsigned, content_digest};
use protocol::time::Timestamp;

use super::Failure;
use super::keyring::SigningKey;
use crate::app::App;
use crate::clock::Clock;
use crate::ids;

/// What every signed request has: JSON in a POST.
pub const MEDIA: &str = "application/json";

/// Signs requests to others.
#[derive(Clone)]
pub struct Requests {
    hsm: Arc<dyn Hsm>,
    clock: Arc<dyn Clock>,
    key: Arc<dyn Fn() -> Option<SigningKey> + Send + Sync>,
}

/// A POST to somebody else, before it is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The whole address, as it is called.
    pub url: &'a str,
    /// What it is for: `protocol::typ`.
    pub tag: &'a str,
    /// Sent as `Idempotency-Key`, a string of RFC 8941.
    pub idempotency_key: &'a str,
    pub body: &'a [u8],
}

/// Header names and values of a signed request, all of them to be sent as they are.
pub type Headers = Vec<(&'static str, String)>;

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unsignable {
    #[error("there is no request key: `m2key-authority key prepare request`, then `key activate`")]
    NoKey,
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Requests {
    /// With the request key as of each call.
    pub fn of(app: &Arc<App>) -> Self {
        let keys = Arc::downgrade(app);
        let key = move || keys.upgrade()?.keyring().request().cloned();
        Self::new(app.hsm.clone(), app.clock.clone(), Arc::new(key))
    }

    pub fn new(
        hsm: Arc<dyn Hsm>,
        clock: Arc<dyn Clock>,
        key: Arc<dyn Fn() -> Option<SigningKey> + Send + Sync>,
    ) -> Self {
        Self { hsm, clock, key }
    }

    /// What a signer of that kind can sign with at all.
    pub fn has_key(&self) -> bool {
        (self.key)().is_some()
    }

    pub async fn sign(&self, request: &Request<'_>) -> Result<Headers, Unsignable> {
        let key = (self.key)().ok_or(Unsignable::NoKey)?;
        let digest = content_digest(request.body);
        let idempotency_key = format!("\"{}\"", request.idempotency_key);
        let components: [Component<'_>; 5] = [
            ("@method", "POST"),
            ("@target-uri", request.url),
            ("content-type", MEDIA),
            ("content-digest", &digest),
            ("idempotency-key", &idempotency_key),
        ];
        let parameters = parameters(&key, request.tag, self.clock.now());
        let unsigned = Unsigned::new(&components, &parameters);
        let signing = self
            .hsm
            .sign(&key.label, unsigned.digest(), Priority::Payment);
        let signed = unsigned.with_signature(&signing.await.map_err(Failure::from)?);
        Ok(vec![
            ("content-type", MEDIA.to_owned()),
            ("content-digest", digest),
            ("idempotency-key", idempotency_key),
            ("signature-input", signed.signature_input),
            ("signature", signed.signature),
        ])
    }
}

fn parameters(key: &SigningKey, tag: &str, now: Timestamp) -> Parameters {
    let nonce: [u8; 16] = ids::random();
    Parameters {
        created: now.secs(),
        expires: now.secs() + LIFETIME_S,
        nonce: Base64UrlUnpadded::encode_string(&nonce),
        keyid: key.kid.clone(),
        tag: tag.to_owned(),
    }
}
