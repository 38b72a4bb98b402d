//! How does the agent talk to the authority?

mod client;
pub mod enrol;
mod failure;
pub mod push;
pub(crate) mod tls;

pub use client::{AuthorityClient, ChargeDesk};
pub use failure::CallError;
