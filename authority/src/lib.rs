//! The authority: who keeps the seeds, judges the tokens and signs the receipts?
#![forbid(unsafe_code)]

pub mod app;
pub mod clock;
pub mod config;
pub mod http;
pub mod ids;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod services;
pub mod store;
