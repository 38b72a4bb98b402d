//! The authority: who keeps the seeds, judges the tokens and signs the receipts?
#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod ids;
pub mod init;
pub mod journal;
pub mod listen;
pub mod lock;
pub mod logging;
pub mod metrics;
pub mod serve;
pub mod services;
pub mod sms;
pub mod store;

/// What is made on one thread is dropped on another here, with every write and every answer of the HSM.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
