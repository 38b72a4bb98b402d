//! How does the agent talk to the authority?

pub(crate) mod client;
pub mod enrol;
mod failure;
pub mod line;
pub mod push;
pub mod renew;
pub(crate) mod tls;

pub use client::{AuthorityClient, ChargeDesk, Greeting};
pub use failure::CallError;
