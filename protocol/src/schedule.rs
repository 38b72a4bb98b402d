//! What lets a terminal show the right token, and for how long?
//!
//! The schedule is a JWS with terminal, seed version, rising sequence, policy, and a check value per
//! epoch. The epoch keys travel beside it, over mTLS only, and are in no file that a tool prints.

use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

use crate::derive::EpochKey;
use crate::ids::TerminalId;
use crate::jws::{Purpose, Verified};
use crate::window::{CheckedPolicy, Policy};

/// Most epochs one schedule may hold.
pub const HORIZON_MAX_EPOCHS: u32 = 168;

/// The signed part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleClaims {
    /// The authority, as a SPIFFE ID.
    pub iss: String,
    /// The terminal, as a SPIFFE ID.
    pub sub: String,
    /// NumericDate, seconds.
    pub iat: i64,
    pub terminal: TerminalId,
    pub generation: u32,
    /// Rises with every schedule of this terminal.
    pub sequence: u64,
    /// NumericDate seconds from the first to the last moment any epoch here covers.
    pub valid_from: i64,
    pub valid_until: i64,
    pub policy: Policy,
    /// Where links lead.
    pub link_host: String,
    pub epochs: Vec<EpochCheck>,
}

impl Purpose for ScheduleClaims {
    const TYP: &'static str = "m2key-schedule+jwt";
}

/// One epoch: the seed version it is derived from, and the check value of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochCheck {
    pub epoch: u32,
    pub version: u32,
    /// 8 bytes, base64url.
    pub check: String,
}

impl EpochCheck {
    pub fn new(epoch: u32, version: u32, key: &EpochKey) -> Self {
        Self {
            epoch,
            version,
            check: Base64UrlUnpadded::encode_string(&key.check_value()),
        }
    }

    pub fn fits(&self, key: &EpochKey) -> bool {
        self.check == Base64UrlUnpadded::encode_string(&key.check_value())
    }
}

/// A schedule that this terminal may follow; only [`accept`] makes one.
#[derive(Debug, Clone)]
pub struct Schedule {
    claims: ScheduleClaims,
    policy: CheckedPolicy,
}

impl Schedule {
    pub fn claims(&self) -> &ScheduleClaims {
        &self.claims
    }

    pub fn policy(&self) -> &CheckedPolicy {
        &self.policy
    }
}

/// Takes a verified schedule for `terminal` that is newer than sequence `last`.
pub fn accept(
    verified: Verified<ScheduleClaims>,
    terminal: TerminalId,
    last: Option<u64>,
) -> Result<Schedule, BadSchedule> {
    let claims = verified.into_claims();
    if claims.terminal != terminal {
        return Err(BadSchedule::Terminal);
    }
    if last.is_some_and(|last| claims.sequence < last) {
        return Err(BadSchedule::Sequence);
    }
    if claims.epochs.is_empty() || claims.epochs.len() > HORIZON_MAX_EPOCHS as usize {
        return Err(BadSchedule::Horizon);
    }
    let policy = claims.policy.check().map_err(|_| BadSchedule::Policy)?;
    Ok(Schedule { claims, policy })
}

/// Why a terminal does not follow a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    #[error("the schedule is for another terminal")]
    Terminal,
    #[error("the schedule is older than one already followed")]
    Sequence,
    #[error("the schedule holds no epoch, or more than {HORIZON_MAX_EPOCHS}")]
    Horizon,
    #[error("the schedule's policy breaks its own rules")]
    Policy,
}
