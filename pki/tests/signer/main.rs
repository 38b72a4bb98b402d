//! Does the signer sign only what it has written down, for those who may ask, whatever breaks?
#![allow(clippy::unwrap_used, unreachable_pub)]

mod doors;
mod help;
mod lists;
mod process;
mod signing;
mod steps;
mod world;
