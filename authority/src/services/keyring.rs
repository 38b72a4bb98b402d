//! Which key signs what, and which keys verify it?

use std::sync::Arc;

use hsm::{Hsm, KeyLabel, Priority, SealingKeys};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::{Purpose, Unsigned};

use crate::store::KeyRecord;

use super::Failure;

/// What a key is for, as the keys table and the label `m2key-<purpose>-<n>` say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPurpose {
    Sealing,
    Binding,
    Schedule,
    Receipt,
    Checkpoint,
}

impl KeyPurpose {
    pub const ALL: [Self; 5] = [
        Self::Sealing,
        Self::Binding,
        Self::Schedule,
        Self::Receipt,
        Self::Checkpoint,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sealing => "sealing",
            Self::Binding => "binding",
            Self::Schedule => "schedule",
            Self::Receipt => "receipt",
            Self::Checkpoint => "checkpoint",
        }
    }

    pub fn kind(self) -> hsm::KeyKind {
        match self {
            Self::Sealing => hsm::KeyKind::Sealing,
            Self::Binding => hsm::KeyKind::Binding,
            Self::Schedule | Self::Receipt | Self::Checkpoint => hsm::KeyKind::Signing,
        }
    }

    /// The label of the n-th key of this purpose.
    pub fn label(self, n: u32) -> KeyLabel {
        KeyLabel(format!("m2key-{}-{n}", self.name()))
    }
}

/// A signing key by the two names it has: outside, and in the HSM.
#[derive(Debug, Clone)]
pub struct SigningKey {
    pub kid: String,
    pub label: KeyLabel,
}

/// The active key of every purpose, and all public keys there ever were.
#[derive(Debug, Clone)]
pub struct Keyring {
    sealing: SealingKeys,
    schedule: SigningKey,
    receipt: SigningKey,
    checkpoint: SigningKey,
    jwks: JwkSet,
    checkpoint_keys: JwkSet,
}

/// The database names no active key for a purpose, or one that is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keys table has no usable active {purpose} key")]
pub struct KeyMissing {
    purpose: &'static str,
}

impl Keyring {
    pub fn new(records: &[KeyRecord]) -> Result<Self, KeyMissing> {
        let label = |purpose| active(records, purpose).map(|record| record.label.clone());
        let signing = |purpose| {
            active(records, purpose).map(|record| SigningKey {
                kid: record.kid.clone(),
                label: record.label.clone(),
            })
        };
        Ok(Self {
            sealing: SealingKeys {
                sealing: label(KeyPurpose::Sealing)?,
                binding: label(KeyPurpose::Binding)?,
            },
            schedule: signing(KeyPurpose::Schedule)?,
            receipt: signing(KeyPurpose::Receipt)?,
            checkpoint: signing(KeyPurpose::Checkpoint)?,
            jwks: jwks_of(records),
            checkpoint_keys: checkpoint_keys(records),
        })
    }

    /// Under which keys new seeds are sealed.
    pub fn sealing(&self) -> &SealingKeys {
        &self.sealing
    }

    pub fn schedule(&self) -> &SigningKey {
        &self.schedule
    }

    pub fn receipt(&self) -> &SigningKey {
        &self.receipt
    }

    pub fn checkpoint(&self) -> &SigningKey {
        &self.checkpoint
    }

    /// What verifies everything that was ever signed here; it never drops a key.
    pub fn jwks(&self) -> &JwkSet {
        &self.jwks
    }

    /// What verifies a checkpoint that somebody shows. A key that may have been stolen could fence us.
    pub fn checkpoint_keys(&self) -> &JwkSet {
        &self.checkpoint_keys
    }
}

/// Signs claims in the HSM; the compact JWS.
pub async fn sign<C: Purpose>(
    hsm: &Arc<dyn Hsm>,
    key: &SigningKey,
    claims: &C,
    priority: Priority,
) -> Result<String, Failure> {
    let unsigned = Unsigned::new(claims, &key.kid);
    let signature = hsm.sign(&key.label, unsigned.digest(), priority).await?;
    Ok(unsigned.with_signature(&signature))
}

fn active(records: &[KeyRecord], purpose: KeyPurpose) -> Result<&KeyRecord, KeyMissing> {
    let missing = KeyMissing {
        purpose: purpose.name(),
    };
    records
        .iter()
        .find(|record| record.purpose == purpose.name() && record.state == "active")
        .ok_or(missing)
}

fn jwks_of(records: &[KeyRecord]) -> JwkSet {
    let public = |record: &KeyRecord| Jwk::from_point(record.public_point.as_ref()?).ok();
    JwkSet {
        keys: records.iter().filter_map(public).collect(),
    }
}

fn checkpoint_keys(records: &[KeyRecord]) -> JwkSet {
    let believed = |record: &&KeyRecord| {
        record.purpose == KeyPurpose::Checkpoint.name() && record.state != "tainted"
    };
    let public = |record: &KeyRecord| Jwk::from_point(record.public_point.as_ref()?).ok();
    JwkSet {
        keys: records.iter().filter(believed).filter_map(public).collect(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::time::Timestamp;

    use super::*;

    /// The generator of P-256: a point that everybody knows, and nobody's key.
    const POINT: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                         4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

    fn record(purpose: KeyPurpose, state: &str) -> KeyRecord {
        let mut point = [0; 65];
        for (place, byte) in point.iter_mut().enumerate() {
            let digits = &POINT[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(digits, 16).expect("hexadecimal digits");
        }
        KeyRecord {
            kid: format!("{} {state}", purpose.name()),
            purpose: purpose.name().into(),
            state: state.into(),
            label: purpose.label(1),
            public_point: Some(point),
            made_at: Timestamp::from_ms(0),
        }
    }

    #[test]
    fn a_shown_checkpoint_counts_under_checkpoint_keys_that_nobody_has_stolen() {
        let count = |purpose, state| checkpoint_keys(&[record(purpose, state)]).keys.len();
        for good in ["active", "retired"] {
            assert_eq!(count(KeyPurpose::Checkpoint, good), 1, "{good}");
        }
        assert_eq!(count(KeyPurpose::Checkpoint, "tainted"), 0);
        assert_eq!(count(KeyPurpose::Receipt, "active"), 0);
    }
}
