//! The authority: who keeps the seeds, judges the tokens and signs the receipts?
#![forbid(unsafe_code)]

pub mod store;
