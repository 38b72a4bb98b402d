//! Did we give out this nonce, not long ago?
//!
//! A nonce is a moment and a mac over it: no node keeps a list, and every node of one database knows
//! what any other gave out, because the key lies there. It proves only that a proof is no older than the
//! nonce; that no proof is shown twice is for `jti`.

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use protocol::time::{Millis, Timestamp};
use sha2::Sha256;

use crate::store::NonceKey;

/// Nonces of one step are the same: a wallet is given a new one this often.
const STEP_MS: Millis = 60_000;
/// How many steps a nonce is good for after its own.
const STEPS_MAX: i64 = 5;
/// How many steps the node that gave it out may be ahead.
const STEPS_AHEAD_MAX: i64 = 1;
/// The number of a step, and its mac.
const STEP_BYTES: usize = 8;
const MAC_BYTES: usize = 16;
const DOMAIN: &[u8] = b"m2key/dpop-nonce/1\0";

/// Makes and knows nonces.
pub(super) struct Nonces {
    key: NonceKey,
}

impl Nonces {
    pub(super) fn of(key: NonceKey) -> Self {
        Self { key }
    }

    pub(super) fn issue(&self, now: Timestamp) -> String {
        let step = step_of(now).to_be_bytes();
        let mac = self.mac(&step).finalize().into_bytes();
        Base64UrlUnpadded::encode_string(&[&step[..], &mac[..MAC_BYTES]].concat())
    }

    pub(super) fn knows(&self, nonce: &str, now: Timestamp) -> bool {
        let mut bytes = [0; STEP_BYTES + MAC_BYTES];
        let decoded = Base64UrlUnpadded::decode(nonce, &mut bytes);
        if !decoded.is_ok_and(|it| it.len() == STEP_BYTES + MAC_BYTES) {
            return false;
        }
        let (step, mac) = bytes.split_at(STEP_BYTES);
        let step: [u8; STEP_BYTES] = step.try_into().expect("split at its length");
        let age = step_of(now).saturating_sub(i64::from_be_bytes(step));
        (-STEPS_AHEAD_MAX..=STEPS_MAX).contains(&age)
            && self.mac(&step).verify_truncated_left(mac).is_ok()
    }

    fn mac(&self, step: &[u8; STEP_BYTES]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.key.0).expect("HMAC takes keys of any length");
        mac.update(DOMAIN);
        mac.update(step);
        mac
    }
}

fn step_of(now: Timestamp) -> i64 {
    now.ms().div_euclid(STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_known_to_every_node_for_five_minutes_and_to_nobody_elses() {
        let now = Timestamp::from_ms(1_795_459_200_000);
        let (one, two) = (NonceKey([1; 32]), NonceKey([1; 32]));
        let nonce = Nonces::of(one).issue(now);
        let node = Nonces::of(two);
        assert!(node.knows(&nonce, now));
        assert!(node.knows(&nonce, now - STEP_MS));
        assert!(node.knows(&nonce, now + 5 * STEP_MS));
        assert!(!node.knows(&nonce, now + 6 * STEP_MS));
        assert!(!node.knows(&nonce, now - 2 * STEP_MS));
        assert!(!Nonces::of(NonceKey([2; 32])).knows(&nonce, now));
        for bad in ["", "x", &nonce[1..], &format!("{nonce}AA")] {
            assert!(!node.knows(bad, now), "{bad}");
        }
        let later = Nonces::of(NonceKey([1; 32])).issue(now + STEP_MS);
        let crossed = format!("{}{}", &later[..11], &nonce[11..]);
        assert!(!node.knows(&crossed, now));
    }
}
