//! What lets a terminal show the right token, and for how long?
//!
//! The schedule is a JWS with terminal, seed version, rising sequence, policy, and a check value per
//! epoch. The epoch keys travel beside it, over mTLS only, and are in no file that a tool prints.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

use crate::derive::EpochKey;
use crate::ids::TerminalId;
use crate::jws::{Purpose, Verified};
use crate::link::LinkHost;
use crate::window::{CheckedPolicy, EpochClock, NfcWindows, Policy};

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
    /// Rises with every schedule of this terminal within a generation.
    pub sequence: u64,
    /// NumericDate: when the first epoch opens, see [`validity`].
    pub valid_from: i64,
    /// NumericDate: when the last epoch closes.
    pub valid_until: i64,
    pub policy: Policy,
    /// Where it is slower than that, in rising order; only for a terminal that says it follows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nfc_paces: Vec<NfcPace>,
    /// Where links lead.
    pub link_host: String,
    /// In rising order, each once.
    pub epochs: Vec<EpochCheck>,
}

/// Windows of the nfc channel from one epoch on, up to the next pace. An epoch that was issued keeps its
/// pace for ever: what a terminal shows under it is judged under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NfcPace {
    pub from_epoch: u32,
    pub windows: NfcWindows,
}

impl Purpose for ScheduleClaims {
    const TYP: &'static str = crate::typ::SCHEDULE;
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

/// `valid_from` and `valid_until` of a schedule with these epochs, rounded down to seconds.
pub fn validity(terminal: TerminalId, epochs: &[EpochCheck]) -> Option<(i64, i64)> {
    let clock = EpochClock::of(terminal);
    let (first, last) = (epochs.first()?, epochs.last()?);
    Some((
        clock.opens(first.epoch).secs(),
        clock.closes(last.epoch).secs(),
    ))
}

/// Where a schedule stands in the order of all that a terminal was given: by generation, then by
/// sequence, because a restored authority counts its sequences from an earlier number again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank {
    pub generation: u32,
    pub sequence: u64,
}

/// A schedule that this terminal may follow; only [`accept`] makes one.
#[derive(Debug, Clone)]
pub struct Schedule {
    claims: ScheduleClaims,
    policy: CheckedPolicy,
    /// From each epoch on, in rising order.
    paced: Vec<(u32, CheckedPolicy)>,
    link_host: LinkHost,
}

impl Schedule {
    pub fn claims(&self) -> &ScheduleClaims {
        &self.claims
    }

    /// Of every epoch that has no pace of its own.
    pub fn policy(&self) -> &CheckedPolicy {
        &self.policy
    }

    /// Under which this epoch is drawn.
    pub fn policy_of(&self, epoch: u32) -> &CheckedPolicy {
        let begun = self.paced.iter().rev().find(|(from, _)| *from <= epoch);
        begun.map_or(&self.policy, |(_, policy)| policy)
    }

    pub fn link_host(&self) -> &LinkHost {
        &self.link_host
    }

    /// What to hand to the next [`accept`] as `last`.
    pub fn rank(&self) -> Rank {
        self.claims.rank()
    }
}

/// Takes a verified schedule for `terminal` that is not older than the `last` one followed.
///
/// The same rank is taken again: a terminal that restarts reads its own stored schedule.
pub fn accept(
    verified: Verified<ScheduleClaims>,
    terminal: TerminalId,
    last: Option<Rank>,
) -> Result<Schedule, BadSchedule> {
    let claims = verified.into_claims();
    if claims.terminal != terminal {
        return Err(BadSchedule::Terminal);
    }
    if !claims.names_fit() {
        return Err(BadSchedule::Names);
    }
    if last.is_some_and(|last| claims.rank() < last) {
        return Err(BadSchedule::Sequence);
    }
    claims.check_epochs()?;
    let policy = claims.policy.check().map_err(|_| BadSchedule::Policy)?;
    let paced = claims.check_paces(&policy)?;
    let link_host = LinkHost::parse(&claims.link_host).map_err(|_| BadSchedule::LinkHost)?;
    Ok(Schedule {
        claims,
        policy,
        paced,
        link_host,
    })
}

impl ScheduleClaims {
    pub fn rank(&self) -> Rank {
        Rank {
            generation: self.generation,
            sequence: self.sequence,
        }
    }

    /// `sub` is this terminal, and `iss` an authority of the same trust domain.
    fn names_fit(&self) -> bool {
        let domain = self
            .sub
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_suffix(&format!("/terminal/{}", self.terminal)));
        let Some(domain) = domain.filter(|name| !name.is_empty() && !name.contains('/')) else {
            return false;
        };
        let node = self
            .iss
            .strip_prefix(&format!("spiffe://{domain}/authority/"));
        node.is_some_and(|node| !node.is_empty())
    }

    fn check_paces(
        &self,
        policy: &CheckedPolicy,
    ) -> Result<Vec<(u32, CheckedPolicy)>, BadSchedule> {
        let paces = &self.nfc_paces;
        if paces.len() > self.epochs.len()
            || !paces.is_sorted_by(|a, b| a.from_epoch < b.from_epoch)
        {
            return Err(BadSchedule::Policy);
        }
        let paced = |pace: &NfcPace| Ok((pace.from_epoch, policy.paced(pace.windows)?));
        let paced: Result<_, crate::window::BadPolicy> = paces.iter().map(paced).collect();
        paced.map_err(|_| BadSchedule::Policy)
    }

    fn check_epochs(&self) -> Result<(), BadSchedule> {
        if self.epochs.is_empty() || self.epochs.len() > HORIZON_MAX_EPOCHS as usize {
            return Err(BadSchedule::Horizon);
        }
        if !self.epochs.is_sorted_by(|a, b| a.epoch < b.epoch) {
            return Err(BadSchedule::Order);
        }
        if validity(self.terminal, &self.epochs) != Some((self.valid_from, self.valid_until)) {
            return Err(BadSchedule::Validity);
        }
        Ok(())
    }
}

/// Why a terminal does not follow a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    #[error("the schedule is for another terminal")]
    Terminal,
    #[error(
        "the schedule's iss and sub are not an authority and this terminal in one trust domain"
    )]
    Names,
    #[error("the schedule is older than one already followed")]
    Sequence,
    #[error("the schedule holds no epoch, or more than {HORIZON_MAX_EPOCHS}")]
    Horizon,
    #[error("the schedule's epochs do not rise")]
    Order,
    #[error("the schedule's validity is not that of its epochs")]
    Validity,
    #[error("the schedule's policy breaks its own rules")]
    Policy,
    #[error("the schedule's links would lead to no host")]
    LinkHost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_value_fits_its_own_key_and_no_other() {
        let (own, other) = (EpochKey::from_bytes([1; 32]), EpochKey::from_bytes([2; 32]));
        let check = EpochCheck::new(7, 1, &own);
        assert!(check.fits(&own));
        assert!(!check.fits(&other));
    }
}
