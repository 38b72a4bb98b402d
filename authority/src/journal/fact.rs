//! What is worth a line outside the database?
//!
//! Only what a restored copy must not forget. A line is `<hash> <json>`, and its hash covers the line
//! before it; the JSON is hashed as the bytes that stand there and never written anew.

use pki::consent::Policy;
use protocol::audit::Head;
use protocol::ids::TerminalId;
use protocol::sun::TagUid;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const LINE: &[u8] = b"m2key/journal-line/1\0";
/// The hash before the first line there ever was.
pub const GENESIS: [u8; 32] = [0; 32];
/// Longest line that is read, in bytes: the heads of all chains are the longest.
const LINE_MAX: usize = 64 * 1024;

/// One thing that a restored database must be found not to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    /// The first line of every file: whose journal it is. `after` is the hash of the line before it,
    /// when the lines up to there were folded into the ones that follow.
    Opened {
        journal: String,
        node: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// The life of the database from here on.
    Generation {
        generation: u32,
    },
    /// A ban holds for every seed version up to this one: unbanning takes a new version.
    Banned {
        terminal: TerminalId,
        version: u32,
        banned_at: Timestamp,
        reason: String,
    },
    Revoked(Revoked),
    /// What this key signs is kept for ever, and so is what verifies it.
    Made(MadeKey),
    /// Nothing that this key signed, and no seed under it, is believed.
    Tainted(TaintedKey),
    /// After a compromise no seed version below this one counts.
    Reseeded {
        terminal: TerminalId,
        version: u32,
    },
    /// Nobody of this name asks or consents any more.
    OperatorRevoked {
        operator: String,
        by: String,
        revoked_at: Timestamp,
    },
    /// This shopper claims and pays nothing.
    ShopperLocked(LockedShopper),
    /// An operator has unlocked. It lifts the lock that was journalled, and none that a copy holds.
    ShopperUnlocked {
        person: String,
        turn: u32,
    },
    /// It confirms nothing any more.
    PasskeyRemoved(RemovedPasskey),
    /// What it signs with keys up to a version counts nowhere: new keys take a later one.
    TagRetired(RetiredTag),
    /// How many must consent to what, from then on. Numbers rise.
    Policy(NumberedPolicy),
    /// A revocation list of this issuing CA has this number, or is about to.
    Crl {
        issuer_key: String,
        number: u64,
    },
    /// The audit chains stood so.
    Checkpoint {
        heads: Vec<Head>,
    },
    /// A terminal showed a checkpoint, signed by us, that the database knows nothing of.
    Shown {
        terminal: String,
        generation: u32,
        heads: Vec<Head>,
    },
}

/// Enough of a certificate to refuse it, and to say so in a revocation list, without its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Lower-case hex.
    pub serial: String,
    /// Key identifier of the issuing CA, lower-case hex.
    pub issuer_key: String,
    pub not_after: Timestamp,
    pub revoked_at: Timestamp,
    /// As revocation lists call it.
    pub reason: String,
}

/// Enough of a lock to set it again, also where the shopper's profile is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedShopper {
    /// The profile's random id, lower-case hex.
    pub person: String,
    /// How often it was locked or unlocked by then.
    pub turn: u32,
    /// Which key of the database the macs are made with.
    pub key: String,
    /// Macs of the identities that open it, lower-case hex: they name nobody without the database's key.
    pub identities: Vec<String>,
    pub locked_at: Timestamp,
    pub reason: String,
}

/// Enough of a passkey to refuse it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedPasskey {
    /// The profile's random id, lower-case hex.
    pub person: String,
    /// Of what its authenticator calls it, lower-case hex.
    pub sha256: String,
    pub removed_at: Timestamp,
}

/// Enough of a tag to retire it, also where the copy knows nothing of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredTag {
    pub uid: TagUid,
    /// Of its keys, and all before them.
    pub key_version: u8,
    pub retired_at: Timestamp,
    pub reason: String,
}

/// Enough of a key to find it in the HSM again, without its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    pub kid: String,
    pub purpose: String,
    pub label: String,
    /// Uncompressed SEC 1 point, lower-case hex.
    pub public_point: String,
    pub made_at: Timestamp,
}

/// Enough of a key to refuse it, and to name it, without its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaintedKey {
    pub kid: String,
    pub purpose: String,
    pub label: String,
    /// Uncompressed SEC 1 point, lower-case hex, for signing keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_point: Option<String>,
    pub made_at: Timestamp,
    pub tainted_at: Timestamp,
}

/// A consent policy in its place among all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedPolicy {
    pub number: u64,
    pub policy: Policy,
    pub set_by: String,
    pub set_at: Timestamp,
}

/// A fact in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// From 1, without gaps.
    pub n: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub fact: Fact,
}

/// Why a line is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("it is not a line of a journal")]
    Malformed,
    #[error("it does not follow from the line before it")]
    Unlinked,
}

impl Line {
    /// The line as it stands in the file, with its end, and its hash.
    pub fn write(&self, previous: &[u8; 32]) -> (String, [u8; 32]) {
        let json = serde_json::to_string(self)
            .expect("facts are numbers, texts, and times that the clock or the store gave");
        let hash = hash(previous, &json);
        (format!("{} {json}\n", hex(&hash)), hash)
    }

    /// Reads a line without its end. What stands there is returned even when it does not follow from
    /// `previous`: the caller decides what a broken journal may still say.
    pub fn read(text: &str) -> Result<(Self, Linked<'_>), BadLine> {
        let (stated, json) = text.split_once(' ').ok_or(BadLine::Malformed)?;
        if text.len() > LINE_MAX {
            return Err(BadLine::Malformed);
        }
        let line = serde_json::from_str(json).map_err(|_| BadLine::Malformed)?;
        let linked = Linked {
            stated: unhex(stated).ok_or(BadLine::Malformed)?,
            json,
        };
        Ok((line, linked))
    }
}

/// What a line says its hash is.
pub struct Linked<'a> {
    pub stated: [u8; 32],
    json: &'a str,
}

impl Linked<'_> {
    pub fn follows(&self, previous: &[u8; 32]) -> Result<(), BadLine> {
        match hash(previous, self.json) == self.stated {
            true => Ok(()),
            false => Err(BadLine::Unlinked),
        }
    }
}

fn hash(previous: &[u8; 32], json: &str) -> [u8; 32] {
    let hash = Sha256::new().chain_update(LINE).chain_update(previous);
    hash.chain_update(json.as_bytes()).finalize().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]);
    bytes.iter().flat_map(digits).collect()
}

pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}
