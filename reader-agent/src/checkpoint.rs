//! What did this terminal last see of the authority's audit?
//!
//! It is shown whenever the push stream is opened: an authority that is behind it was restored from a
//! backup, and serves nothing until its operators say so.

use protocol::audit::CheckpointClaims;
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws};
use protocol::wire::upkeep::CHECKPOINT_MAX;
use serde::{Deserialize, Serialize};

/// A checkpoint whose signature was verified when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub jws: String,
    pub rank: CheckpointRank,
}

/// Where it stands among all checkpoints, by the life of the database first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CheckpointRank {
    pub generation: u32,
    pub iat: i64,
    /// Rows of all chains together.
    pub rows: u64,
}

impl Checkpoint {
    /// Refuses one that is not of this authority, or too long to be shown again.
    pub fn verify(said: &str, keys: &JwkSet) -> Result<Self, BadJws> {
        if said.len() > CHECKPOINT_MAX {
            return Err(BadJws::Malformed);
        }
        let claims = jws::verify::<CheckpointClaims>(said, keys)?.into_claims();
        let rows = claims.heads.iter().map(|head| head.sequence);
        Ok(Self {
            jws: said.into(),
            rank: CheckpointRank {
                generation: claims.generation,
                iat: claims.iat,
                rows: rows.fold(0, u64::saturating_add),
            },
        })
    }
}
