//! What does the authority do, apart from how it is asked?
//!
//! Services take proofs and owned data and answer them or a [`Failure`]; they know neither HTTP nor
//! SQL nor PKCS#11.

pub mod approvals;
pub mod bans;
pub mod charges;
pub mod claims;
pub mod enrolment;
pub mod epoch_keys;
mod failure;
pub mod join;
pub mod keyring;
pub mod limiter;
pub mod operators;
pub mod push;
pub mod readiness;
pub mod receipts;
pub mod reports;
pub mod schedules;
pub mod seeds;
pub mod sign_in;
pub mod upkeep;
mod windows;

pub use failure::Failure;
