//! Over which time is a fleet to spread what it is asked to do?
//!
//! What one terminal is asked, all may have been asked at the same moment: after a restart, after a change of
//! the keys or of the roots. Each is told a time, draws its moment within it, and the authority is asked
//! evenly.

/// Schedules that a node issues beside payments without anybody noticing.
pub(super) const SCHEDULES_PER_S: u32 = 250;
/// Calls of the upkeep: keys, lists of roots, renewals of certificates.
pub(super) const UPKEEP_PER_S: u32 = 500;
/// The longest time that terminals are told, whatever their number.
const SPREAD_MAX_MS: u32 = 30 * 60_000;
/// Less than this is not worth waiting.
const SPREAD_MIN_MS: u32 = 1_000;

/// So long that `listening` terminals come at this rate.
pub(super) fn spread_ms(listening: usize, per_s: u32) -> u32 {
    let listening = u64::try_from(listening).unwrap_or(u64::MAX);
    let spread = listening.saturating_mul(1_000) / u64::from(per_s);
    match u32::try_from(spread).unwrap_or(u32::MAX) {
        short if short < SPREAD_MIN_MS => 0,
        long => long.min(SPREAD_MAX_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_comes_at_once_and_a_large_one_takes_its_time() {
        assert_eq!(spread_ms(0, SCHEDULES_PER_S), 0);
        assert_eq!(spread_ms(249, SCHEDULES_PER_S), 0);
        assert_eq!(spread_ms(250, SCHEDULES_PER_S), 1_000);
        assert_eq!(spread_ms(100_000, SCHEDULES_PER_S), 400_000);
        assert_eq!(spread_ms(100_000, UPKEEP_PER_S), 200_000);
        assert_eq!(spread_ms(usize::MAX, SCHEDULES_PER_S), SPREAD_MAX_MS);
    }

    /// Terminals come back one after the other after a restart; each is told a time by how many are there.
    #[test]
    fn a_hundred_thousand_terminals_after_a_restart_ask_for_schedules_evenly() {
        const FLEET: u32 = 100_000;
        const BACK_PER_S: u32 = 4_000;
        let mut dice = 1_u32;
        let mut asks = [0_u32; 500];
        for terminal in 0..FLEET {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let within = u64::from(spread_ms(terminal as usize + 1, SCHEDULES_PER_S));
            let drawn = within * u64::from(dice.rotate_left(16)) / u64::from(u32::MAX);
            let at_ms = u64::from(terminal) * 1_000 / u64::from(BACK_PER_S) + drawn;
            asks[(at_ms / 1_000) as usize] += 1;
        }
        let busiest = asks.iter().max().copied().unwrap_or(0);
        assert!(busiest < 5 * SCHEDULES_PER_S, "{busiest} in one second");
        assert_eq!(asks.iter().sum::<u32>(), FLEET);
    }
}
