//! What does every part of M2Key have to agree on?
//!
//! The journey of a token, stop by stop, and the file that decides there:
//!
//! ```text
//!  seed ──HMAC──▶ epoch key ──▶ windows ──▶ tokens ──▶ tag · QR · code      shown
//!  (in the HSM)   derive.rs     window.rs   token.rs   ndef.rs link.rs code.rs
//!                     │            └── schedule.rs: signed, so that a terminal may show them
//!                     ▼
//!  presented ──▶ live ──▶ claim ──▶ approval ──▶ receipt                    spent
//!  presented.rs  live.rs  charge.rs, wire/       receipt.rs
//!                  ├── turn.rs: what a spend moves on
//!                  └── sun.rs: that a tag was there, if it signs its links
//! ```
//!
//! Nothing here does I/O, knows the time or keeps a seed: time, keys and records are arguments.
//! The exact bytes are in `docs/PROTOCOL.md`; `vectors/` freezes them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod aes_key;
pub mod audit;
pub mod charge;
pub mod code;
pub mod damm;
pub mod derive;
pub mod dpop;
pub mod http_signature;
pub mod ids;
pub mod jwk;
pub mod jws;
pub mod link;
pub mod live;
pub mod money;
pub mod ndef;
mod place;
pub mod presented;
pub mod problem;
pub mod receipt;
pub mod refund;
pub mod schedule;
#[cfg(feature = "schema")]
mod schema;
pub mod settlement;
pub mod step_up;
pub mod sun;
pub mod time;
pub mod token;
pub mod turn;
pub mod typ;
pub mod typed;
pub mod wear;
pub mod window;
pub mod wire;
