//! How is a length of time said to a person?

use protocol::time::Millis;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The two largest units that matter, whatever the sign: `3 days 4 h`, `23 h 5 min`, `40 s`.
pub fn span(ms: Millis) -> String {
    let s = ms.saturating_abs() / 1000;
    match s {
        _ if s >= 2 * DAY => two(s / DAY, "days", s % DAY / HOUR, "h"),
        _ if s >= HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "min"),
        _ if s >= MINUTE => two(s / MINUTE, "min", s % MINUTE, "s"),
        _ => format!("{s} s"),
    }
}

fn two(large: i64, unit: &str, small: i64, smaller: &str) -> String {
    match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_said_in_two_units_at_most() {
        let said = [0, 999, 59_000, 60_000, 3_661_000, 86_400_000, 180_000_000];
        let said = said.map(span);
        let wanted = [
            "0 s",
            "0 s",
            "59 s",
            "1 min",
            "1 h 1 min",
            "24 h",
            "2 days 2 h",
        ];
        assert_eq!(said, wanted);
        assert_eq!(span(-61_000), "1 min 1 s");
        assert_eq!(span(i64::MIN), span(i64::MAX));
    }
}
