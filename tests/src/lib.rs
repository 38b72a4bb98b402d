//! What do demo and end-to-end tests stand on?

pub mod pcsc;
