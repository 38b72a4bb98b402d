//! Does whoever shows an access token hold the key that it was bound to?
//!
//! Proofs of possession (RFC 9449), without a clock or a memory:
//!
//! ```text
//! header ─read─▶ SignedProof (form, algorithm, key, signature) ─check─▶ Proof (this request, this access token, now)
//! ```
//! Whether the nonce is one of ours and the `jti` was used before is for whoever keeps those.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::jwk::Jwk;
use crate::jws::Parts;
use crate::place;
use crate::time::{Millis, Timestamp};

/// The header that carries the proof.
pub const PROOF_HEADER: &str = "dpop";
/// The header of an answer that carries the nonce for the next proof.
pub const NONCE_HEADER: &str = "dpop-nonce";
/// The `typ` of a proof.
pub const PROOF_TYP: &str = "dpop+jwt";
/// Longest proof that is looked at, in bytes.
pub const PROOF_MAX: usize = 4_096;
/// Longest `jti` and longest nonce of a proof, in bytes.
pub const JTI_MAX: usize = 256;
/// How old a proof may be.
pub const PROOF_PAST_MS: Millis = 60_000;
/// How far the clock of whoever made a proof may be ahead.
pub const PROOF_FUTURE_MS: Millis = 30_000;

/// What a proof says (RFC 9449, section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProofClaims {
    /// Random, for this proof alone.
    pub jti: String,
    /// The method of the request.
    pub htm: String,
    /// Its address, without query and fragment.
    pub htu: String,
    /// NumericDate, seconds.
    pub iat: i64,
    /// [`access_token_hash`] of the access token beside it; none where there is none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ath: Option<String>,
    /// What the other side last said in `DPoP-Nonce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// The request that a proof came with.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub method: &'a str,
    /// Scheme, host and port under which we are known: not what the request says of itself.
    pub origin: &'a str,
    pub path: &'a str,
}

/// RFC 7638 thumbprint of a public key: what an access token is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    pub fn of(key: &Jwk) -> Self {
        Self::parse(&key.thumbprint()).expect("a thumbprint is SHA-256 in base64url")
    }

    /// base64url, as in `cnf.jkt`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let decoded = Base64UrlUnpadded::decode(text, &mut bytes).ok()?.len();
        (decoded == bytes.len()).then_some(Self(bytes))
    }

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64UrlUnpadded::encode_string(&self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What `ath` must be for this access token.
pub fn access_token_hash(access_token: &str) -> String {
    Base64UrlUnpadded::encode_string(&Sha256::digest(access_token.as_bytes()))
}

/// A proof ready to be signed: [`UnsignedProof::digest`] goes to where the key is.
#[derive(Debug, Clone)]
pub struct UnsignedProof {
    signing_input: String,
}

impl UnsignedProof {
    pub fn new(claims: &ProofClaims, key: &Jwk) -> Self {
        #[derive(Serialize)]
        struct Header<'a> {
            typ: &'static str,
            alg: &'static str,
            jwk: Public<'a>,
        }
        #[derive(Serialize)]
        struct Public<'a> {
            kty: &'a str,
            crv: &'a str,
            x: &'a str,
            y: &'a str,
        }
        let header = Header {
            typ: PROOF_TYP,
            alg: "ES256",
            jwk: Public {
                kty: &key.kty,
                crv: &key.crv,
                x: &key.x,
                y: &key.y,
            },
        };
        let part = |json: Vec<u8>| Base64UrlUnpadded::encode_string(&json);
        let header = serde_json::to_vec(&header).expect("a header of strings serializes");
        let claims = serde_json::to_vec(claims).expect("claims of strings and a number serialize");
        Self {
            signing_input: format!("{}.{}", part(header), part(claims)),
        }
    }

    /// SHA-256 of the signing input.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.signing_input.as_bytes()).into()
    }

    /// The compact serialization; `signature` is `r || s`.
    pub fn with_signature(self, signature: &[u8; 64]) -> String {
        let signature = Base64UrlUnpadded::encode_string(signature);
        format!("{}.{signature}", self.signing_input)
    }
}

/// A proof whose signature fits the key in it; for which request is another question.
#[derive(Debug, Clone)]
pub struct SignedProof {
    key: Jwk,
    claims: Claims,
}

