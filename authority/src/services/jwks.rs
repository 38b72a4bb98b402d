//! Which public keys verify what this authority signed?
//!
//! All of them, whatever became of them: a receipt verifies as long as somebody keeps it. Terminals
//! get the ones that are believed, because what they verify is new.

use bytes::Bytes;

use super::keyring::Keyring;

/// How long others may keep the set, in seconds.
pub const JWKS_MAX_AGE_S: u32 = 300;

/// The JWK set as anybody gets it; tainted keys carry `m2key_tainted_at`.
pub fn published(keyring: &Keyring) -> Bytes {
    keyring.jwks_bytes()
}

/// The JWK set as terminals get it.
pub fn believed(keyring: &Keyring) -> Bytes {
    keyring.believed_bytes()
}
