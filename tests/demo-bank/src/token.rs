//! What does an access token say, and who says it?
//!
//! A JWT by RFC 9068 (`typ` at+jwt), signed with ES256.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use protocol::dpop::Thumbprint;
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::{Purpose, Unsigned};
use serde::{Deserialize, Serialize};

/// How long an access token is good for, in seconds: one payment, not one day.
pub const LIFETIME_S: i64 = 600;
/// The only client of this demo: the shopper's phone.
const CLIENT: &str = "demo-phone";

/// The claims of RFC 9068, section 2.2.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccessToken {
    pub iss: String,
    pub sub: String,
    pub aud: String,
    /// NumericDate, seconds.
    pub exp: i64,
    /// NumericDate, seconds.
    pub iat: i64,
    pub jti: String,
    pub client_id: String,
    pub cnf: Confirmation,
}

/// The key that whoever uses the token must hold (RFC 9449, section 6).
#[derive(Clone, Serialize, Deserialize)]
pub struct Confirmation {
    /// Its RFC 7638 thumbprint.
    pub jkt: String,
}

impl Purpose for AccessToken {
    const TYP: &'static str = "at+jwt";
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandom;

/// The bank's signing key; it ends with the process.
pub struct Signer {
    key: SigningKey,
    public: Jwk,
}

impl Signer {
    pub fn generate() -> Result<Self, NoRandom> {
        let key = random_key()?;
        let point = key.verifying_key().to_sec1_point(false);
        let point = point
            .as_bytes()
            .try_into()
            .expect("uncompressed P-256: 65 bytes");
        let public = Jwk::from_point(&point).expect("the point of a key lies on its curve");
        Ok(Self { key, public })
    }

    /// What `GET /.well-known/jwks.json` answers.
    pub fn published(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.public.clone()],
        }
    }

    /// An access token for this subject and the holder of this key, good from `now` (seconds) on.
    pub fn issue(
        &self,
        issuer: &str,
        subject: &str,
        audience: &str,
        key: Thumbprint,
        now: i64,
    ) -> String {
        self.sign(&AccessToken {
            iss: issuer.into(),
            sub: subject.into(),
            aud: audience.into(),
            exp: now + LIFETIME_S,
            iat: now,
            jti: jti(),
            client_id: CLIENT.into(),
            cnf: Confirmation {
                jkt: key.to_string(),
            },
        })
    }

    /// Signs any claims; tests use it for tokens that are wrong on purpose.
    pub fn sign<C: Purpose + Serialize>(&self, claims: &C) -> String {
        let unsigned = Unsigned::new(claims, &self.public.thumbprint());
        let signature: Signature = self
            .key
            .sign_prehash(&unsigned.digest())
            .expect("a SHA-256 digest is long enough for P-256");
        unsigned.with_signature(&signature.to_bytes().into())
    }
}

fn random_key() -> Result<SigningKey, NoRandom> {
    let mut bytes = [0; 32];
    loop {
        getrandom::fill(&mut bytes).map_err(|_| NoRandom)?;
        // All but one in 2^32 draws lie below the order of the curve.
        if let Ok(key) = SigningKey::from_slice(&bytes) {
            return Ok(key);
        }
    }
}

/// An id that no other access token has; without random bytes the process has no key either.
fn jti() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random bytes were there when the key was made");
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::jws;

    fn thumbprint() -> Thumbprint {
        Thumbprint::of(&Signer::generate().unwrap().public)
    }

    #[test]
    fn an_access_token_verifies_with_the_published_keys_and_names_its_subject() {
        let signer = Signer::generate().unwrap();
        let token = signer.issue(
            "https://bank.example",
            "shopper-one",
            "https://pay.example",
            thumbprint(),
            7,
        );
        let verified = jws::verify::<AccessToken>(&token, &signer.published()).unwrap();
        let claims = verified.claims();
        assert_eq!(claims.sub, "shopper-one");
        assert_eq!((claims.iat, claims.exp), (7, 7 + LIFETIME_S));
    }

    #[test]
    fn another_banks_key_does_not_verify_it() {
        let (one, other) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let token = one.issue(
            "https://bank.example",
            "shopper-one",
            "https://pay.example",
            thumbprint(),
            7,
        );
        assert!(jws::verify::<AccessToken>(&token, &other.published()).is_err());
    }
}
