//! What is written down of a tag before it is changed, so that after a cut nobody has to guess?
//!
//! A key that was sent to a tag that left may be on it or not, and every wrong guess brings the tag
//! nearer to locking itself. So each key is in one of four states, on the disk before the tag hears
//! of it, and the tag is asked for its key's version before a key is used.
//!
//! ```text
//!  delivered ──▶ changing {from, to} ──▶ ours {version} ──▶ changing … ──▶ delivered
//!                        └──▶ lost: neither; no key is tried any more
//! ```

use std::fmt;

use protocol::aes_key::AesKey;
use protocol::sun::KeySlot;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::TagError;
use super::ntag424::Mirror;
use super::wear::Programming;

/// The version of a key that nobody has changed yet.
pub(super) const DELIVERED_VERSION: u8 = 0;

/// Where records and counts are kept over restarts and power cuts.
pub trait TagSafe: Send + Sync {
    fn recall(&self, uid: &[u8]) -> Result<Option<TagRecord>, TagError>;
    /// Kept when it returns.
    fn keep(&self, uid: &[u8], record: &TagRecord) -> Result<(), TagError>;
    fn forget(&self, uid: &[u8]) -> Result<(), TagError>;
    /// Makes this the terminal's own tag, and no other.
    fn adopt(&self, uid: &[u8]) -> Result<(), TagError>;
    /// Counts what is about to be programmed; on the disk when it returns. What finds no room there is an
    /// error, and counted as soon as it does.
    fn count(&self, uid: &[u8], what: &Programming) -> Result<(), TagError>;
    /// The terminal's own tag, if one was personalised.
    fn own(&self) -> Result<Option<Vec<u8>>, TagError>;
}

/// What is known of one tag.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum TagRecord {
    Ntag21x(PasswordRecord),
    Ntag424(KeyRecord),
}

/// The password that keeps others from writing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PasswordRecord {
    pub password: Password,
    pub stage: PasswordStage,
}

/// Where the password stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PasswordStage {
    /// It may be on the tag; it guards nothing unless the tag says so.
    Protecting,
    Protected,
    /// It guards as long as the tag says so.
    Releasing,
}

/// A password, and what the tag answers to it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct Password {
    pub word: [u8; 4],
    pub answer: [u8; 2],
}

impl Password {
    pub fn random() -> Result<Self, TagError> {
        let mut bytes = [0; 6];
        getrandom::fill(&mut bytes).map_err(|_| TagError::Bug)?;
        let [a, b, c, d, e, f] = bytes;
        Ok(Self {
            word: [a, b, c, d],
            answer: [e, f],
        })
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The keys of an NTAG 424 DNA, by what they are called; of their bytes the terminal keeps its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyRecord {
    #[serde(with = "key_bytes")]
    pub write_key: AesKey,
    /// By the number of the slot.
    pub states: [KeyState; 5],
    pub mirror: Mirror,
    /// Everything was done and the tag has confirmed it.
    pub is_complete: bool,
}

/// Which key is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// The factory's.
    Delivered,
    /// One of the two: the tag knows which.
    Changing { from: u8, to: u8 },
    /// Ours, and the tag has said so.
    Ours { version: u8 },
    /// Neither of what it should be.
    Lost,
}

impl KeyState {
    fn settled(version: u8) -> Self {
        match version {
            DELIVERED_VERSION => Self::Delivered,
            version => Self::Ours { version },
        }
    }

    /// The state that follows from what the tag says its key's version is.
    pub fn resolved(self, version: u8) -> Self {
        let expected = match self {
            Self::Delivered => version == DELIVERED_VERSION,
            Self::Ours { version: ours } => version == ours,
            Self::Changing { from, to } => version == from || version == to,
            Self::Lost => false,
        };
        match expected {
            true => Self::settled(version),
            false => Self::Lost,
        }
    }

    /// The version in the slot, if it is certain.
    pub fn version(self) -> Option<u8> {
        match self {
            Self::Delivered => Some(DELIVERED_VERSION),
            Self::Ours { version } => Some(version),
            Self::Changing { .. } | Self::Lost => None,
        }
    }
}

impl KeyRecord {
    pub fn new(write_key: AesKey, mirror: Mirror) -> Self {
        Self {
            write_key,
            states: [KeyState::Delivered; 5],
            mirror,
            is_complete: false,
        }
    }

    pub fn state(&self, slot: KeySlot) -> KeyState {
        self.states[usize::from(slot.number())]
    }

    pub fn set(&mut self, slot: KeySlot, state: KeyState) {
        self.states[usize::from(slot.number())] = state;
    }
}

/// A key as 16 numbers: the database is private, and nothing else is written with it.
mod key_bytes {
    use protocol::aes_key::AesKey;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(key: &AesKey, to: S) -> Result<S::Ok, S::Error> {
        key.expose().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AesKey, D::Error> {
        <[u8; 16]>::deserialize(from).map(AesKey::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_tag_settles_what_was_begun_and_nothing_else() {
        let changing = KeyState::Changing { from: 0, to: 3 };
        assert_eq!(changing.resolved(0), KeyState::Delivered);
        assert_eq!(changing.resolved(3), KeyState::Ours { version: 3 });
        assert_eq!(changing.resolved(2), KeyState::Lost);
        assert_eq!(KeyState::Delivered.resolved(1), KeyState::Lost);
        assert_eq!(KeyState::Ours { version: 3 }.resolved(0), KeyState::Lost);
        assert_eq!(KeyState::Lost.resolved(3), KeyState::Lost);
        assert_eq!(changing.version(), None);
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_does_not_print_its_secrets() {
        let mut keys = KeyRecord::new(AesKey::from_bytes([0xAB; 16]), Mirror::Plain);
        keys.set(KeySlot::Meta, KeyState::Changing { from: 0, to: 1 });
        let password = Password {
            word: [171, 172, 173, 174],
            answer: [175, 176],
        };
        let stage = PasswordStage::Protecting;
        for record in [
            TagRecord::Ntag424(keys),
            TagRecord::Ntag21x(PasswordRecord { password, stage }),
        ] {
            let text = serde_json::to_string(&record).unwrap();
            let again: TagRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), text);
            let printed = format!("{record:?}").to_lowercase();
            assert!(
                !printed.contains("171") && !printed.contains("ab,"),
                "{printed}"
            );
        }
    }
}
