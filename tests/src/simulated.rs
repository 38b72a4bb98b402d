//! What stands for an authority where only its rules matter?
#![allow(clippy::unwrap_used, reason = "a simulation that cannot begin ends")]

mod authority;
mod identity;

pub use authority::Authority;
pub use identity::enrolled;
