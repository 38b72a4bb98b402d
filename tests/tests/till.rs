//! Can a stranger build a till in an afternoon, is it told the truth whatever is away, and can nothing but a
//! till get at it?
//!
//! Authority, agent and browser are the real ones; the terminal has only a screen. Every answer that these
//! tests hear is held against the interface's OpenAPI document by a validator of others.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "till/bad.rs"]
mod bad;
#[path = "till/document.rs"]
mod document;
#[path = "till/examples.rs"]
mod examples;
#[path = "till/intruder.rs"]
mod intruder;
#[path = "till/line.rs"]
mod line;
#[path = "till/once.rs"]
mod once;
#[path = "till/shop.rs"]
mod shop;
#[path = "till/truth.rs"]
mod truth;
