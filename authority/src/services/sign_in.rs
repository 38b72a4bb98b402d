//! Who is this shopper, according to a provider we trust?
//!
//! An access token is a JWT (RFC 9068) of a configured issuer: type, algorithm, key, signature,
//! issuer, audience and times must all hold (RFC 8725). Identity is (issuer, subject).

use std::fmt;

use protocol::jws::Parts;
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Failure;
use crate::config::IdentityProvider;
use crate::metrics::Metrics;
use crate::store::PersonKey;

mod keys;
mod signature;

use keys::ProviderKeys;
pub use keys::ProviderKeysError;

/// Longest access token that is looked at, in bytes.
pub const ACCESS_TOKEN_MAX: usize = 8 * 1024;
/// Longest subject, in bytes (OpenID Connect Core, section 2, allows 255).
pub const SUBJECT_MAX: usize = 255;
/// How far a provider's clock may be off.
pub const LEEWAY_MS: Millis = 30_000;
/// How long a caller waits when the provider's keys cannot be had, in seconds.
const PROVIDER_RETRY_S: u32 = 5;

/// A shopper whom a provider vouches for; only [`SignIn::verify`] makes one.
#[derive(Debug, Clone)]
pub struct SignedIn {
    person: PersonKey,
}

impl SignedIn {
    pub fn person(&self) -> &PersonKey {
        &self.person
    }
}

/// The providers of this authority.
pub struct SignIn {
    providers: Vec<Provider>,
}

struct Provider {
    config: IdentityProvider,
    keys: ProviderKeys,
}

/// Other members are ignored: a `jku`, `jwk` or `x5u` is never followed.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    /// NumericDate may have a fraction (RFC 7519, section 2).
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Why an access token is not accepted. The log hears it; the stranger hears "sign in again".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Malformed,
    Type,
    Critical,
    Algorithm,
    Issuer,
    UnknownKey,
    Signature,
    Audience,
    Expired,
    NotYet,
    Subject,
}

impl SignIn {
    /// Builds a client per provider; nothing is fetched yet.
    pub fn new(providers: &[IdentityProvider]) -> Result<Self, ProviderKeysError> {
        let open = |config: &IdentityProvider| {
            Ok(Provider {
                config: config.clone(),
                keys: ProviderKeys::new(config)?,
            })
        };
        Ok(Self {
            providers: providers.iter().map(open).collect::<Result<_, _>>()?,
        })
    }

    /// Verifies an access token and says who it speaks of.
    pub async fn verify(
        &self,
        token: &str,
        now: Timestamp,
        metrics: &Metrics,
    ) -> Result<SignedIn, Failure> {
        let verified = self.try_verify(token, now).await;
        let outcome = verified
            .as_ref()
            .map_or_else(Failure::label, |_| "accepted");
        metrics.sign_ins.with_label_values(&[outcome]).inc();
        verified
    }

    async fn try_verify(&self, token: &str, now: Timestamp) -> Result<SignedIn, Failure> {
        if token.len() > ACCESS_TOKEN_MAX {
            return Err(Fault::Malformed.into());
        }
        let parts = Parts::split(token).map_err(|_| Fault::Malformed)?;
        let header: Header = read(&parts.header)?;
        let claims: Claims = read(&parts.payload)?;
        let provider = self.provider(&claims.iss)?;
        header.check(&provider.config)?;
        let key = provider
            .keys
            .find(&header.kid, now)
            .await
            .map_err(|_| unreachable_provider())?;
        let key = key.ok_or(Fault::UnknownKey)?;
        signature::verify(&header.alg, &key, parts.signing_input, &parts.signature)
            .map_err(|_| Fault::Signature)?;
        claims.check(&provider.config, now)?;
        Ok(SignedIn {
            person: PersonKey {
                issuer: claims.iss,
                subject: claims.sub,
            },
        })
    }

    fn provider(&self, issuer: &str) -> Result<&Provider, Fault> {
        let found = self
            .providers
            .iter()
            .find(|provider| provider.config.issuer == issuer);
        found.ok_or(Fault::Issuer)
    }
}

impl Header {
    fn check(&self, provider: &IdentityProvider) -> Result<(), Fault> {
        if self.crit.is_some() {
            return Err(Fault::Critical);
        }
        let typ = self.typ.to_ascii_lowercase();
        if typ.strip_prefix("application/").unwrap_or(&typ) != "at+jwt" {
            return Err(Fault::Type);
        }
        if !provider.algorithms.contains(&self.alg) {
            return Err(Fault::Algorithm);
        }
        Ok(())
    }
}

impl Claims {
    fn check(&self, provider: &IdentityProvider, now: Timestamp) -> Result<(), Fault> {
        if !self.aud.names(&provider.audience) {
            return Err(Fault::Audience);
        }
        if date(self.exp) + LEEWAY_MS <= now {
            return Err(Fault::Expired);
        }
        let begins = [self.nbf, self.iat].into_iter().flatten().map(date);
        if begins.into_iter().any(|begins| now + LEEWAY_MS < begins) {
            return Err(Fault::NotYet);
        }
        if self.sub.is_empty() || self.sub.len() > SUBJECT_MAX {
            return Err(Fault::Subject);
        }
        Ok(())
    }
}

impl Audience {
    fn names(&self, ours: &str) -> bool {
        match self {
            Self::One(one) => one == ours,
            Self::Many(many) => many.iter().any(|one| one == ours),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        tracing::info!(?fault, "an access token is not accepted");
        ProblemType::SignInRefused.into()
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignIn({} providers)", self.providers.len())
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(json).map_err(|_| Fault::Malformed)
}

/// Seconds with a fraction; what no clock can show saturates.
fn date(seconds: f64) -> Timestamp {
    Timestamp::from_ms((seconds * 1000.0) as i64)
}

fn unreachable_provider() -> Failure {
    let problem = protocol::problem::Problem::new(ProblemType::NotReady)
        .with_detail("the identity provider cannot be reached")
        .with_retry_after(PROVIDER_RETRY_S);
    problem.into()
}
