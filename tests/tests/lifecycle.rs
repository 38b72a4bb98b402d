//! Does anybody notice when every name and key is replaced under a fleet that is at work, and does every
//! page of docs/OPERATIONS.md for a bad day do what it says?
//!
//! Real daemons, each in a process of its own, and the verbs as operators type them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

#[path = "lifecycle/ca.rs"]
mod ca;
#[path = "lifecycle/desk.rs"]
mod desk;
#[path = "lifecycle/drill.rs"]
mod drill;
#[path = "lifecycle/fleet.rs"]
mod fleet;
#[path = "lifecycle/names.rs"]
mod names;
#[path = "lifecycle/renewal.rs"]
mod renewal;
#[path = "lifecycle/thief.rs"]
mod thief;
#[path = "lifecycle/walk.rs"]
mod walk;
#[path = "lifecycle/watch.rs"]
mod watch;
