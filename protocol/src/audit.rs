//! How does anyone know that nothing was removed or changed afterwards?
//!
//! Every row carries the hash of the row before it; a signed checkpoint binds the head. The body is
//! the exact JSON text that was stored: it is hashed as bytes and never re-serialized.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::jws::Purpose;
use crate::time::Timestamp;

const ROW: &[u8] = b"m2key/audit-row/1\0";

/// The hash before the first row of a node.
pub const GENESIS: [u8; 32] = [0; 32];

/// One fact, in the order its node recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub node: String,
    /// From 1, without gaps.
    pub sequence: u64,
    pub previous: [u8; 32],
    pub at: Timestamp,
    /// What happened, e.g. `payment.paid`.
    pub kind: String,
    /// JSON; persons appear only as salted commitments.
    pub body: String,
}

impl AuditRow {
    /// SHA-256 over domain, previous hash, sequence, time, and node, kind and body with their
    /// lengths (u32 each).
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(ROW);
        hash.update(self.previous);
        hash.update(self.sequence.to_be_bytes());
        hash.update(self.at.ms().to_be_bytes());
        for text in [&self.node, &self.kind, &self.body] {
            hash.update((text.len() as u32).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().into()
    }
}

/// The last row of one node's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub node: String,
    pub sequence: u64,
    /// Hash of that row, 64 lower-case hex digits.
    pub hash: String,
}

/// The signed statement that the chains stood so at this time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointClaims {
    pub iss: String,
    pub iat: i64,
    pub generation: u32,
    pub heads: Vec<Head>,
}

impl Purpose for CheckpointClaims {
    const TYP: &'static str = crate::typ::CHECKPOINT;
}

/// Walks one node's chain row by row.
#[derive(Debug, Clone)]
pub struct ChainCheck {
    next_sequence: u64,
    head: [u8; 32],
}

impl Default for ChainCheck {
    fn default() -> Self {
        Self {
            next_sequence: 1,
            head: GENESIS,
        }
    }
}

impl ChainCheck {
    /// Takes the next row; `stored_hash` is what the database says its hash is.
    pub fn take(&mut self, row: &AuditRow, stored_hash: &[u8; 32]) -> Result<(), BrokenChain> {
        let at = row.sequence;
        if row.sequence != self.next_sequence {
            return Err(BrokenChain {
                at: self.next_sequence,
                fault: ChainFault::Missing,
            });
        }
        if row.previous != self.head {
            return Err(BrokenChain {
                at,
                fault: ChainFault::Unlinked,
            });
        }
        if row.hash() != *stored_hash {
            return Err(BrokenChain {
                at,
                fault: ChainFault::Changed,
            });
        }
        self.head = *stored_hash;
        self.next_sequence += 1;
        Ok(())
    }

    /// Sequence and hash of the last row taken.
    pub fn head(&self) -> (u64, [u8; 32]) {
        (self.next_sequence - 1, self.head)
    }
}

/// Where a chain does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("audit row {at}: {fault}")]
pub struct BrokenChain {
    pub at: u64,
    pub fault: ChainFault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    #[error("missing")]
    Missing,
    #[error("does not follow from the row before it")]
    Unlinked,
    #[error("was changed after it was recorded")]
    Changed,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(sequence: u64, previous: [u8; 32], body: &str) -> AuditRow {
        AuditRow {
            node: "node".into(),
            sequence,
            previous,
            at: Timestamp::from_ms(1_795_459_200_000),
            kind: "test".into(),
            body: body.into(),
        }
    }

    #[test]
    fn a_row_that_was_written_anew_with_its_own_hash_breaks_the_chain_behind_it() {
        let first = row(1, GENESIS, "paid 4.20");
        let second = row(2, first.hash(), "paid 1.00");
        let forged = row(1, GENESIS, "paid 0.42");
        let mut check = ChainCheck::default();
        check.take(&forged, &forged.hash()).unwrap();
        let broken = check.take(&second, &second.hash()).unwrap_err();
        assert_eq!((broken.at, broken.fault), (2, ChainFault::Unlinked));
    }

    #[test]
    fn a_row_that_is_missing_or_does_not_fit_its_hash_breaks_the_chain() {
        let first = row(1, GENESIS, "paid 4.20");
        let second = row(2, first.hash(), "paid 1.00");
        let fault = |row: &AuditRow, hash: [u8; 32]| {
            let mut check = ChainCheck::default();
            check.take(row, &hash).unwrap_err().fault
        };
        assert_eq!(fault(&second, second.hash()), ChainFault::Missing);
        assert_eq!(fault(&first, second.hash()), ChainFault::Changed);
    }
}
