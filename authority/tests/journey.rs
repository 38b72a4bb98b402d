//! Does a token's journey hold: shown, spent, approved, paid, receipted, and refused wherever it must be?
//!
//! The services and the public listener over a real SQLite file, with keys in memory and a clock that
//! only the test moves. Phones speak HTTP; the identity provider is a server on loopback.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "journey/browser.rs"]
mod browser;
#[path = "store/cluster.rs"]
mod cluster;
#[path = "journey/fake_rail.rs"]
mod fake_rail;
#[path = "journey/openid.rs"]
mod openid;
#[path = "journey/pages.rs"]
mod pages;
#[path = "journey/provider.rs"]
mod provider;
#[path = "journey/signing.rs"]
mod signing;
#[path = "journey/softhsm.rs"]
mod softhsm;
#[path = "journey/world.rs"]
mod world;

#[path = "journey/answering_wrongly.rs"]
mod answering_wrongly;
#[path = "journey/approving.rs"]
mod approving;
#[path = "journey/asking.rs"]
mod asking;
#[path = "journey/books.rs"]
mod books;
#[path = "journey/bounds.rs"]
mod bounds;
#[path = "journey/certified.rs"]
mod certified;
#[path = "journey/claiming.rs"]
mod claiming;
#[path = "journey/commands.rs"]
mod commands;
#[path = "journey/copied.rs"]
mod copied;
#[path = "journey/disputing.rs"]
mod disputing;
#[path = "journey/dpop.rs"]
mod dpop;
#[path = "journey/failing_over.rs"]
mod failing_over;
#[path = "journey/following.rs"]
mod following;
#[path = "journey/guessing.rs"]
mod guessing;
#[path = "journey/linking.rs"]
mod linking;
#[path = "journey/lone.rs"]
mod lone;
#[path = "journey/looking_up.rs"]
mod looking_up;
#[path = "journey/losing_hsm.rs"]
mod losing_hsm;
#[path = "journey/nodes.rs"]
mod nodes;
#[path = "journey/openapi.rs"]
mod openapi;
#[path = "journey/paying_outside.rs"]
mod paying_outside;
#[path = "journey/phones.rs"]
mod phones;
#[path = "journey/profile.rs"]
mod profile;
#[path = "journey/receipts.rs"]
mod receipts;
#[path = "journey/relying.rs"]
mod relying;
#[path = "journey/renewing.rs"]
mod renewing;
#[path = "journey/reseeding.rs"]
mod reseeding;
#[path = "journey/retaining.rs"]
mod retaining;
#[path = "journey/rotating.rs"]
mod rotating;
#[path = "journey/signing_in.rs"]
mod signing_in;
#[path = "journey/sms.rs"]
mod sms;
#[path = "journey/step_up.rs"]
mod step_up;
#[path = "journey/tag_alarms.rs"]
mod tag_alarms;
#[path = "store/tapping.rs"]
mod tapping;
#[path = "journey/tapping_links.rs"]
mod tapping_links;
#[path = "journey/telling.rs"]
mod telling;
#[path = "journey/telling_privately.rs"]
mod telling_privately;
#[path = "journey/terminals.rs"]
mod terminals;
#[path = "journey/waiting.rs"]
mod waiting;
#[path = "journey/wallet.rs"]
mod wallet;
#[path = "journey/wearing.rs"]
mod wearing;
