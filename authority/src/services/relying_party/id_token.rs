//! Does this ID token say who signed in here, now, for this request?

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::time::{Millis, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::services::sign_in::token::{Audience, BadToken, LEEWAY_MS, NumericDate, check_subject};

/// An ID token needs no type, but it is no other token.
pub(super) const TAKEN: &[&str] = &["", "jwt", "id+jwt"];
/// Longest name of a provider's own session, in bytes.
pub(super) const SID_MAX: usize = 255;

/// What it must agree with.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    pub(super) access_token: Option<&'a str>,
    /// How old the password may be, as the provider was asked.
    pub(super) longest_age_ms: Millis,
}

#[derive(Deserialize)]
pub(super) struct IdToken {
    iss: String,
    pub(super) sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: NumericDate,
    iat: NumericDate,
    nbf: Option<NumericDate>,
    nonce: Option<String>,
    auth_time: Option<NumericDate>,
    acr: Option<String>,
    at_hash: Option<String>,
    pub(super) sid: Option<String>,
    pub(super) m2key_accounts: Option<Value>,
}

impl IdToken {
    /// OpenID Connect Core, section 3.1.3.7.
    pub(super) fn check(&self, expected: &Expected<'_>, now: Timestamp) -> Result<(), BadToken> {
        if self.iss != expected.issuer {
            return Err(BadToken::Issuer);
        }
        self.check_audience(expected.client_id)?;
        if now >= self.exp.at()? + LEEWAY_MS {
            return Err(BadToken::Expired);
        }
        let not_before = self.nbf.map_or(Ok(now), NumericDate::at)?;
        if self.iat.at()? > now + LEEWAY_MS || not_before > now + LEEWAY_MS {
            return Err(BadToken::Early);
        }
        let nonce = self.nonce.as_deref().unwrap_or_default();
        if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
            return Err(BadToken::Nonce);
        }
        self.check_access_token(expected.access_token)?;
        if now - self.authenticated_at(now)? > expected.longest_age_ms + LEEWAY_MS {
            return Err(BadToken::NotFresh);
        }
        let sid = self.sid.as_deref();
        if sid.is_some_and(|sid| !(1..=SID_MAX).contains(&sid.len())) {
            return Err(BadToken::Malformed);
        }
        check_subject(&self.sub)
    }

    /// For us; and where it is for others, too, made for us.
    fn check_audience(&self, client_id: &str) -> Result<(), BadToken> {
        let party = self.azp.as_deref();
        let ours = self.aud.contains(client_id) && party.is_none_or(|party| party == client_id);
        match ours && (self.aud.is_one() || party.is_some()) {
            true => Ok(()),
            false => Err(BadToken::Audience),
        }
    }

    /// The access token that came with it is the one that it speaks of.
    fn check_access_token(&self, access_token: Option<&str>) -> Result<(), BadToken> {
        let (Some(at_hash), Some(access_token)) = (&self.at_hash, access_token) else {
            return Ok(());
        };
        // Every algorithm that is allowed here hashes with SHA-256.
        let hash = Sha256::digest(access_token.as_bytes());
        match *at_hash == part(&hash[..16]) {
            true => Ok(()),
            false => Err(BadToken::AccessTokenHash),
        }
    }

    /// When the provider last asked for a password or a finger: long ago, if it does not say.
    pub(super) fn authenticated_at(&self, now: Timestamp) -> Result<Timestamp, BadToken> {
        let said = self.auth_time.map(NumericDate::at).transpose()?;
        Ok(said.unwrap_or(Timestamp::from_ms(0)).min(now))
    }

    pub(super) fn is_strong(&self, strong_acr: &[String]) -> bool {
        let acr = self.acr.as_ref();
        acr.is_some_and(|acr| strong_acr.contains(acr))
    }
}

pub(super) fn part(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}
