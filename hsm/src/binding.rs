//! Which bytes does the binding of a sealed seed cover?
//!
//! ```text
//! "m2key sealed seed 1" ‖ len ‖ sealing key label ‖ len ‖ context ‖ len ‖ blob
//! ```
//! Every `len` is four bytes, big endian, so that no two triples give the same bytes. HMAC-SHA-256
//! under the binding key over them is the binding.

use subtle::ConstantTimeEq;

use crate::KeyLabel;

const DOMAIN: &[u8] = b"m2key sealed seed 1";

pub(crate) fn input(sealing: &KeyLabel, context: &[u8], blob: &[u8]) -> Vec<u8> {
    let parts = [sealing.0.as_bytes(), context, blob];
    let mut input = DOMAIN.to_vec();
    for part in parts {
        let len = u32::try_from(part.len()).expect("limits keep every part far below 4 GiB");
        input.extend_from_slice(&len.to_be_bytes());
        input.extend_from_slice(part);
    }
    input
}

/// Compares in constant time.
pub(crate) fn matches(computed: &[u8], stored: &[u8; 32]) -> bool {
    computed.ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_between_the_parts_changes_the_input() {
        let label = |text: &str| KeyLabel(text.into());
        let one = input(&label("ab"), b"c", b"d");
        assert_ne!(one, input(&label("a"), b"bc", b"d"));
        assert_ne!(one, input(&label("ab"), b"", b"cd"));
    }

    #[test]
    fn a_shorter_or_different_mac_does_not_match() {
        assert!(matches(&[7; 32], &[7; 32]));
        assert!(!matches(&[7; 31], &[7; 32]));
        assert!(!matches(&[8; 32], &[7; 32]));
    }
}
