//! What does every part of M2Key have to agree on?
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod damm;
pub mod ids;
pub mod typed;
