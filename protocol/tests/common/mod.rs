//! What do the tests here share?
#![allow(dead_code, unreachable_pub)]

use std::fmt::Write as _;

use protocol::derive::EpochKey;
use sha2::{Digest, Sha256};

/// The epoch key of a numbered experiment: the same in every run.
pub fn key(number: u64) -> EpochKey {
    EpochKey::from_bytes(Sha256::digest(number.to_be_bytes()).into())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes whatever is written");
        text
    })
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte in {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("vectors are hex"))
        .collect()
}

pub fn unhex_array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text).try_into().expect("the vector has this length")
}
