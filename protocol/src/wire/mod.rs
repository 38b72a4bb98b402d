//! What travels over HTTP? One file per conversation.
//!
//! Paths are constants, bodies are structs, refusals are [`crate::problem`]. Field names are the
//! glossary's; docs/PROTOCOL.md shows every exchange.

pub mod charges;
pub mod claims;
pub mod history;
pub mod notices;
pub mod passkeys;
pub mod push;
pub mod rails;
pub mod refunds;
pub mod reports;
pub mod schedules;
pub mod upkeep;
pub mod wallet;
