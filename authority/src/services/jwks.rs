//! Which public keys verify what this authority signed?
//!
//! All of them, whatever became of them: a receipt verifies as long as somebody keeps it.

use bytes::Bytes;

use super::keyring::Keyring;

/// How long others may keep the set, in seconds.
pub const JWKS_MAX_AGE_S: u32 = 300;

/// The JWK set as it is sent.
pub fn published(keyring: &Keyring) -> Bytes {
    let set = serde_json::to_vec(keyring.jwks());
    set.expect("a key set is plain strings").into()
}