impl SignedProof {
    pub fn read(compact: &str) -> Result<Self, BadProof> {
        if compact.len() > PROOF_MAX {
            return Err(BadProof::Malformed);
        }
        let parts = Parts::split(compact).map_err(|_| BadProof::Malformed)?;
        let header: Header = read(&parts.header)?;
        header.check()?;
        let key = header.jwk.public()?;
        let signature = Signature::from_slice(&parts.signature).map_err(|_| BadProof::Signature)?;
        let digest = Sha256::digest(parts.signing_input.as_bytes());
        key.verify_prehash(&digest, &signature)
            .map_err(|_| BadProof::Signature)?;
        Ok(Self {
            key: canonical(&key),
            claims: read(&parts.payload)?,
        })
    }

    /// For this request, beside this access token (none where one is only asked for), and fresh.
    pub fn check(
        self,
        target: &Target<'_>,
        access_token: Option<&str>,
        now: Timestamp,
    ) -> Result<Proof, BadProof> {
        let claims = &self.claims;
        if claims.htm != target.method {
            return Err(BadProof::Method);
        }
        if !place::is_same(&claims.htu, &format!("{}{}", target.origin, target.path)) {
            return Err(BadProof::Address);
        }
        let made_at = claims.made_at()?;
        if made_at < now - PROOF_PAST_MS || made_at > now + PROOF_FUTURE_MS {
            return Err(BadProof::Time);
        }
        if let Some(access_token) = access_token {
            // Both sides are public here: the access token itself came with the request.
            if claims.ath.as_deref() != Some(access_token_hash(access_token).as_str()) {
                return Err(BadProof::AccessToken);
            }
        }
        check_text(&claims.jti)?;
        claims.nonce.as_deref().map_or(Ok(()), check_text)?;
        Ok(Proof {
            thumbprint: Thumbprint::of(&self.key),
            key: self.key,
            jti: self.claims.jti,
            nonce: self.claims.nonce,
            until: made_at + PROOF_PAST_MS,
        })
    }
}

/// Somebody holds this key and means this request. Only [`SignedProof::check`] makes one.
#[derive(Debug, Clone)]
pub struct Proof {
    key: Jwk,
    thumbprint: Thumbprint,
    jti: String,
    nonce: Option<String>,
    until: Timestamp,
}

impl Proof {
    pub fn key(&self) -> &Jwk {
        &self.key
    }

    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    pub fn jti(&self) -> &str {
        &self.jti
    }

    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }

    /// From when on this proof is too old, whoever shows it.
    pub fn until(&self) -> Timestamp {
        self.until
    }
}

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    #[error("not a JWT with the members it needs")]
    Malformed,
    #[error("not a proof by its type")]
    Type,
    #[error("a critical header that is not understood")]
    Critical,
    #[error("signed with another algorithm than ES256")]
    Algorithm,
    #[error("its key is not a P-256 public key")]
    Key,
    #[error("it gives its private key away")]
    PrivateKey,
    #[error("the signature does not fit")]
    Signature,
    #[error("for another method")]
    Method,
    #[error("for another address")]
    Address,
    #[error("made too long ago, or not yet")]
    Time,
    #[error("for another access token")]
    AccessToken,
    #[error("its jti or nonce is empty or too long")]
    Text,
}

