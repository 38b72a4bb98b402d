//! Which key signs what, and which keys verify it?

use std::sync::Arc;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use bytes::Bytes;
use hsm::{Hsm, KeyLabel, Priority, SealingKeys};
use pki::chain::certificates_from_pem;
use pki::lifecycle::KeyState;
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::{Purpose, Unsigned};
use protocol::typ;
use sha2::{Digest, Sha256};

use super::Failure;
use crate::store::KeyRecord;

pub use crate::store::KeyPurpose;

/// Bytes of a hash that tell one key set from another.
const TAG_LEN: usize = 12;

/// A signing key by the two names it has: outside, and in the HSM.
#[derive(Debug, Clone)]
pub struct SigningKey {
    pub kid: String,
    pub label: KeyLabel,
}

/// The active key of every purpose, and all public keys there ever were.
#[derive(Debug, Clone)]
pub struct Keyring {
    records: Vec<KeyRecord>,
    sealing: SealingKeys,
    schedule: SigningKey,
    receipt: SigningKey,
    checkpoint: SigningKey,
    request: Option<SigningKey>,
    tag_master: Option<KeyRecord>,
    jwks: JwkSet,
    believed: JwkSet,
    /// As they are sent; encoded once.
    jwks_bytes: Bytes,
    believed_bytes: Bytes,
    tag: String,
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
        let jwks = set_of(records);
        let believed = believed(&jwks);
        Ok(Self {
            records: records.to_vec(),
            sealing: SealingKeys {
                sealing: label(KeyPurpose::Sealing)?,
                binding: label(KeyPurpose::Binding)?,
            },
            schedule: signing(KeyPurpose::Schedule)?,
            receipt: signing(KeyPurpose::Receipt)?,
            checkpoint: signing(KeyPurpose::Checkpoint)?,
            request: signing(KeyPurpose::Request).ok(),
            tag_master: active(records, KeyPurpose::Tag).ok().cloned(),
            tag: tag_of(&believed),
            jwks_bytes: bytes_of(&jwks),
            believed_bytes: bytes_of(&believed),
            jwks,
            believed,
            checkpoint_keys: checkpoint_keys(records),
        })
    }

    /// Every key there ever was, the oldest first.
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }

    /// What these keys sign verifies under the halves of the table, whatever an HSM token shows.
    pub fn tell(&self, hsm: &dyn Hsm) {
        let lives = |key: &&KeyRecord| key.state != KeyState::Retired;
        for key in self.records.iter().filter(lives) {
            if let Some(point) = &key.public_point {
                hsm.believe(&key.label, point);
            }
        }
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

    /// None in a database from before anything was asked of others: `key prepare request` makes the first.
    pub fn request(&self) -> Option<&SigningKey> {
        self.request.as_ref()
    }

    /// From which the keys of new tags follow. None in a database from before tags signed: `key prepare
    /// tag` and `key activate tag` make the first.
    pub fn tag_master(&self) -> Option<&KeyRecord> {
        self.tag_master.as_ref()
    }

    /// The key with this kid, if keys that follow from it are still believed.
    pub fn believed_tag_master(&self, kid: &str) -> Option<&KeyRecord> {
        let believed =
            |key: &&KeyRecord| matches!(key.state, KeyState::Active | KeyState::Superseded);
        let mut records = self.records.iter().filter(believed);
        records.find(|key| key.purpose == KeyPurpose::Tag && key.kid == kid)
    }

    /// What verifies everything that was ever signed here and is kept: it drops no key but schedule
    /// keys that are retired, and says which are tainted.
    pub fn jwks(&self) -> &JwkSet {
        &self.jwks
    }

    /// The same as it is sent.
    pub fn jwks_bytes(&self) -> Bytes {
        self.jwks_bytes.clone()
    }

    /// What terminals believe: no tainted key.
    pub fn believed(&self) -> &JwkSet {
        &self.believed
    }

    /// The same as it is sent.
    pub fn believed_bytes(&self) -> Bytes {
        self.believed_bytes.clone()
    }

    /// Another one whenever terminals should fetch the keys again.
    pub fn tag(&self) -> &str {
        &self.tag
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

fn bytes_of(set: &JwkSet) -> Bytes {
    let set = serde_json::to_vec(set);
    set.expect("a key set is plain strings").into()
}

fn active(records: &[KeyRecord], purpose: KeyPurpose) -> Result<&KeyRecord, KeyMissing> {
    let missing = KeyMissing {
        purpose: purpose.name(),
    };
    records
        .iter()
        .find(|record| record.purpose == purpose && record.state == KeyState::Active)
        .ok_or(missing)
}

/// A schedule is over when its key is retired, and so is a request; receipts and checkpoints are kept for
/// ever.
pub(super) fn set_of(records: &[KeyRecord]) -> JwkSet {
    let passes = |purpose| matches!(purpose, KeyPurpose::Schedule | KeyPurpose::Request);
    let kept = |record: &&KeyRecord| !passes(record.purpose) || record.state != KeyState::Retired;
    JwkSet {
        keys: records.iter().filter(kept).filter_map(jwk_of).collect(),
    }
}

fn jwk_of(record: &KeyRecord) -> Option<Jwk> {
    let mut jwk = Jwk::from_point(record.public_point.as_ref()?).ok()?;
    jwk.x5c = x5c_of(record);
    jwk.m2key_typ = typ_of(record.purpose)
        .iter()
        .map(ToString::to_string)
        .collect();
    jwk.m2key_tainted_at = record.tainted_at.map(|at| at.secs());
    Some(jwk)
}

/// What a key of this purpose signs.
fn typ_of(purpose: KeyPurpose) -> &'static [&'static str] {
    match purpose {
        KeyPurpose::Schedule => &[typ::SCHEDULE],
        KeyPurpose::Receipt => &[typ::RECEIPT, typ::REFUND, typ::SETTLEMENT],
        KeyPurpose::Checkpoint => &[typ::CHECKPOINT, typ::TRANSCRIPT],
        KeyPurpose::Request => &[typ::RAIL_REQUEST, typ::WEBHOOK],
        KeyPurpose::Sealing | KeyPurpose::Binding | KeyPurpose::Tag => &[],
    }
}

/// RFC 7517, 4.7: standard base64 of DER, its own certificate first.
fn x5c_of(record: &KeyRecord) -> Vec<String> {
    let text = record.certificates.as_deref().unwrap_or_default();
    let chain = certificates_from_pem(text).unwrap_or_default();
    chain
        .iter()
        .map(|certificate| Base64::encode_string(certificate.der()))
        .collect()
}

fn believed(all: &JwkSet) -> JwkSet {
    let believed = |key: &&Jwk| key.m2key_tainted_at.is_none();
    JwkSet {
        keys: all.keys.iter().filter(believed).cloned().collect(),
    }
}

fn tag_of(set: &JwkSet) -> String {
    let mut hash = Sha256::new();
    for key in &set.keys {
        hash.update(key.kid.as_deref().unwrap_or_default());
        // A newer authority may let a key sign more than terminals have heard of.
        for typ in &key.m2key_typ {
            hash.update(b" ");
            hash.update(typ);
        }
        hash.update(b"\n");
    }
    Base64UrlUnpadded::encode_string(&hash.finalize()[..TAG_LEN])
}

pub(super) fn checkpoint_keys(records: &[KeyRecord]) -> JwkSet {
    let believed = |record: &&KeyRecord| {
        record.purpose == KeyPurpose::Checkpoint && record.tainted_at.is_none()
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

    fn record(purpose: KeyPurpose, state: KeyState) -> KeyRecord {
        let mut point = [0; 65];
        for (place, byte) in point.iter_mut().enumerate() {
            let digits = &POINT[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(digits, 16).expect("hexadecimal digits");
        }
        let made_at = Timestamp::from_ms(0);
        KeyRecord::new(purpose, state, purpose.label(1), Some(point), made_at)
    }

    #[test]
    fn a_shown_checkpoint_counts_under_checkpoint_keys_that_nobody_has_stolen() {
        let count = |purpose, state| checkpoint_keys(&[record(purpose, state)]).keys.len();
        for good in [KeyState::Active, KeyState::Retired] {
            assert_eq!(count(KeyPurpose::Checkpoint, good), 1, "{good}");
        }
        let mut stolen = record(KeyPurpose::Checkpoint, KeyState::Retired);
        stolen.tainted_at = Some(stolen.made_at);
        assert!(checkpoint_keys(&[stolen]).keys.is_empty());
        assert_eq!(count(KeyPurpose::Receipt, KeyState::Active), 0);
    }

    #[test]
    fn a_database_from_before_there_were_requests_has_its_keys_all_the_same() {
        let active = |purpose| record(purpose, KeyState::Active);
        let since = [KeyPurpose::Request, KeyPurpose::Tag];
        let before = |it: &KeyPurpose| !since.contains(it);
        let purposes = KeyPurpose::ALL.into_iter().filter(before);
        let mut records: Vec<_> = purposes.map(active).collect();
        let keyring = Keyring::new(&records).expect("everything it needs");
        assert!(keyring.request().is_none() && keyring.tag_master().is_none());
        records.push(active(KeyPurpose::Request));
        let keyring = Keyring::new(&records).expect("everything it needs");
        assert_eq!(
            keyring.request().map(|it| it.label.0.as_str()),
            Some("m2key-request-1")
        );
        assert!(Keyring::new(&records[1..]).is_err(), "no sealing key");
    }

    #[test]
    fn keys_of_tags_follow_from_the_active_key_and_are_believed_until_theirs_is_tainted() {
        let all = |state| {
            let others = KeyPurpose::ALL
                .into_iter()
                .filter(|it| *it != KeyPurpose::Tag);
            let mut records: Vec<_> = others.map(|it| record(it, KeyState::Active)).collect();
            records.push(record(KeyPurpose::Tag, state));
            let kid = records[records.len() - 1].kid.clone();
            (Keyring::new(&records).expect("everything it needs"), kid)
        };
        for (state, makes, counts) in [
            (KeyState::Prepared, false, false),
            (KeyState::Active, true, true),
            (KeyState::Superseded, false, true),
            (KeyState::Tainted, false, false),
            (KeyState::Retired, false, false),
        ] {
            let (keyring, kid) = all(state);
            assert_eq!(keyring.tag_master().is_some(), makes, "{state}");
            assert_eq!(
                keyring.believed_tag_master(&kid).is_some(),
                counts,
                "{state}"
            );
        }
    }

    #[test]
    fn a_published_key_says_what_it_signs() {
        let published = |purpose| set_of(&[record(purpose, KeyState::Active)]).keys.remove(0);
        let receipt = published(KeyPurpose::Receipt);
        assert!(receipt.may_sign(typ::RECEIPT) && !receipt.may_sign(typ::SCHEDULE));
        let checkpoint = published(KeyPurpose::Checkpoint);
        assert!(checkpoint.may_sign(typ::TRANSCRIPT) && !checkpoint.may_sign(typ::RECEIPT));
    }
}
