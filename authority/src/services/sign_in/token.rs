//! What does a token of an identity provider claim, and do its claims hold?
//!
//! Knows the time only by being told, and no network. Access tokens are judged here; what a token for us
//! as a client says is judged by [`relying_party`](crate::services::relying_party).

use protocol::dpop::Thumbprint;
use protocol::jws::Parts;
use protocol::time::{Millis, Timestamp};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::dpop::Confirmation;
use super::keys::{Algorithm, ProviderKey};
use crate::config::IdentityProvider;

/// Longest access token that is looked at, in bytes.
pub(super) const ACCESS_TOKEN_MAX: usize = 8 * 1024;
/// How far the provider's clock and ours may be apart.
pub(in crate::services) const LEEWAY_MS: Millis = 30_000;
/// Longest name a provider may give a person, in bytes (OpenID Connect Core, section 2).
pub(super) const SUBJECT_MAX: usize = 255;

/// Why an access token is not good. For the log: strangers hear less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::services) enum BadToken {
    #[error("not a JWT with the members it needs")]
    Malformed,
    #[error("not a token for this by its type")]
    Type,
    #[error("a critical header that is not understood")]
    Critical,
    #[error("signed with an algorithm that is not allowed for its issuer")]
    Algorithm,
    #[error("names no key")]
    NoKid,
    #[error("from an issuer that is not configured")]
    Issuer,
    #[error("signed with a key its issuer does not publish")]
    UnknownKey,
    #[error("the identity provider's keys cannot be had")]
    ProviderDown,
    #[error("the signature does not fit")]
    Signature,
    #[error("meant for somebody else")]
    Audience,
    #[error("the sign-in has expired")]
    Expired,
    #[error("not good yet")]
    Early,
    #[error("made for another request")]
    Nonce,
    #[error("came with another access token")]
    AccessTokenHash,
    #[error("the provider did not ask for the password again")]
    NotFresh,
    #[error("names nobody, or with an impossible name")]
    Subject,
}

/// The type of an access token (RFC 9068, section 2.1).
pub(super) const ACCESS_TOKEN: &[&str] = &["at+jwt"];

/// A token as it came: nothing of it is true yet.
pub(in crate::services) struct Unverified<'a, C = Claims> {
    parts: Parts<'a>,
    header: Header,
    claims: C,
}

impl Unverified<'_> {
    /// Only to find out whose keys to ask.
    pub(super) fn issuer(&self) -> &str {
        &self.claims.iss
    }
}

impl<'a, C: DeserializeOwned> Unverified<'a, C> {
    /// A token whose `typ` is one of these; an empty one is that of a token without.
    pub(in crate::services) fn read(text: &'a str, types: &[&str]) -> Result<Self, BadToken> {
        if text.len() > ACCESS_TOKEN_MAX {
            return Err(BadToken::Malformed);
        }
        let parts = Parts::split(text).map_err(|_| BadToken::Malformed)?;
        let header: Header = read(&parts.header)?;
        header.check(types)?;
        let claims = read(&parts.payload)?;
        Ok(Self {
            parts,
            header,
            claims,
        })
    }

    pub(in crate::services) fn kid(&self) -> Result<&str, BadToken> {
        self.header.kid.as_deref().ok_or(BadToken::NoKid)
    }

    /// The algorithm, if the configuration allows it: what the token says decides nothing.
    pub(in crate::services) fn algorithm(&self, allowed: &[String]) -> Result<Algorithm, BadToken> {
        let named = allowed.iter().find(|name| **name == self.header.alg);
        let known = named.and_then(|name| Algorithm::of(name));
        known.ok_or(BadToken::Algorithm)
    }

    pub(in crate::services) fn verify(
        self,
        key: &ProviderKey,
        algorithm: Algorithm,
    ) -> Result<SignedClaims<C>, BadToken> {
        let input = self.parts.signing_input.as_bytes();
        if !key.verifies(algorithm, input, &self.parts.signature) {
            return Err(BadToken::Signature);
        }
        Ok(SignedClaims(self.claims))
    }
}

