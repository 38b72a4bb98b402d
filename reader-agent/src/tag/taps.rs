//! How often was the tag read by phones since the last visit?
//!
//! A tag counts the reads of phones, and some count ours too. So a visit asks the counter before it
//! reads anything, and again after its last read: the difference between that base and the next
//! visit's first value is the phones'.
//!
//! After a run that did not end in good order nobody knows how many reads of ours came after the base
//! that was kept. A tag that counts them then says nothing of the time up to the first visit: those taps
//! are lost, and none is invented.

/// 24 bits; the chip stays there.
const COUNTER_MAX: u32 = 0x00FF_FFFF;

/// Whose reads a tag counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The first of every field session, ours included.
    Everybody,
    /// Only those of whoever has no key.
    Phones,
}

/// The counter of one tag at the end of a visit: what an agent keeps over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCounter {
    pub tag_uid: Vec<u8>,
    pub value: u32,
}

/// What is known of one tag's counter between two visits.
#[derive(Clone, Debug, Default)]
pub struct TapLedger {
    entry: Option<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    uid: Vec<u8>,
    base: u32,
    /// Taps that nobody has heard of yet.
    untold: u32,
    since: Since,
}

/// What came after the base was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Nothing of ours.
    GoodEnd,
    /// A visit that failed after it asked the counter: one read of ours may be in the difference.
    FailedVisit,
    /// A run that did not end in good order: any number may.
    Cut,
}

impl Entry {
    /// Reads by phones since the base, if that can be said.
    fn phones(&self, now: u32, counted: Counted) -> Option<u32> {
        let reads = now.checked_sub(self.base)?;
        if self.base >= COUNTER_MAX {
            return None;
        }
        match (counted, self.since) {
            (Counted::Phones, _) | (_, Since::GoodEnd) => Some(reads),
            (Counted::Everybody, Since::FailedVisit) => Some(reads.saturating_sub(1)),
            // One read is explained by the visit that the cut came into.
            (Counted::Everybody, Since::Cut) => (reads <= 1).then_some(0),
        }
    }
}

impl TapLedger {
    /// The last run's counter, and whether that run ended in good order.
    pub fn resume(last: Option<LastCounter>, in_order: bool) -> TapLedger {
        let entry = last.map(|last| Entry {
            uid: last.tag_uid,
            base: last.value,
            untold: 0,
            since: match in_order {
                true => Since::GoodEnd,
                false => Since::Cut,
            },
        });
        TapLedger { entry }
    }

    /// Whether this tag's counter is known to run.
    pub fn knows(&self, uid: &[u8]) -> bool {
        self.entry.as_ref().is_some_and(|e| e.uid == uid)
    }

    /// A visit begins: how many taps since the last one, if that can be said.
    pub fn begin(&mut self, uid: &[u8], now: u32, counted: Counted) -> Option<u32> {
        let entry = self.entry.as_mut().filter(|e| e.uid == uid)?;
        let phones = entry.phones(now, counted);
        entry.untold += phones.unwrap_or(0);
        entry.base = now;
        entry.since = Since::FailedVisit;
        phones.map(|_| entry.untold)
    }

    /// Whether what a visit finds may be compared with what the one before left: it may not if reads of
    /// ours are among those in between. A counter that went back is told in any case.
    pub fn is_comparable(&self, uid: &[u8], now: u32, counted: Counted) -> bool {
        let ours = |entry: &Entry| {
            entry.uid == uid
                && entry.since == Since::Cut
                && counted == Counted::Everybody
                && now > entry.base
        };
        !self.entry.as_ref().is_some_and(ours)
    }

    /// A visit ended well with the counter at this value. Its taps stay untold until somebody hears of them.
    pub fn settle(&mut self, uid: &[u8], now: u32) {
        let known = self.entry.take().filter(|e| e.uid == uid);
        self.entry = Some(Entry {
            uid: uid.to_vec(),
            base: now,
            untold: known.map_or(0, |entry| entry.untold),
            since: Since::GoodEnd,
        });
    }

