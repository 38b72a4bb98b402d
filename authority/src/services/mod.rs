//! What does the authority do, apart from how it is asked?
//!
//! Services take proofs and owned data and answer them or a [`Failure`]; they know neither HTTP nor
//! SQL nor PKCS#11.

pub mod adoption;
pub mod approvals;
pub mod bans;
pub mod changes;
pub mod charges;
pub mod checkpoints;
pub mod claims;
pub mod consent;
pub mod crls;
pub mod days;
pub mod enrolment;
pub mod epoch_keys;
pub mod evidence;
mod failure;
pub mod fence;
pub mod followers;
pub mod history;
pub mod issuing;
pub mod join;
pub mod journey;
pub mod jwks;
pub mod kept_keys;
pub mod keyring;
pub mod limiter;
pub mod looks;
pub mod neighbours;
pub mod node;
pub mod operators;
mod owed;
pub mod pacing;
pub mod passkeys;
pub mod payments;
pub mod phone;
pub mod pieces;
pub mod pins;
pub mod places;
pub mod profiles;
pub mod push;
pub mod rails;
pub mod readiness;
pub mod receipts;
pub mod reconciliation;
pub mod refunds;
pub mod relying_party;
pub mod renewal;
pub mod reports;
pub mod requests;
pub mod retention;
pub mod revocation;
pub mod rotation;
pub mod same_keys;
pub mod schedules;
pub mod seeds;
pub mod sessions;
pub mod settlements;
pub mod shoppers;
pub mod sign_in;
pub mod sms;
pub mod sources;
pub mod step_up;
pub mod sweeps;
pub mod tag_fleet;
mod taps;
pub mod timelines;
pub mod to_the_end;
pub mod trust;
pub mod unproven;
pub mod wallet;
pub mod webhooks;

pub use failure::Failure;

use protocol::ids::ClaimId;
use protocol::problem::ProblemType;
use protocol::time::Millis;

/// How it went, as metrics call it: `good`, or the slug of the problem.
fn outcome<T>(result: &Result<T, Failure>, good: &'static str) -> &'static str {
    match result {
        Ok(_) => good,
        Err(failure) => {
            let problem = failure.kind().problem_type();
            problem.unwrap_or(ProblemType::Internal).slug()
        }
    }
}

/// Whole seconds to wait, at least one.
fn seconds(wait: Millis) -> u32 {
    u32::try_from(wait.saturating_add(999) / 1000).map_or(1, |seconds| seconds.max(1))
}

/// The span of what happens to a claim when no request of its phone is in hand.
fn claim_span(claim: ClaimId) -> tracing::Span {
    tracing::info_span!("claim", claim = %claim)
}
