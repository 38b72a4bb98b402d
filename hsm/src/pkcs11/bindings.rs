//! Which sealed seeds have shown that their binding holds?
//!
//! A terminal's seed is opened every few hours, and its binding is the same each time. So the HSM token computes it
//! once; afterwards what is to be opened is compared with what it was computed for, byte by byte by its digest. The
//! digest begins with what the binding key itself answers ([`super::proof`]): under another key nothing is known. One
//! memory for all sessions of an HSM token.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};

use super::answers::Answer;
use crate::{SealedSeed, SealingKeys, binding};

/// Most bindings that are remembered, 9 MB: with one more all are forgotten, and each is computed once more.
pub const BINDINGS_MAX: usize = 131_072;

/// SHA-256 over what the binding key answers, the binding, and what it covers.
pub(crate) type BindingDigest = [u8; 32];

#[derive(Default)]
pub(crate) struct Bindings(Mutex<HashSet<BindingDigest>>);

impl Bindings {
    pub(crate) fn held(&self, digest: &BindingDigest) -> bool {
        self.state().contains(digest)
    }

    /// The HSM token computed it, and it is as it was kept.
    pub(crate) fn note(&self, digest: BindingDigest) {
        let mut held = self.state();
        if held.len() >= BINDINGS_MAX {
            held.clear();
        }
        held.insert(digest);
    }

    fn state(&self) -> MutexGuard<'_, HashSet<BindingDigest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `key` is what the binding key answers.
pub(crate) fn digest(key: &Answer, keys: &SealingKeys, sealed: &SealedSeed) -> BindingDigest {
    let len = u32::try_from(key.answer.len()).expect("a mac is far below 4 GiB");
    Sha256::new()
        .chain_update(len.to_be_bytes())
        .chain_update(&key.answer)
        .chain_update(sealed.binding)
        .chain_update(binding::input(&keys.sealing, &sealed.context, &sealed.blob))
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyLabel;

    fn parts() -> (Answer, SealingKeys, SealedSeed) {
        let key = Answer {
            blob: None,
            answer: vec![5; 32],
        };
        let keys = SealingKeys {
            sealing: KeyLabel("sealing".into()),
            binding: KeyLabel("binding".into()),
        };
        let sealed = SealedSeed {
            context: b"terminal 1".to_vec(),
            blob: vec![7; 40],
            binding: [9; 32],
        };
        (key, keys, sealed)
    }

    #[test]
    fn every_part_counts() {
        let of =
            |(key, keys, sealed): &(Answer, SealingKeys, SealedSeed)| digest(key, keys, sealed);
        let mut others = vec![parts(); 5];
        others[0].0.answer[31] ^= 1;
        others[1].1.sealing.0.push('2');
        others[2].2.context[0] ^= 1;
        others[3].2.blob[39] ^= 1;
        others[4].2.binding[31] ^= 1;
        for other in others {
            assert_ne!(of(&other), of(&parts()));
        }
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let bindings = Bindings::default();
        let numbered = |n: usize| Sha256::digest(n.to_be_bytes()).into();
        for n in 0..BINDINGS_MAX {
            bindings.note(numbered(n));
        }
        assert!(bindings.held(&numbered(0)));
        bindings.note(numbered(BINDINGS_MAX));
        assert!(bindings.held(&numbered(BINDINGS_MAX)));
        assert!(!bindings.held(&numbered(0)));
    }
}
