//! What does the authority do, apart from how it is asked?
//!
//! Services take proofs and owned data and answer them or a [`Failure`]; they know neither HTTP nor
//! SQL nor PKCS#11.

pub mod bans;
pub mod enrolment;
mod failure;
pub mod join;
pub mod keyring;
pub mod operators;
pub mod readiness;
pub mod seeds;

pub use failure::Failure;