/// Claims whose signature fits; whether they hold now is another question.
pub(in crate::services) struct SignedClaims<C = Claims>(pub(in crate::services) C);

impl SignedClaims {
    pub(super) fn check(
        &self,
        provider: &IdentityProvider,
        now: Timestamp,
    ) -> Result<(), BadToken> {
        let claims = &self.0;
        if claims.iss != provider.issuer {
            return Err(BadToken::Issuer);
        }
        let audience = provider.audience.as_ref();
        if !audience.is_some_and(|ours| claims.aud.contains(ours)) {
            return Err(BadToken::Audience);
        }
        if now >= claims.exp.at()? + LEEWAY_MS {
            return Err(BadToken::Expired);
        }
        let not_before = claims.nbf.map_or(Ok(now), NumericDate::at)?;
        if claims.iat.at()? > now + LEEWAY_MS || not_before > now + LEEWAY_MS {
            return Err(BadToken::Early);
        }
        check_subject(&claims.sub)
    }

    /// A binding that is not understood is one, too.
    pub(super) fn confirmation(&self) -> Confirmation {
        match &self.0.cnf {
            None => Confirmation::None,
            Some(cnf) => {
                let thumbprint = cnf.jkt.as_deref().and_then(Thumbprint::parse);
                thumbprint.map_or(Confirmation::Other, Confirmation::Key)
            }
        }
    }

    /// When the provider last asked for a password or a finger. Long ago, if it does not say, and never
    /// after now.
    pub(super) fn authenticated_at(&self, now: Timestamp) -> Result<Timestamp, BadToken> {
        let said = self.0.auth_time.map(NumericDate::at).transpose()?;
        Ok(said.unwrap_or(Timestamp::from_ms(0)).min(now))
    }

    pub(super) fn is_strong(&self, provider: &IdentityProvider) -> bool {
        let acr = self.0.acr.as_ref();
        acr.is_some_and(|acr| provider.strong_acr.contains(acr))
    }

    pub(super) fn into_subject(self) -> String {
        self.0.sub
    }
}

pub(in crate::services) fn check_subject(subject: &str) -> Result<(), BadToken> {
    let fits = (1..=SUBJECT_MAX).contains(&subject.len());
    if fits && !subject.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(BadToken::Subject)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

impl Header {
    fn check(&self, types: &[&str]) -> Result<(), BadToken> {
        if self.crit {
            return Err(BadToken::Critical);
        }
        let typ = self.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        match types.contains(&typ.strip_prefix("application/").unwrap_or(&typ)) {
            true => Ok(()),
            false => Err(BadToken::Type),
        }
    }
}

/// Of an access token.
#[derive(Deserialize)]
pub(in crate::services) struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: NumericDate,
    iat: NumericDate,
    nbf: Option<NumericDate>,
    auth_time: Option<NumericDate>,
    acr: Option<String>,
    cnf: Option<Cnf>,
}

/// Who may use it (RFC 7800); only a key's thumbprint is understood (RFC 9449, section 6).
#[derive(Deserialize)]
struct Cnf {
    jkt: Option<String>,
}

/// One or several (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(in crate::services) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(in crate::services) fn contains(&self, ours: &str) -> bool {
        match self {
            Self::One(one) => one == ours,
            Self::Several(several) => several.iter().any(|one| one == ours),
        }
    }

    pub(in crate::services) fn is_one(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Several(several) => several.len() == 1,
        }
    }
}

/// Seconds since the Unix epoch, perhaps with a fraction (RFC 7519, section 2).
#[derive(Clone, Copy, Deserialize)]
pub(in crate::services) struct NumericDate(f64);

impl NumericDate {
    pub(in crate::services) fn at(self) -> Result<Timestamp, BadToken> {
        if !self.0.is_finite() {
            return Err(BadToken::Malformed);
        }
        // Saturates: far away is far enough.
        Ok(Timestamp::from_ms((self.0 * 1000.0) as i64))
    }
}

fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, BadToken> {
    serde_json::from_slice(json).map_err(|_| BadToken::Malformed)
}

/// True for whatever stands there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
