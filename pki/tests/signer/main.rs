//! Does the signer sign only what it has written down, for those who may ask, whatever breaks?
#![allow(clippy::unwrap_used, unreachable_pub)]

mod consents;
mod doors;
mod lists;
#[path = "../common/people.rs"]
mod people;
mod process;
mod signing;
mod steps;
mod world;
