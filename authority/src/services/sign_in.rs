//! Who is this shopper, and who says so?
//!
//! ```text
//! access token ─▶ Unverified ─▶ provider by iss ─▶ alg allowed ─▶ key by kid ─▶ signature
//!                                                                    └─▶ iss aud exp nbf iat sub ─▶ SignedIn
//! ```
//! and who sends it: the holder of the key that it is bound to (`dpop.rs`).
//!
//! JWT access tokens as RFC 9068 profiles them, read as RFC 8725 advises. Only [`SignIn::verify`]
//! makes a [`SignedIn`].

use std::sync::Arc;

use protocol::ids::SessionId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::{Millis, Timestamp};

mod dpop;
pub(super) mod keys;
mod nonces;
pub(super) mod token;

pub use dpop::{Shown, WalletKey};
pub use keys::{ProviderError, is_trustworthy};

use self::dpop::{BadPossession, Confirmation, Possession};
use self::keys::ProviderKeys;
use self::token::{ACCESS_TOKEN, BadToken, Unverified};
use super::Failure;
use super::pieces::{PIECES_MAX, in_pieces};
use crate::app::App;
use crate::config::IdentityProvider;
use crate::store::{Chore, PersonKey};

/// How young a sign-in must be for what changes who gets in, or who can pay.
pub const FRESH_MS: Millis = 5 * 60_000;
/// How long proofs are remembered past their time, for nodes whose clocks differ.
const PROOFS_KEPT_MS: Millis = 60_000;
/// Proofs forgotten at a time.
const FORGET_BATCH: u32 = 4_096;
/// How long until an identity provider that is down may be back, in seconds.
const PROVIDER_RETRY_S: u32 = 5;

/// How a shopper showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A browser that signed in here.
    Session(SessionId),
    /// An app with an access token of its identity provider.
    AccessToken,
    /// A phone that replied with the one-time number it was sent.
    Phone,
}

/// A shopper who is known: by an access token that was verified, or by a session.
#[derive(Debug, Clone)]
pub struct SignedIn {
    pub(super) person: PersonKey,
    pub(super) provider: String,
    pub(super) authenticated_at: Timestamp,
    pub(super) strong: bool,
    pub(super) by: By,
    pub(super) key: Option<WalletKey>,
}

impl SignedIn {
    /// The owner of a phone, as the carrier's network names them. Only what a reply from that phone
    /// approves is theirs: see [`super::sms`].
    pub(super) fn by_phone(person: PersonKey, carrier: &str) -> Self {
        Self {
            person,
            provider: carrier.to_owned(),
            authenticated_at: Timestamp::from_ms(0),
            strong: false,
            by: By::Phone,
            key: None,
        }
    }

    pub fn person(&self) -> &PersonKey {
        &self.person
    }

    /// The provider's name in the configuration.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// When the provider last asked for a password or a finger; the epoch if it did not say.
    pub fn authenticated_at(&self) -> Timestamp {
        self.authenticated_at
    }

    /// Whether that was young enough for what changes who gets in, or who can pay.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now - self.authenticated_at <= FRESH_MS
    }

    /// For what changes that: refused unless the sign-in is young.
    pub fn demand_fresh(&self, now: Timestamp) -> Result<(), Failure> {
        match self.is_fresh(now) {
            true => Ok(()),
            false => Err(ProblemType::FreshSignInNeeded.into()),
        }
    }

    /// Whether it asked for two independent things (its `acr` is on the provider's list).
    pub fn strong(&self) -> bool {
        self.strong
    }

    pub fn by(&self) -> By {
        self.by
    }

    /// The key that the sender of an access token holds; none where it need not be bound to one.
    pub fn key(&self) -> Option<&WalletKey> {
        self.key.as_ref()
    }
}

/// Verifies access tokens of the configured identity providers.
pub struct SignIn {
    app: Arc<App>,
    providers: Vec<Provider>,
    possession: Possession,
}

struct Provider {
    config: IdentityProvider,
    keys: ProviderKeys,
}

impl SignIn {
    pub fn new(app: Arc<App>) -> Result<Self, ProviderError> {
        let provider = |config: &IdentityProvider| {
            // Others are for browsers alone.
            let (Some(_), Some(url)) = (&config.audience, &config.jwks_url) else {
                return None;
            };
            let config = config.clone();
            let keys = ProviderKeys::new(&config, url);
            Some(keys.map(|keys| Provider { keys, config }))
        };
        let configured = app.config.identity_providers.iter();
        let providers = configured.filter_map(provider).collect::<Result<_, _>>()?;
        Ok(Self {
            possession: Possession::new(app.clone()),
            app,
            providers,
        })
    }

    /// The nonce that the next proof of a key must carry.
    pub async fn nonce(&self, now: Timestamp) -> Result<String, Failure> {
        Ok(self.possession.nonce(now).await?)
    }

    /// Forgets proofs that are too old to be shown again; answers how many.
    pub async fn forget(&self, now: Timestamp) -> Result<usize, Failure> {
        let before = now - PROOFS_KEPT_MS;
        let piece = || self.app.store.forget_proofs(before, FORGET_BATCH);
        let whole = FORGET_BATCH as usize;
        in_pieces(&self.app, Chore::Forgetting, PIECES_MAX, whole, piece).await
    }

    /// The shopper of this access token, sent by whom it was given to.
    pub async fn verify(&self, shown: &Shown<'_>, now: Timestamp) -> Result<SignedIn, Failure> {
        let verified = self.prove(shown, now).await;
        let verified = verified.map_err(|bad| {
            tracing::info!(reason = %bad, "an access token is refused");
            bad.into()
        });
        let outcome = super::outcome(&verified, "accepted");
        let counter = &self.app.metrics.sign_ins;
        counter.with_label_values(&[outcome]).inc();
        verified
    }

    async fn prove(&self, shown: &Shown<'_>, now: Timestamp) -> Result<SignedIn, Refused> {
        let (signed_in, confirmed, required) = self.check(shown.access_token, now).await?;
        let proven = self.possession.prove(shown, confirmed, required, now);
        Ok(SignedIn {
            key: proven.await?,
            ..signed_in
        })
    }

    /// Whom the access token names, what key it is bound to, and whether it must be.
    async fn check(
        &self,
        access_token: &str,
        now: Timestamp,
    ) -> Result<(SignedIn, Confirmation, bool), BadToken> {
        let token = Unverified::read(access_token, ACCESS_TOKEN)?;
        let by_issuer = |it: &&Provider| it.config.issuer == token.issuer();
        let provider = self.providers.iter().find(by_issuer);
        let provider = provider.ok_or(BadToken::Issuer)?;
        let algorithm = token.algorithm(&provider.config.algorithms)?;
        let key = provider.keys.find(token.kid()?, algorithm, now).await?;
        let claims = token.verify(&key, algorithm)?;
        claims.check(&provider.config, now)?;
        let confirmed = claims.confirmation();
        let signed_in = SignedIn {
            authenticated_at: claims.authenticated_at(now)?,
            strong: claims.is_strong(&provider.config),
            by: By::AccessToken,
            person: PersonKey {
                issuer: provider.config.issuer.clone(),
                subject: claims.into_subject(),
            },
            provider: provider.config.name.clone(),
            key: None,
        };
        Ok((signed_in, confirmed, provider.config.sender_constrained))
    }
}

/// Why nobody is signed in: the access token, or who sends it.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Token(#[from] BadToken),
    #[error(transparent)]
    Possession(#[from] BadPossession),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Token(bad) => refusal(bad),
            Refused::Possession(bad) => bad.into(),
        }
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
