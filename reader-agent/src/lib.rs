//! How does a terminal show the token of the moment?
//!
//! ```text
//!  authority ══mTLS══▶ authority/ ──▶ driver ──▶ core ──▶ rotation    which token
//!                                       │          └────▶ shown       what else is on the screen
//!                                       ▼
//!                                     board ──▶ tag_driver ──▶ tag_plan, reader, tag
//!                                       ├─────▶ kiosk      the screen
//!                                       └─────▶ till       the till's interface
//!  authority ◀══mTLS══ outbox ◀── state (agent.db) ◀── taps and writes
//! ```
//! `core`, `rotation` and `tag_plan` decide and are told the time; the rest carries it out.
#![forbid(unsafe_code)]

mod app;
mod authority;
mod backoff;
pub mod cli;
mod clock;
mod config;
mod core;
mod driver;
mod error;
mod files;
mod health;
mod http;
mod identity;
mod ids;
mod kiosk;
mod listen;
mod logging;
mod metrics;
mod outbox;
mod platform;
pub mod reader;
mod receipts;
mod rotation;
mod shown;
mod state;
pub mod tag;
mod tag_driver;
mod tag_pcsc;
mod tag_plan;
mod tag_writer;
mod till;

#[cfg(test)]
mod testing;
