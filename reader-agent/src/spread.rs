//! When is it this terminal's turn, if many were asked at one moment?

use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use sha2::{Digest, Sha256};

/// How long after it was asked a terminal begins, of the time that it was given. The same for the same
/// question, another one for every terminal.
pub fn place(terminal: TerminalId, asked: Timestamp, within_ms: u32) -> Millis {
    let mut hash = Sha256::new();
    hash.update(b"m2key/spread/1\0");
    hash.update(terminal.number().to_be_bytes());
    hash.update(asked.ms().to_be_bytes());
    let digest = hash.finalize();
    let draw = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (i64::from(within_ms) * i64::from(draw)) / i64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ASKED: Timestamp = Timestamp::from_ms(1_795_435_200_000);

    #[test]
    fn a_fleet_that_was_asked_at_one_moment_begins_evenly() {
        const WITHIN_S: usize = 40;
        let mut begin = [0_u32; WITHIN_S + 1];
        for number in 0..10_000 {
            let terminal = TerminalId::from_number(number).unwrap();
            let after_ms = place(terminal, ASKED, WITHIN_S as u32 * 1_000);
            begin[usize::try_from(after_ms / 1_000).unwrap()] += 1;
        }
        let (last, seconds) = begin.split_last().unwrap();
        assert!(*last <= 1, "nobody is late");
        assert!(
            seconds.iter().all(|n| (180..=320).contains(n)),
            "{seconds:?}"
        );
    }

    #[test]
    fn no_time_is_at_once_and_the_next_question_draws_anew() {
        let terminal = TerminalId::from_number(7).unwrap();
        assert_eq!(place(terminal, ASKED, 0), 0);
        let later = place(terminal, ASKED + 1, 400_000);
        assert_ne!(place(terminal, ASKED, 400_000), later);
    }
}