    /// Somebody has heard of so many taps, and keeps them.
    pub fn handle_told(&mut self, uid: &[u8], taps: u32) {
        if let Some(entry) = self.entry.as_mut().filter(|e| e.uid == uid) {
            entry.untold = entry.untold.saturating_sub(taps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &[u8] = &[4, 1, 2, 3];

    fn settled(at: u32) -> TapLedger {
        let mut ledger = TapLedger::default();
        ledger.settle(UID, at);
        ledger
    }

    #[test]
    fn taps_are_the_difference_to_the_end_of_the_last_visit() {
        assert_eq!(settled(10).begin(UID, 13, Counted::Everybody), Some(3));
        assert_eq!(settled(10).begin(UID, 10, Counted::Everybody), Some(0));
    }

    #[test]
    fn an_unknown_tag_has_no_past() {
        assert_eq!(settled(10).begin(&[9], 13, Counted::Everybody), None);
        assert!(!settled(10).knows(&[9]));
    }

    #[test]
    fn a_lower_counter_is_a_reset_and_counting_goes_on_from_there() {
        let mut ledger = settled(10);
        assert_eq!(ledger.begin(UID, 2, Counted::Everybody), None);
        ledger.settle(UID, 3);
        assert_eq!(ledger.begin(UID, 5, Counted::Everybody), Some(2));
    }

    #[test]
    fn a_counter_at_its_end_says_nothing() {
        assert_eq!(
            settled(COUNTER_MAX - 1).begin(UID, COUNTER_MAX, Counted::Everybody),
            Some(1)
        );
        assert_eq!(
            settled(COUNTER_MAX).begin(UID, COUNTER_MAX, Counted::Everybody),
            None
        );
    }

    #[test]
    fn taps_seen_by_a_failed_visit_are_told_by_the_next_one() {
        let mut ledger = settled(10);
        assert_eq!(ledger.begin(UID, 12, Counted::Everybody), Some(2));
        // The failed visit read the tag once: 13. One more phone: 14.
        assert_eq!(ledger.begin(UID, 14, Counted::Everybody), Some(3));
        ledger.settle(UID, 15);
        ledger.handle_told(UID, 3);
        assert_eq!(ledger.begin(UID, 15, Counted::Everybody), Some(0));
    }

    #[test]
    fn taps_of_a_good_visit_that_nobody_heard_of_are_told_by_the_next_one() {
        let mut ledger = settled(10);
        assert_eq!(ledger.begin(UID, 12, Counted::Everybody), Some(2));
        ledger.settle(UID, 13);
        assert_eq!(ledger.begin(UID, 14, Counted::Everybody), Some(3));
        ledger.settle(UID, 15);
        ledger.handle_told(&[9], 3);
        ledger.handle_told(UID, 3);
        assert_eq!(ledger.begin(UID, 15, Counted::Everybody), Some(0));
    }

    #[test]
    fn a_failed_visit_to_a_tag_that_counts_only_phones_takes_none_away() {
        let mut ledger = settled(10);
        assert_eq!(ledger.begin(UID, 12, Counted::Phones), Some(2));
        assert_eq!(ledger.begin(UID, 14, Counted::Phones), Some(4));
    }

    #[test]
    fn a_restarted_agent_goes_on_where_it_stopped() {
        let last = LastCounter {
            tag_uid: UID.to_vec(),
            value: 7,
        };
        assert_eq!(
            TapLedger::resume(Some(last), true).begin(UID, 9, Counted::Everybody),
            Some(2)
        );
    }

    #[test]
    fn after_a_cut_no_read_of_ours_is_told_as_a_tap() {
        let resumed = || {
            let last = LastCounter {
                tag_uid: UID.to_vec(),
                value: 7,
            };
            TapLedger::resume(Some(last), false)
        };
        let phones = |now| resumed().begin(UID, now, Counted::Everybody);
        // The counters of many visits may have found no room.
        for (now, taps) in [(6, None), (7, Some(0)), (8, Some(0)), (9, None), (90, None)] {
            assert_eq!(phones(now), taps, "{now}");
        }
        let comparable = |now| resumed().is_comparable(UID, now, Counted::Everybody);
        assert_eq!([6, 7, 8, 9].map(comparable), [true, true, false, false]);
        // What counts phones alone knows all of them.
        assert_eq!(resumed().begin(UID, 9, Counted::Phones), Some(2));
        assert!(resumed().is_comparable(UID, 9, Counted::Phones));
        // From the first visit on it is counted again.
        let mut ledger = resumed();
        ledger.begin(UID, 90, Counted::Everybody);
        ledger.settle(UID, 91);
        assert!(ledger.is_comparable(UID, 93, Counted::Everybody));
        assert_eq!(ledger.begin(UID, 93, Counted::Everybody), Some(2));
    }
}
