//! What does a tag's counter prove, and when does it ring?
//!
//! | alarm | compared | it does not ring for |
//! |---|---|---|
//! | claims without taps | claims of the links from one write of the tag to the next, and reads counted meanwhile | readers that do not count, tags that were exchanged or personalised, a terminal that has not reported past the link |
//! | counter back | what a visit found, and what the one before left | another tag, a terminal that knows no earlier value |
//! | second place | spent links that came again from other networks on one day, and its claims | a few, as two people at one till make them |
//! | taps without claims | reads that nobody claimed on one day, and the terminal's own days before | a phone that only looks, several reads of one tap |
//!
//! Whatever is lost makes reads unknown, never fewer.

use protocol::wire::reports::TagCounter;

use super::LATE_MAX_MS;

/// 24 bits; a chip that has counted so far stays there.
pub const COUNTER_MAX: u32 = 0x00FF_FFFF;
/// Days before that a terminal is compared with.
pub const PAST_DAYS: i64 = 28;
/// Days are kept so long that one that is told [`LATE_MAX_MS`] late is compared with its own past, too.
pub const DAYS_KEPT: i64 = PAST_DAYS + LATE_MAX_MS / (24 * 3_600_000);
/// With fewer days known, only the absolute bound counts.
pub const PAST_DAYS_MIN: usize = 3;
/// Unclaimed reads of a day that no terminal rings for, unless it has none to compare with.
pub const UNCLAIMED_MIN: u64 = 100;
/// How many times the second-highest day before.
pub const UNCLAIMED_TIMES: u64 = 3;
/// Unclaimed reads of a day that every terminal rings for.
pub const UNCLAIMED_ALWAYS: u64 = 2_000;
/// Spent links from second places that a terminal may have in a day.
pub const SECOND_PLACES_MIN: u64 = 12;
/// Or one in so many claims on nfc, if that is more.
pub const SECOND_PLACES_SHARE: u64 = 10;

/// What is known of a terminal's tag from its last visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    pub tag_uid: String,
    pub counter: Option<u32>,
}

/// How often phones read the tag between two visits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Counted(u32),
    /// Nothing follows.
    Unknown,
    /// The chip counts up and never down: it is another chip with the same number, or it was tampered with.
    Back {
        from: u32,
        to: u32,
    },
}

/// What a visit says of the time since the one before.
pub fn reads_between(before: Option<&Watched>, uid: &str, now: Option<TagCounter>) -> Reads {
    let same_tag = before.filter(|before| before.tag_uid == uid);
    let left = same_tag.and_then(|before| before.counter);
    let found = now.and_then(|now| now.found);
    match (left, found) {
        (Some(left), Some(found)) if found < left => Reads::Back {
            from: left,
            to: found,
        },
        (Some(left), Some(found)) if found < COUNTER_MAX => Reads::Counted(found - left),
        _ => Reads::Unknown,
    }
}

/// What proves that claims came from the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proofs {
    /// Reads that the tag counted.
    pub counted: u64,
    /// Claims whose link the tag itself had signed for this one read. The tag counted that read, too.
    pub signed: u64,
}

impl Proofs {
    pub fn taps(self) -> u64 {
        self.counted.max(self.signed)
    }
}

/// Claims that no read explains.
pub fn untapped(claims: u64, proofs: Proofs) -> u64 {
    claims.saturating_sub(proofs.taps())
}

/// The bound that so many unclaimed reads of a day are above, given those of the days before.
pub fn too_many_reads(unclaimed: u64, past: &[u64]) -> Option<u64> {
    let bound = if past.len() < PAST_DAYS_MIN {
        UNCLAIMED_ALWAYS
    } else {
        // The second: one bad day does not become the measure.
        let mut highest = past.to_vec();
        highest.sort_unstable_by(|a, b| b.cmp(a));
        let usual = highest[1].saturating_mul(UNCLAIMED_TIMES);
        usual.clamp(UNCLAIMED_MIN, UNCLAIMED_ALWAYS)
    };
    (unclaimed > bound).then_some(bound)
}

/// The bound that so many links from second places are above.
pub fn too_many_places(second_places: u64, claims: u64) -> Option<u64> {
    let bound = (claims / SECOND_PLACES_SHARE).max(SECOND_PLACES_MIN);
    (second_places > bound).then_some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(counter: Option<u32>) -> Watched {
        Watched {
            tag_uid: "04A1".into(),
            counter,
        }
    }

    fn now(found: Option<u32>, left: u32) -> Option<TagCounter> {
        Some(TagCounter { found, left })
    }

    #[test]
    fn reads_are_what_one_visit_found_beyond_what_the_last_one_left() {
        let before = watched(Some(10));
        let between = |now| reads_between(Some(&before), "04A1", now);
        assert_eq!(between(now(Some(13), 14)), Reads::Counted(3));
        assert_eq!(between(now(Some(10), 11)), Reads::Counted(0));
        assert_eq!(between(now(Some(9), 11)), Reads::Back { from: 10, to: 9 });
    }

    #[test]
    fn what_is_not_known_is_never_taken_for_no_reads() {
        let before = watched(Some(10));
        let unknown = |before: Option<&Watched>, uid, now| {
            assert_eq!(reads_between(before, uid, now), Reads::Unknown);
        };
        unknown(None, "04A1", now(Some(13), 14));
        unknown(Some(&before), "04A2", now(Some(3), 4));
        unknown(Some(&before), "04A1", now(None, 4));
        unknown(Some(&before), "04A1", None);
        unknown(Some(&watched(None)), "04A1", now(Some(13), 14));
        let full = watched(Some(COUNTER_MAX));
        unknown(Some(&full), "04A1", now(Some(COUNTER_MAX), COUNTER_MAX));
    }

    #[test]
    fn a_signed_tap_is_not_a_second_read() {
        let proofs = |counted, signed| Proofs { counted, signed };
        assert_eq!(untapped(3, proofs(2, 2)), 1);
        assert_eq!(untapped(3, proofs(0, 3)), 0);
        assert_eq!(untapped(2, proofs(5, 0)), 0);
    }

    #[test]
    fn a_terminal_is_measured_by_its_own_past_and_by_what_no_terminal_has() {
        assert_eq!(too_many_reads(2_000, &[]), None);
        assert_eq!(too_many_reads(2_001, &[1, 1]), Some(2_000));
        let quiet = [4, 2, 0, 7];
        assert_eq!(too_many_reads(100, &quiet), None);
        assert_eq!(too_many_reads(101, &quiet), Some(100));
        let busy = [200, 300, 250, 90];
        assert_eq!(too_many_reads(750, &busy), None);
        assert_eq!(too_many_reads(751, &busy), Some(750));
        let once = [9, 1_900, 9, 9];
        assert_eq!(too_many_reads(101, &once), Some(100), "one bad day");
        let always = [1_500, 1_500, 1_500];
        assert_eq!(too_many_reads(2_001, &always), Some(2_000));
    }

    #[test]
    fn a_busy_shop_may_have_more_second_places() {
        assert_eq!(too_many_places(12, 0), None);
        assert_eq!(too_many_places(13, 0), Some(12));
        assert_eq!(too_many_places(40, 400), None);
        assert_eq!(too_many_places(41, 400), Some(40));
    }
}
