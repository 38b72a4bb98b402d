//! Which ports may daemons take that must come back on the same ones after a crash?

use std::net::{Ipv4Addr, TcpListener};

use crate::Failure;

/// Below the ports that the kernel hands out by itself, so that nobody takes one between two starts.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 100;

/// A loopback port that nobody listens on.
pub fn free() -> Result<u16, Failure> {
    for _ in 0..ATTEMPTS {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(Failure::of("random bytes"))?;
        let port = FIRST + u16::from_be_bytes(random) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::new("no loopback port is free"))
}