#[derive(Deserialize)]
struct Header {
    typ: Option<String>,
    alg: String,
    jwk: RawKey,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

impl Header {
    fn check(&self) -> Result<(), BadProof> {
        if self.typ.as_deref() != Some(PROOF_TYP) {
            return Err(BadProof::Type);
        }
        if self.crit {
            return Err(BadProof::Critical);
        }
        if self.alg != "ES256" {
            return Err(BadProof::Algorithm);
        }
        Ok(())
    }
}

/// A key as the proof brings it, with a look at every member that is private (RFC 7518, section 6).
#[derive(Deserialize)]
struct RawKey {
    #[serde(flatten)]
    jwk: Jwk,
    #[serde(flatten)]
    private: Private,
}

#[derive(Deserialize)]
struct Private {
    #[serde(default, deserialize_with = "present")]
    d: bool,
    #[serde(default, deserialize_with = "present")]
    k: bool,
    #[serde(default, deserialize_with = "present")]
    p: bool,
    #[serde(default, deserialize_with = "present")]
    q: bool,
    #[serde(default, deserialize_with = "present")]
    oth: bool,
}

impl RawKey {
    fn public(&self) -> Result<VerifyingKey, BadProof> {
        let private = &self.private;
        if private.d || private.k || private.p || private.q || private.oth {
            return Err(BadProof::PrivateKey);
        }
        self.jwk.verifying_key().map_err(|_| BadProof::Key)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    /// Perhaps with a fraction (RFC 7519, section 2).
    iat: f64,
    ath: Option<String>,
    nonce: Option<String>,
}

impl Claims {
    fn made_at(&self) -> Result<Timestamp, BadProof> {
        if !self.iat.is_finite() {
            return Err(BadProof::Malformed);
        }
        // Saturates: far away is far enough.
        Ok(Timestamp::from_ms((self.iat * 1000.0) as i64))
    }
}

fn check_text(text: &str) -> Result<(), BadProof> {
    let fits = (1..=JTI_MAX).contains(&text.len());
    fits.then_some(()).ok_or(BadProof::Text)
}

/// The key alone, in the one form its thumbprint is taken of.
fn canonical(key: &VerifyingKey) -> Jwk {
    let point = key.to_sec1_point(false);
    let point = point.as_bytes().try_into();
    let point = point.expect("an uncompressed P-256 point has 65 bytes");
    Jwk::from_point(point).expect("the point of a key lies on its curve")
}

fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, BadProof> {
    serde_json::from_slice(json).map_err(|_| BadProof::Malformed)
}

/// True for whatever stands there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::hazmat::PrehashSigner;

    const NOW: Timestamp = Timestamp::from_secs(1_795_459_200);
    const TARGET: Target<'_> = Target {
        method: "POST",
        origin: "https://pay.example",
        path: "/v1/claims",
    };

    fn proof(change: impl FnOnce(&mut ProofClaims)) -> String {
        let key = SigningKey::from_slice(&[3; 32]).unwrap();
        let mut claims = ProofClaims {
            jti: "one".into(),
            htm: "POST".into(),
            htu: "https://pay.example/v1/claims".into(),
            iat: NOW.secs(),
            ath: Some(access_token_hash("token")),
            nonce: None,
        };
        change(&mut claims);
        let unsigned = UnsignedProof::new(&claims, &canonical(key.verifying_key()));
        let signature: Signature = key.sign_prehash(&unsigned.digest()).unwrap();
        unsigned.with_signature(&signature.to_bytes().into())
    }

    fn verdict(proof: &str) -> Result<Proof, BadProof> {
        SignedProof::read(proof)?.check(&TARGET, Some("token"), NOW)
    }

    #[test]
    fn a_proof_is_for_one_method_address_access_token_and_minute() {
        assert!(verdict(&proof(|_| ())).is_ok());
        let bad = |change: fn(&mut ProofClaims)| verdict(&proof(change)).unwrap_err();
        assert_eq!(bad(|it| it.htm = "GET".into()), BadProof::Method);
        const ELSEWHERE: &str = "https://pay.example/v1/claims/1";
        assert_eq!(bad(|it| it.htu = ELSEWHERE.into()), BadProof::Address);
        assert_eq!(bad(|it| it.iat -= 61), BadProof::Time);
        assert_eq!(bad(|it| it.iat += 31), BadProof::Time);
        assert_eq!(bad(|it| it.ath = None), BadProof::AccessToken);
        assert_eq!(bad(|it| it.jti = "".into()), BadProof::Text);
        assert_eq!(bad(|it| it.nonce = Some("n".repeat(257))), BadProof::Text);
    }

    #[test]
    fn a_proof_that_names_a_key_is_signed_by_that_key() {
        let (mine, another) = (proof(|_| ()), proof(|it| it.jti = "another".into()));
        let (signed, _) = mine.rsplit_once('.').unwrap();
        let (_, signature) = another.rsplit_once('.').unwrap();
        let taken_over = format!("{signed}.{signature}");
        assert_eq!(verdict(&taken_over).unwrap_err(), BadProof::Signature);
    }
}
