//! Where do names that nobody can guess come from?

use protocol::ids::{TERMINAL_NUMBERS, TerminalId};
use protocol::time::Timestamp;

/// `N` random bytes of the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect(
        "getrandom(2) does not fail once the kernel has booted, and nothing may go on if it does",
    );
    bytes
}

/// A UUIDv7 of this moment: `ids::fresh(now, ClaimId::from_parts)`.
pub fn fresh<T>(now: Timestamp, from_parts: fn(u64, &[u8; 10]) -> T) -> T {
    from_parts(u64::try_from(now.ms()).unwrap_or(0), &random())
}

/// A terminal number that is equally likely to be any.
pub fn random_terminal() -> TerminalId {
    // The largest multiple of the range below 2^32: numbers from there on would favour the low ones.
    const FAIR: u32 = u32::MAX - u32::MAX % TERMINAL_NUMBERS;
    loop {
        let draw = u32::from_be_bytes(random());
        if draw < FAIR {
            return TerminalId::from_number(draw % TERMINAL_NUMBERS)
                .expect("the remainder is below the number of terminals");
        }
    }
}
