//! Does somebody who stands before a terminal and knows nothing find out what is wrong, and does the
//! service manager?
//!
//! Real daemons, and the commands as people type them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

#[path = "field/doctor.rs"]
mod doctor;
#[path = "field/manager.rs"]
mod manager;
#[path = "field/packages.rs"]
mod packages;
#[path = "field/wear.rs"]
mod wear;
#[path = "field/weather.rs"]
mod weather;
