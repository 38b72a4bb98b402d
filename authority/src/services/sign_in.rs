//! Who is this shopper, and who says so?
//!
//! ```text
//! access token ─▶ Unverified ─▶ provider by iss ─▶ alg allowed ─▶ key by kid ─▶ signature
//!                                                                    └─▶ iss aud exp nbf iat sub ─▶ SignedIn
//! ```
//! JWT access tokens as RFC 9068 profiles them, read as RFC 8725 advises. Only [`SignIn::verify`]
//! makes a [`SignedIn`].

use std::sync::Arc;

use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;

mod keys;
mod token;

pub use keys::{ProviderError, is_trustworthy};

use self::keys::ProviderKeys;
use self::token::{BadToken, Unverified};
use super::Failure;
use crate::app::App;
use crate::config::IdentityProvider;
use crate::store::PersonKey;

/// How long until an identity provider that is down may be back, in seconds.
const PROVIDER_RETRY_S: u32 = 5;

/// A shopper whose access token was verified.
#[derive(Debug, Clone)]
pub struct SignedIn {
    person: PersonKey,
    provider: String,
}

impl SignedIn {
    /// The owner of a phone, as the carrier's network names them. Only what a reply from that phone
    /// approves is theirs: see [`super::sms`].
    pub(super) fn by_phone(person: PersonKey, carrier: &str) -> Self {
        Self {
            person,
            provider: carrier.to_owned(),
        }
    }

    pub fn person(&self) -> &PersonKey {
        &self.person
    }

    /// The provider's name in the configuration.
    pub fn provider(&self) -> &str {
        &self.provider
    }
}

/// Verifies access tokens of the configured identity providers.
pub struct SignIn {
    app: Arc<App>,
    providers: Vec<Provider>,
}

struct Provider {
    config: IdentityProvider,
    keys: ProviderKeys,
}

impl SignIn {
    pub fn new(app: Arc<App>) -> Result<Self, ProviderError> {
        let provider = |config: &IdentityProvider| {
            Ok(Provider {
                keys: ProviderKeys::new(config)?,
                config: config.clone(),
            })
        };
        let configured = &app.config.identity_providers;
        let providers = configured.iter().map(provider).collect::<Result<_, _>>()?;
        Ok(Self { app, providers })
    }

    /// The shopper of this access token.
    pub async fn verify(&self, access_token: &str, now: Timestamp) -> Result<SignedIn, Failure> {
        let verified = self.check(access_token, now).await;
        let verified = verified.map_err(|bad| {
            tracing::info!(reason = %bad, "an access token is refused");
            refusal(bad)
        });
        let outcome = super::outcome(&verified, "accepted");
        let counter = &self.app.metrics.sign_ins;
        counter.with_label_values(&[outcome]).inc();
        verified
    }

    async fn check(&self, access_token: &str, now: Timestamp) -> Result<SignedIn, BadToken> {
        let token = Unverified::read(access_token)?;
        let by_issuer = |it: &&Provider| it.config.issuer == token.issuer();
        let provider = self.providers.iter().find(by_issuer);
        let provider = provider.ok_or(BadToken::Issuer)?;
        let algorithm = token.algorithm(&provider.config.algorithms)?;
        let key = provider.keys.find(token.kid()?, algorithm, now).await?;
        let claims = token.verify(&key, algorithm)?;
        claims.check(&provider.config, now)?;
        Ok(SignedIn {
            person: PersonKey {
                issuer: provider.config.issuer.clone(),
                subject: claims.into_subject(),
            },
            provider: provider.config.name.clone(),
        })
    }
}

/// Strangers learn that it is not good, and whether later may help; the log says why.
fn refusal(bad: BadToken) -> Failure {
    let problem = match bad {
        BadToken::ProviderDown => Problem::new(ProblemType::NotReady)
            .with_detail("the identity provider does not answer")
            .with_retry_after(PROVIDER_RETRY_S),
        BadToken::Expired => Problem::new(ProblemType::SignInRefused).with_detail(bad),
        _ => Problem::new(ProblemType::SignInRefused),
    };
    problem.into()
}
