//! How long does a tag last?
//!
//! A tag bears a number of programming cycles, which its data sheet promises. The terminal counts those
//! of the page or frame that it programs most; how long the rest lasts is reckoned here, on both sides
//! by the same rule.

use serde::{Deserialize, Serialize};

use crate::time::{Millis, Timestamp};
use crate::window::WindowPolicy;

/// A tag is to be replaced when this much of its cycles is left.
pub const MARGIN_PERCENT: u32 = 10;
/// Most cycles that any tag may claim to bear.
pub const ENDURANCE_MAX: u32 = 100_000_000;
/// Most cycles that one link may cost.
pub const PER_LINK_MAX: u32 = 16;
/// Nothing is said to last longer, in days: a hundred years.
pub const DAYS_MAX: u32 = 36_525;

pub const DAY_MS: Millis = 86_400_000;

/// How worn a tag is: absolute, so that a report that is lost loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagWear {
    /// How often the page or frame was programmed that is programmed most, as far as it is known.
    pub cycles: u32,
    /// How often the data sheet lets it be.
    pub endurance: u32,
    /// Cycles of one link.
    pub per_link: u32,
    /// Measured; as long as there is less than a day to measure, [`planned`].
    pub cycles_per_day: u32,
}

/// What is to be expected of a tag at its present pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasts {
    /// Until the last promised cycle.
    pub days_left: u32,
    /// Until only the margin is left.
    pub days_to_replace: u32,
    /// The same as a date.
    pub replace_by: Timestamp,
}

impl TagWear {
    /// False for what no terminal of ours reports.
    pub fn is_plausible(&self) -> bool {
        (1..=ENDURANCE_MAX).contains(&self.endurance) && (1..=PER_LINK_MAX).contains(&self.per_link)
    }

    /// Cycles that the data sheet still promises.
    pub fn left(&self) -> u32 {
        self.endurance.saturating_sub(self.cycles)
    }

    pub fn percent_used(&self) -> u32 {
        let used = u64::from(self.cycles) * 100 / u64::from(self.endurance.max(1));
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// Not more is left than the margin: the tag is to be replaced.
    pub fn is_due(&self) -> bool {
        self.left() <= self.margin()
    }

    /// Reckoned at `at`.
    pub fn lasts(&self, at: Timestamp) -> Lasts {
        let days_of = |cycles| days(cycles, self.cycles_per_day);
        let before_margin = self.left().saturating_sub(self.margin());
        let days_to_replace = days_of(before_margin);
        Lasts {
            days_left: days_of(self.left()),
            days_to_replace,
            replace_by: at + Millis::from(days_to_replace) * DAY_MS,
        }
    }

    fn margin(&self) -> u32 {
        let margin = u64::from(self.endurance) * u64::from(MARGIN_PERCENT) / 100;
        u32::try_from(margin).unwrap_or(u32::MAX)
    }
}

/// Cycles per day if every window of the nfc channel is written once.
pub fn planned(per_link: u32, nfc: &WindowPolicy) -> u32 {
    let windows = DAY_MS.div_euclid(nfc.mean_ms()) + 1;
    u32::try_from(windows.saturating_mul(per_link.into())).unwrap_or(u32::MAX)
}

fn days(cycles: u32, per_day: u32) -> u32 {
    cycles
        .checked_div(per_day)
        .unwrap_or(DAYS_MAX)
        .min(DAYS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Policy;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn ntag21x(cycles: u32) -> TagWear {
        TagWear {
            cycles,
            endurance: 100_000,
            per_link: 2,
            cycles_per_day: planned(2, &Policy::default().nfc),
        }
    }

    #[test]
    fn a_new_tag_lasts_as_long_as_decision_0022_says() {
        let days = |wear: TagWear| wear.lasts(NOW).days_left;
        assert_eq!(days(ntag21x(0)), 155);
        let ntag424 = TagWear {
            endurance: 200_000,
            per_link: 1,
            cycles_per_day: planned(1, &Policy::default().nfc),
            ..ntag21x(0)
        };
        assert_eq!(days(ntag424), 623);
    }

    #[test]
    fn a_tag_is_replaced_while_a_tenth_is_left() {
        let busy = TagWear {
            cycles_per_day: 1_000,
            ..ntag21x(40_000)
        };
        let lasts = busy.lasts(NOW);
        assert_eq!(lasts.days_left, 60);
        assert_eq!(lasts.replace_by, NOW + 50 * DAY_MS);
    }

    #[test]
    fn a_tag_is_due_at_the_margin_and_a_worn_out_one_has_nothing_left() {
        assert!(!ntag21x(89_999).is_due());
        for cycles in [90_000, 100_000, 250_000, u32::MAX] {
            let worn = ntag21x(cycles);
            let lasts = worn.lasts(NOW);
            assert!(worn.is_due() && lasts.replace_by == NOW, "{cycles}");
        }
        assert_eq!(ntag21x(u32::MAX).lasts(NOW).days_left, 0);
        assert_eq!(ntag21x(250_000).percent_used(), 250);
    }

    #[test]
    fn a_tag_that_nobody_writes_does_not_last_for_ever() {
        let idle = TagWear {
            cycles_per_day: 0,
            ..ntag21x(5)
        };
        assert_eq!(idle.lasts(NOW).days_left, DAYS_MAX);
    }
}
