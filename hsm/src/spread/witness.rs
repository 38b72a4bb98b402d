//! Do two HSM tokens hold the same key under one label?
//!
//! What a key answers is compared, because its value is nowhere: a signature with the public key, a mac of a
//! fixed message, a seed that one HSM token sealed and another one unseals. Keys of seeds are tried in
//! pairs, since neither does anything alone.

use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Hsm, HsmError, KeyKind, KeyLabel, Priority, SealedSeed, SealingKeys};

/// No message of ours begins like this, and none of AN10922.
const FIXED: &[u8] = b"m2key: is this the same key?";

/// What a key answered where it is believed.
pub(super) enum Witness {
    Point([u8; 65]),
    Cmac([u8; 16]),
    Pair {
        keys: SealingKeys,
        seed: SealedSeed,
        mac: [u8; 32],
    },
}

/// How a member stands to a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Holds,
    Lacks,
    /// Another key has its label there.
    Differs,
    /// It has not shown it so far.
    Unseen,
}

impl Witness {
    /// Asks the member that is believed. `partner` is the other key of a pair; without one there is nothing
    /// to ask.
    pub(super) async fn take(
        hsm: &dyn Hsm,
        kind: KeyKind,
        label: &KeyLabel,
        partner: Option<KeyLabel>,
    ) -> Result<Option<Self>, HsmError> {
        let keys = match (kind, partner) {
            (KeyKind::Signing, _) => {
                return Ok(Some(Self::Point(hsm.public_key(label).await?)));
            }
            (KeyKind::Cmac, _) => return Ok(Some(Self::Cmac(cmac(hsm, label).await?))),
            (KeyKind::Sealing, Some(binding)) => SealingKeys {
                sealing: label.clone(),
                binding,
            },
            (KeyKind::Binding, Some(sealing)) => SealingKeys {
                sealing,
                binding: label.clone(),
            },
            (KeyKind::Sealing | KeyKind::Binding, None) => return Ok(None),
        };
        let seed = hsm.seal_new_seed(&keys, FIXED.to_vec(), Priority::Renewal);
        let seed = seed.await?;
        let mac = mac(hsm, &keys, &seed).await?;
        Ok(Some(Self::Pair { keys, seed, mac }))
    }

    /// Asks another member. An error says nothing about its key.
    pub(super) async fn standing(
        &self,
        hsm: &dyn Hsm,
        label: &KeyLabel,
    ) -> Result<Standing, HsmError> {
        let same = match self {
            Self::Point(point) => signs_for(hsm, label, point).await,
            Self::Cmac(expected) => cmac(hsm, label).await.map(|it| same(&it, expected)),
            Self::Pair {
                keys,
                seed,
                mac: expected,
            } => mac(hsm, keys, seed).await.map(|it| same(&it, expected)),
        };
        match same {
            Ok(true) => Ok(Standing::Holds),
            Ok(false) | Err(HsmError::NotOurKey { .. } | HsmError::KeyDiffers { .. }) => {
                Ok(Standing::Differs)
            }
            Err(HsmError::KeyUnknown { .. }) => Ok(Standing::Lacks),
            Err(error) => Err(error),
        }
    }

    /// Whether it was taken with the help of this key.
    pub(super) fn leans_on(&self, label: &KeyLabel) -> bool {
        match self {
            Self::Point(_) | Self::Cmac(_) => false,
            Self::Pair { keys, .. } => keys.sealing == *label || keys.binding == *label,
        }
    }
}

/// A private half without its public one would do; a public half alone is no key.
async fn signs_for(hsm: &dyn Hsm, label: &KeyLabel, point: &[u8; 65]) -> Result<bool, HsmError> {
    let digest: [u8; 32] = Sha256::digest(FIXED).into();
    let signature = hsm.sign(label, digest, Priority::Renewal).await?;
    let (Ok(key), Ok(signature)) = (
        VerifyingKey::from_sec1_bytes(point),
        Signature::from_slice(&signature),
    ) else {
        return Ok(false);
    };
    Ok(key.verify_prehash(&digest, &signature).is_ok())
}

async fn cmac(hsm: &dyn Hsm, label: &KeyLabel) -> Result<[u8; 16], HsmError> {
    let macs = hsm.cmac_batch(label, vec![FIXED.to_vec()], Priority::Renewal);
    macs.await?.first().map(|it| it.0).ok_or_else(no_answer)
}

/// By both keys of the pair: that of the binding is used as well, each time.
async fn mac(hsm: &dyn Hsm, keys: &SealingKeys, seed: &SealedSeed) -> Result<[u8; 32], HsmError> {
    hsm.prove_binding(keys, seed, Priority::Renewal).await?;
    let macs = hsm.hmac_batch(keys, seed, vec![FIXED.to_vec()], Priority::Renewal);
    macs.await?.first().map(|it| it.0).ok_or_else(no_answer)
}

fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

fn no_answer() -> HsmError {
    HsmError::Bug {
        detail: "a batch of one message has no mac".into(),
    }
}
