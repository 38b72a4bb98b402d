//! Did enough operators consent to exactly this?
//!
//! ```text
//! asker ──signs──▶ Request (verb, body, until when, policy)  [request]
//! others ─sign───▶ Consent (SHA-256 of the request's bytes)      │
//!                      └──────────── judge ◀─────────────────────┘ [judge] ──▶ Consented
//! ```
//! Everything is a JWS with the signer's certificates in `x5c` ([`statement`]), so that a
//! [`transcript`] verifies years later with the root alone. Pure: the caller brings the time and says
//! which signers count.
//!
//! What is done at the signer or at the offline root ([`step`]) is judged there, without the daemon
//! ([`clear`]).

pub mod clear;
pub mod judge;
pub mod policy;
pub mod request;
pub mod statement;
pub mod step;
pub mod transcript;
pub mod vouch;

pub use clear::{Bar, Cleared, IssuingKeys, NotCleared, Warrant};
pub use judge::{Consented, TooFew, judge};
pub use policy::{BadPolicy, Policy};
pub use request::{Consent, Refusal, Request};
pub use statement::{Anchors, AsOf, BadStatement, Dated, Signed, Unsigned, verify};
pub use step::{CeremonyStep, IssuingStep, ListedRoot, RootStep};
pub use transcript::{Outcome, Transcript};
pub use vouch::Vouch;
