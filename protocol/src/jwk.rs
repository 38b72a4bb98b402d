//! Which public keys verify what we signed?

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

/// A P-256 public key as a JWK (RFC 7517, RFC 7518 section 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Jwk {
    pub kty: String,
    pub crv: String,
    pub x: String,
    pub y: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub use_: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// Certificates of the key, base64 DER, leaf first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub x5c: Vec<String>,
    /// Since when nothing that this key signs is believed, Unix seconds. Somebody else may hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub m2key_tainted_at: Option<i64>,
    /// What this key signs, by `typ`; any of it, if nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub m2key_typ: Vec<String>,
}

/// A JWK set (RFC 7517, section 5). Keys of kinds not known here are passed over when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JwkSet {
    #[serde(deserialize_with = "known_keys")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Jwk>"))]
    pub keys: Vec<Jwk>,
}

/// The key is not a P-256 public key in the form of RFC 7518.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 public key")]
pub struct BadKey;

impl Jwk {
    /// From an uncompressed SEC 1 point (65 bytes); `kid` is the RFC 7638 thumbprint.
    pub fn from_point(point: &[u8; 65]) -> Result<Self, BadKey> {
        VerifyingKey::from_sec1_bytes(point).map_err(|_| BadKey)?;
        let mut jwk = Self {
            kty: "EC".to_string(),
            crv: "P-256".to_string(),
            x: Base64UrlUnpadded::encode_string(&point[1..33]),
            y: Base64UrlUnpadded::encode_string(&point[33..]),
            kid: None,
            use_: Some("sig".to_string()),
            alg: Some("ES256".to_string()),
            x5c: Vec::new(),
            m2key_tainted_at: None,
            m2key_typ: Vec::new(),
        };
        jwk.kid = Some(jwk.thumbprint());
        Ok(jwk)
    }

    /// SHA-256 over the required members in lexical order (RFC 7638), base64url.
    pub fn thumbprint(&self) -> String {
        let canonical = alloc::format!(
            r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{}"}}"#,
            self.crv,
            self.kty,
            self.x,
            self.y
        );
        Base64UrlUnpadded::encode_string(&Sha256::digest(canonical.as_bytes()))
    }

    /// Whether statements of this type are this key's to sign.
    pub fn may_sign(&self, typ: &str) -> bool {
        self.m2key_typ.is_empty() || self.m2key_typ.iter().any(|own| own == typ)
    }

    /// The key that verifies; refuses other key types, curves and points off the curve.
    pub fn verifying_key(&self) -> Result<VerifyingKey, BadKey> {
        let only = |member: &Option<String>, value| member.as_deref().is_none_or(|m| m == value);
        let for_es256 = only(&self.use_, "sig") && only(&self.alg, "ES256");
        if self.kty != "EC" || self.crv != "P-256" || !for_es256 {
            return Err(BadKey);
        }
        let mut point = [4; 65];
        for (coordinate, place) in [(&self.x, 1..33), (&self.y, 33..65)] {
            let bytes = Base64UrlUnpadded::decode_vec(coordinate).map_err(|_| BadKey)?;
            if bytes.len() != 32 {
                return Err(BadKey);
            }
            point[place].copy_from_slice(&bytes);
        }
        VerifyingKey::from_sec1_bytes(&point).map_err(|_| BadKey)
    }
}

impl JwkSet {
    pub fn find(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|key| key.kid.as_deref() == Some(kid))
    }
}

fn known_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Jwk>, D::Error> {
    let keys = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(keys
        .into_iter()
        .filter_map(|key| serde_json::from_value(key).ok())
        .collect())
}
