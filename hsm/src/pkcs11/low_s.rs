//! Which of the two signatures over one digest do we hand out?
//!
//! For every ECDSA signature (r, s) there is a second valid one, (r, n − s). We hand out the smaller
//! s, as some verifiers demand. Others, JOSE libraries among them, take both, so the bytes of a
//! receipt are no proof that nobody touched its signature: what it says is identified by its id.

/// n, the order of P-256, big endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// `r || s` with the smaller of s and n − s. Signatures are public: time may depend on them.
pub(crate) fn low_s(mut signature: [u8; 64]) -> [u8; 64] {
    let (_, s) = signature.split_at_mut(32);
    let other = order_minus(s);
    if other.as_slice() < &*s {
        s.copy_from_slice(&other);
    }
    signature
}

fn order_minus(s: &[u8]) -> [u8; 32] {
    let mut difference = [0; 32];
    let mut borrow = false;
    for i in (0..32).rev() {
        let (part, under) = ORDER[i].overflowing_sub(s[i]);
        let (part, under_again) = part.overflowing_sub(u8::from(borrow));
        difference[i] = part;
        borrow = under || under_again;
    }
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};

    #[test]
    fn it_agrees_with_p256_on_many_signatures() {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let mut high = 0;
        for n in 0..200u8 {
            let signature: Signature = key.sign_prehash(&[n; 32]).unwrap();
            let mut flipped: [u8; 64] = signature.to_bytes().into();
            let other = order_minus(&flipped[32..]);
            flipped[32..].copy_from_slice(&other);
            for bytes in [signature.to_bytes().into(), flipped] {
                let wanted = Signature::from_slice(&bytes).unwrap().normalize_s();
                high += usize::from(wanted.to_bytes().as_slice() != bytes);
                assert_eq!(low_s(bytes).as_slice(), wanted.to_bytes().as_slice());
            }
        }
        assert_eq!(high, 200);
    }
}
