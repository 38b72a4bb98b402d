//! How does a provider know that it is us?
//!
//! With a signed statement (`private_key_jwt`), or a shared secret. The file is read again for every
//! use, so that a new key or secret counts as soon as it lies there.

use std::path::Path;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use protocol::jwk::{Jwk, JwkSet};
use protocol::time::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use zeroize::Zeroizing;

use super::trouble::Trouble;
use crate::config::ClientKey;
use crate::ids;

/// How long a statement of who we are is good, in seconds.
const ASSERTION_LIFE_S: i64 = 60;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Largest key or secret file, in bytes.
const FILE_MAX: u64 = 16 * 1024;

/// What goes with a request to the provider.
pub(super) enum Proof {
    /// In the form.
    Assertion(String),
    /// In the header `Authorization`. Mute.
    Basic(Zeroizing<String>),
}

impl Proof {
    pub(super) fn fields(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Assertion(assertion) => vec![
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion),
            ],
            Self::Basic(_) => Vec::new(),
        }
    }

    pub(super) fn header(&self) -> Option<&str> {
        match self {
            Self::Assertion(_) => None,
            Self::Basic(value) => Some(value),
        }
    }
}

/// For one request; `issuer` is whom it is for.
pub(super) async fn prove(
    key: &ClientKey,
    client_id: &str,
    issuer: &str,
    now: Timestamp,
) -> Result<Proof, Trouble> {
    match key {
        ClientKey::Key(file) => {
            let key = read_key(file).await?;
            Ok(Proof::Assertion(sign(&key, client_id, issuer, now)?))
        }
        ClientKey::Secret(file) => {
            let secret = read(file).await?;
            let text = std::str::from_utf8(&secret).map_err(|_| unusable(file, "not text"))?;
            Ok(Proof::Basic(basic(client_id, text.trim())))
        }
    }
}

/// The public half, for whoever must know it; none of a shared secret.
pub(super) async fn published(key: &ClientKey) -> Result<JwkSet, Trouble> {
    let keys = match key {
        ClientKey::Key(file) => vec![public(&read_key(file).await?)?],
        ClientKey::Secret(_) => Vec::new(),
    };
    Ok(JwkSet { keys })
}

/// Name and secret as forms write them, then as Basic does (RFC 6749, section 2.3.1).
fn basic(client_id: &str, secret: &str) -> Zeroizing<String> {
    let encoded = |text: &str| {
        let pair = serde_urlencoded::to_string([("", text)]).unwrap_or_default();
        Zeroizing::new(pair.trim_start_matches('=').to_owned())
    };
    let both = Zeroizing::new(format!("{}:{}", *encoded(client_id), *encoded(secret)));
    Zeroizing::new(format!("Basic {}", Base64::encode_string(both.as_bytes())))
}

/// RFC 7523, section 3, with the provider's issuer as the only audience.
fn sign(
    key: &EcdsaKeyPair,
    client_id: &str,
    issuer: &str,
    now: Timestamp,
) -> Result<String, Trouble> {
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": public(key)?.thumbprint() });
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": issuer,
        "jti": Base64UrlUnpadded::encode_string(&ids::random::<16>()),
        "iat": now.secs(),
        "exp": now.secs() + ASSERTION_LIFE_S,
    });
    let part =
        |json: serde_json::Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
    let input = format!("{}.{}", part(header), part(claims));
    let signature = key
        .sign(&SystemRandom::new(), input.as_bytes())
        .map_err(|_| Trouble::Ours("no random bytes".into()))?;
    let signature = Base64UrlUnpadded::encode_string(signature.as_ref());
    Ok(format!("{input}.{signature}"))
}

fn public(key: &EcdsaKeyPair) -> Result<Jwk, Trouble> {
    let point = <&[u8; 65]>::try_from(key.public_key().as_ref());
    let point = point.map_err(|_| Trouble::Ours("not a key of P-256".into()))?;
    Jwk::from_point(point).map_err(|error| Trouble::Ours(error.to_string()))
}

async fn read_key(file: &Path) -> Result<EcdsaKeyPair, Trouble> {
    let pem = read(file).await?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| unusable(file, "no PKCS#8"))?;
    let random = SystemRandom::new();
    let der = der.secret_pkcs8_der();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
        .map_err(|_| unusable(file, "not a private key of P-256"))
}

async fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    use tokio::io::AsyncReadExt;
    let failed = |error: std::io::Error| unusable(file, &error.to_string());
    let open = tokio::fs::File::open(file).await.map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut limited = open.take(FILE_MAX);
    limited.read_to_end(&mut bytes).await.map_err(failed)?;
    Ok(bytes)
}

/// Names the file, and nothing that is in it.
fn unusable(file: &Path, problem: &str) -> Trouble {
    Trouble::Ours(format!("{}: {problem}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_and_secrets_are_written_as_forms_write_them() {
        let header = basic("m2 key", "a:b%ü");
        let encoded = header.strip_prefix("Basic ").unwrap();
        let both = Base64::decode_vec(encoded).unwrap();
        assert_eq!(both, b"m2+key:a%3Ab%25%C3%BC");
    }
}
