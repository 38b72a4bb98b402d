//! What is a sealed seed bound to?
//!
//! The header that the binding mac covers names terminal, version, usage and which version is
//! current, so that a row of the database cannot stand in for another.

use hsm::SealedSeed;
use protocol::ids::TerminalId;

const SEED_HEADER: &[u8] = b"m2key/seed-header/1\0";
/// What the seed is for: epoch keys. One byte, so that another usage is another header.
const USAGE_EPOCH_KEYS: u8 = 1;

/// The header of a seed: domain, terminal, version, usage, current version; integers big-endian.
pub fn context(terminal: TerminalId, version: u32, current_version: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(SEED_HEADER.len() + 13);
    header.extend_from_slice(SEED_HEADER);
    header.extend_from_slice(&terminal.value().to_be_bytes());
    header.extend_from_slice(&version.to_be_bytes());
    header.push(USAGE_EPOCH_KEYS);
    header.extend_from_slice(&current_version.to_be_bytes());
    header
}

/// True if this sealed seed says it is the one asked for; the HSM then verifies that it says so
/// truly.
pub fn is_for(sealed: &SealedSeed, terminal: TerminalId, version: u32) -> bool {
    // Every version is current when it is made; an older one keeps the header it was sealed with.
    sealed.context == context(terminal, version, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_headers_differ_in_every_field() {
        let terminal = TerminalId::from_number(1).expect("below the limit");
        let other = TerminalId::from_number(2).expect("below the limit");
        let headers = [
            context(terminal, 1, 1),
            context(other, 1, 1),
            context(terminal, 2, 1),
            context(terminal, 1, 2),
        ];
        for (place, header) in headers.iter().enumerate() {
            assert!(!headers[..place].contains(header));
        }
    }
}
