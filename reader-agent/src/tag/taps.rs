//! How often was the tag read by phones since the last visit?
//!
//! A tag counts the reads of phones, and some count ours too. So a visit asks the counter before it
//! reads anything, and again after its last read: the difference between that base and the next
//! visit's first value is the phones'.

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
    /// The last visit failed after it asked the counter, so its own read may be in the difference.
    interrupted: bool,
}

impl TapLedger {
    pub fn resume(last: Option<LastCounter>) -> TapLedger {
        let entry = last.map(|last| Entry {
            uid: last.tag_uid,
            base: last.value,
            untold: 0,
            interrupted: false,
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
        let stopped_or_reset = entry.base >= COUNTER_MAX || now < entry.base;
        let own_read = u32::from(entry.interrupted && counted == Counted::Everybody);
        let phones = now.saturating_sub(entry.base).saturating_sub(own_read);
        entry.untold += if stopped_or_reset { 0 } else { phones };
        entry.base = now;
        entry.interrupted = true;
        (!stopped_or_reset).then_some(entry.untold)
    }

    /// A visit ended well with the counter at this value. Its taps stay untold until somebody hears of them.
    pub fn settle(&mut self, uid: &[u8], now: u32) {
        let known = self.entry.take().filter(|e| e.uid == uid);
        self.entry = Some(Entry {
            uid: uid.to_vec(),
            base: now,
            untold: known.map_or(0, |entry| entry.untold),
            interrupted: false,
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
            TapLedger::resume(Some(last)).begin(UID, 9, Counted::Everybody),
            Some(2)
        );
    }
}
