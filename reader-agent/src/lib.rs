//! How does a terminal show the token of the moment?
//!
//! ```text
//!  authority ══mTLS══▶ authority/ ──▶ driver ──▶ core ──▶ rotation    which token
//!                                       │          └────▶ shown       what else is on the screen
//!                                       ▼
//!                                     board ──▶ tag_driver ──▶ tag_plan, reader, tag
//!                                       ├─────▶ scene ──▶ kiosk, display: the screens
//!                                       └─────▶ till       the till's interface
//!  authority ◀══mTLS══ outbox ◀── state (agent.db) ◀── taps and writes
//!  authority ◀══mTLS══ upkeep_driver ◀── upkeep             when to renew certificate and roots
//! ```
//! `core`, `rotation`, `upkeep` and `tag_plan` decide and are told the time; the rest carries it out.
#![forbid(unsafe_code)]

pub mod app;
pub mod authority;
pub mod backoff;
pub mod body;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod display;
pub mod doctor;
pub mod driver;
pub mod error;
pub mod files;
pub mod health;
pub mod http;
pub mod identity;
pub mod ids;
pub mod kiosk;
pub mod listen;
pub mod local;
pub mod logging;
pub mod look;
pub mod metrics;
pub mod outbox;
pub mod platform;
pub mod pulse;
pub mod reader;
pub mod receipts;
pub mod rotation;
pub mod scene;
pub mod shown;
pub mod spell;
pub mod spread;
pub mod sse;
pub mod state;
pub mod tag;
pub mod tag_driver;
pub mod tag_pcsc;
pub mod tag_plan;
pub mod tag_writer;
pub mod till;
pub mod trust;
#[cfg(unix)]
pub mod tty;
pub mod upkeep;
pub mod upkeep_driver;
pub mod words;

#[cfg(test)]
mod testing;
