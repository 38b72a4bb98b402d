//! Which ports may daemons take that must come back on the same ones after a crash?

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::Failure;

/// Below the ports that the kernel hands out by itself, so that nobody takes one between two starts.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 100;

/// Given out by this process: whoever got one may not listen there yet.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A loopback port that nobody listens on, and that nobody else got here.
pub fn free() -> Result<u16, Failure> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(Failure::of("random bytes"))?;
        let port = FIRST + u16::from_be_bytes(random) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && given.insert(port) {
            return Ok(port);
        }
    }
    Err(Failure::new("no loopback port is free"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nobody_gets_a_port_that_another_got_before() {
        // Drawn without looking back, some ten of these would be drawn twice.
        let ports: HashSet<u16> = (0..500).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 500);
    }
}
