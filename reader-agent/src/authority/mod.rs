//! How does the agent talk to the authority?

pub(crate) mod client;
pub mod enrol;
mod failure;
pub mod line;
pub(crate) mod names;
pub mod push;
pub mod renew;
pub(crate) mod tls;

pub(crate) use client::is_plain;
pub use client::{AuthorityClient, BooksDesk, ChargeDesk, Greeting};
pub use failure::CallError;
