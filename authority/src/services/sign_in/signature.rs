//! Does this provider's key verify this signature, by this algorithm and no other?

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::keys::ProviderKey;

/// The signature does not fit, or the key is not one of this algorithm.
#[derive(Debug)]
pub(super) struct BadSignature;

/// ES256, RS256 or PS256 (RFC 7518, section 3.1); anything else is refused.
pub(super) fn verify(
    algorithm: &str,
    key: &ProviderKey,
    signing_input: &str,
    signature: &[u8],
) -> Result<(), BadSignature> {
    let only = |member: &Option<String>, value: &str| {
        member.as_deref().is_none_or(|member| member == value)
    };
    if !only(&key.alg, algorithm) || !only(&key.use_, "sig") {
        return Err(BadSignature);
    }
    let message = signing_input.as_bytes();
    match (algorithm, key.kty.as_str()) {
        ("ES256", "EC") => verify_p256(key, message, signature),
        ("RS256", "RSA") => verify_rsa(&RSA_PKCS1_2048_8192_SHA256, key, message, signature),
        ("PS256", "RSA") => verify_rsa(&RSA_PSS_2048_8192_SHA256, key, message, signature),
        _ => Err(BadSignature),
    }
}

fn verify_p256(key: &ProviderKey, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let (x, y) = (member(&key.x)?, member(&key.y)?);
    if key.crv.as_deref() != Some("P-256") || x.len() != 32 || y.len() != 32 {
        return Err(BadSignature);
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(message, signature).map_err(|_| BadSignature)
}

fn verify_rsa(
    parameters: &'static RsaParameters,
    key: &ProviderKey,
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    let components = RsaPublicKeyComponents {
        n: member(&key.n)?,
        e: member(&key.e)?,
    };
    components
        .verify(parameters, message, signature)
        .map_err(|_| BadSignature)
}

fn member(text: &Option<String>) -> Result<Vec<u8>, BadSignature> {
    let text = text.as_deref().ok_or(BadSignature)?;
    Base64UrlUnpadded::decode_vec(text).map_err(|_| BadSignature)
}
