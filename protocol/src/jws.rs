//! Who said this, and for what purpose?
//!
//! JWS compact serialization (RFC 7515) with ES256 only, one `typ` per purpose (RFC 8725), `kid` as
//! RFC 7638 thumbprint. Signing is in two steps, because the key is in an HSM:
//! [`Unsigned::digest`] goes there, [`Unsigned::with_signature`] takes what comes back.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::marker::PhantomData;

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use crate::jwk::JwkSet;

/// Longest compact JWS that is looked at, in bytes.
pub const JWS_MAX: usize = 262_144;

/// Claims that have one purpose, and say so in the header.
pub trait Purpose: Serialize + DeserializeOwned {
    /// The `typ` header, without `application/`: one of [`crate::typ`].
    const TYP: &'static str;
}

/// Other members are ignored (RFC 7515, section 4): a `jku`, `jwk` or `x5u` is never followed.
#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "present"
    )]
    crit: bool,
}

/// Claims ready to be signed.
#[derive(Debug, Clone)]
pub struct Unsigned<C> {
    signing_input: String,
    purpose: PhantomData<C>,
}

impl<C: Purpose> Unsigned<C> {
    pub fn new(claims: &C, kid: &str) -> Self {
        let header = Header {
            alg: "ES256".to_string(),
            typ: C::TYP.to_string(),
            kid: kid.to_string(),
            crit: false,
        };
        let part = |json: Vec<u8>| Base64UrlUnpadded::encode_string(&json);
        let header = serde_json::to_vec(&header).expect("a header of three strings serializes");
        let payload =
            serde_json::to_vec(claims).expect("claims are plain structs with string keys");
        Self {
            signing_input: format!("{}.{}", part(header), part(payload)),
            purpose: PhantomData,
        }
    }

    /// What the HSM signs: SHA-256 of the signing input (RFC 7515, section 5.1).
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.signing_input.as_bytes()).into()
    }

    /// The compact serialization; `signature` is `r || s` (RFC 7518, section 3.4).
    pub fn with_signature(self, signature: &[u8; 64]) -> String {
        format!(
            "{}.{}",
            self.signing_input,
            Base64UrlUnpadded::encode_string(signature)
        )
    }
}

/// Claims whose signature was verified; only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<C> {
    claims: C,
    kid: String,
    tainted_at: Option<i64>,
}

impl<C> Verified<C> {
    pub fn claims(&self) -> &C {
        &self.claims
    }

    pub fn into_claims(self) -> C {
        self.claims
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Since when its key is tainted, Unix seconds; only [`verify_kept`] answers with one.
    pub fn tainted_at(&self) -> Option<i64> {
        self.tainted_at
    }

    /// Whether `at` (Unix seconds, as the statement says) is later than the taint of its key. The same
    /// second is not: what was begun before it ends in it, and a thief can write any date anyway.
    pub fn is_past_taint(&self, at: i64) -> bool {
        self.tainted_at.is_some_and(|since| at > since)
    }
}

/// Verifies signature, algorithm, purpose and key, then reads the claims. Times are the caller's. A
/// tainted key verifies nothing.
pub fn verify<C: Purpose>(compact: &str, keys: &JwkSet) -> Result<Verified<C>, BadJws> {
    let verified = verify_kept(compact, keys)?;
    match verified.tainted_at {
        None => Ok(verified),
        Some(_) => Err(BadJws::TaintedKey),
    }
}

/// For evidence that was kept since before its key was tainted: the caller looks at
/// [`Verified::tainted_at`], and at where it was kept, because whoever holds the key can write any
/// date.
pub fn verify_kept<C: Purpose>(compact: &str, keys: &JwkSet) -> Result<Verified<C>, BadJws> {
    let parts = Parts::split(compact)?;
    let header: Header = serde_json::from_slice(&parts.header).map_err(|_| BadJws::Malformed)?;
    if header.crit {
        return Err(BadJws::Critical);
    }
    if header.alg != "ES256" {
        return Err(BadJws::Algorithm);
    }
    if header.typ != C::TYP {
        return Err(BadJws::Purpose);
    }
    let jwk = keys.find(&header.kid).ok_or(BadJws::UnknownKey)?;
    if !jwk.may_sign(C::TYP) {
        return Err(BadJws::ForeignKey);
    }
    let key = jwk.verifying_key().map_err(|_| BadJws::UnknownKey)?;
    let signature = Signature::from_slice(&parts.signature).map_err(|_| BadJws::Signature)?;
    key.verify_prehash(&Sha256::digest(parts.signing_input.as_bytes()), &signature)
        .map_err(|_| BadJws::Signature)?;
    let claims = serde_json::from_slice(&parts.payload).map_err(|_| BadJws::Claims)?;
    Ok(Verified {
        claims,
        kid: header.kid,
        tainted_at: jwk.m2key_tainted_at,
    })
}

/// The three parts of a compact JWS, decoded but not verified.
pub struct Parts<'a> {
    pub header: Vec<u8>,
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
    /// What the signature is over.
    pub signing_input: &'a str,
}

impl<'a> Parts<'a> {
    pub fn split(compact: &'a str) -> Result<Self, BadJws> {
        if compact.len() > JWS_MAX {
            return Err(BadJws::Malformed);
        }
        let (signing_input, signature) = compact.rsplit_once('.').ok_or(BadJws::Malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or(BadJws::Malformed)?;
        let decode = |part| Base64UrlUnpadded::decode_vec(part).map_err(|_| BadJws::Malformed);
        Ok(Self {
            header: decode(header)?,
            payload: decode(payload)?,
            signature: decode(signature)?,
            signing_input,
        })
    }
}

/// Why a JWS is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadJws {
    #[error("not a compact JWS")]
    Malformed,
    #[error("signed with another algorithm than ES256")]
    Algorithm,
    #[error("signed for another purpose")]
    Purpose,
    #[error("a critical header that is not understood")]
    Critical,
    #[error("signed with a key that is not known here")]
    UnknownKey,
    #[error("signed with a key that is for other statements")]
    ForeignKey,
    #[error("signed with a key that is not believed any more")]
    TaintedKey,
    #[error("the signature does not fit")]
    Signature,
    #[error("the signature fits, but the claims are not of this purpose")]
    Claims,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// True for whatever stands there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
