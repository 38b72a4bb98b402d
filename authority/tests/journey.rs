//! Does a token's journey hold: shown, spent, approved, paid, receipted, and refused wherever it must be?
//!
//! The services and the public listener over a real SQLite file, with keys in memory and a clock that
//! only the test moves. Phones speak HTTP; the identity provider is a server on loopback.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "journey/fake_rail.rs"]
mod fake_rail;
#[path = "journey/provider.rs"]
mod provider;
#[path = "journey/world.rs"]
mod world;

#[path = "journey/answering_wrongly.rs"]
mod answering_wrongly;
#[path = "journey/approving.rs"]
mod approving;
#[path = "journey/books.rs"]
mod books;
#[path = "journey/claiming.rs"]
mod claiming;
#[path = "journey/guessing.rs"]
mod guessing;
#[path = "journey/paying_outside.rs"]
mod paying_outside;
#[path = "journey/receipts.rs"]
mod receipts;
#[path = "journey/reseeding.rs"]
mod reseeding;
#[path = "journey/rotating.rs"]
mod rotating;
#[path = "journey/signing_in.rs"]
mod signing_in;
#[path = "journey/telling.rs"]
mod telling;
#[path = "journey/terminals.rs"]
mod terminals;
