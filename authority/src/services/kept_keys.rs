//! Which epoch keys does this process remember?
//!
//! Those of terminals in use: where somebody paid within [`IN_USE_MS`]. Of them also hours that are still to
//! come, so that an hour's first payment finds its key here, and none is asked of the HSM twice; unless more
//! terminals are in use than are kept.

use std::collections::{BTreeMap, HashMap, VecDeque};

use protocol::derive::{EpochId, EpochKey};
use protocol::ids::TerminalId;
use protocol::live::{LoadedEpoch, epochs_needed};
use protocol::time::{Millis, Timestamp};
use protocol::window::{Behind, CheckedPolicy, EPOCH_MS, EpochClock};

/// Terminals whose keys are kept; the one loaded first goes first.
pub const TERMINALS_KEPT_MAX: usize = 20_000;
/// Hours kept of one terminal: a day, and the neighbours of the present one.
pub const EPOCHS_KEPT_MAX: usize = 32;
/// A terminal is in use for so long after the last time: a shop that opens day by day stays so.
pub const IN_USE_MS: Millis = 26 * 3_600_000;
/// An hour's keys are ready so long before it begins.
pub const AHEAD_MS: Millis = 10 * 60_000;
/// Hours loaded at a time, since each load costs an unwrap besides.
pub const EPOCHS_AHEAD: u32 = 6;
/// So long they are of use.
const AHEAD_MAX_MS: Millis = EPOCHS_AHEAD as Millis * EPOCH_MS;

#[derive(Default)]
pub(super) struct Kept {
    of: HashMap<TerminalId, OfTerminal>,
    /// In which terminals came.
    order: VecDeque<TerminalId>,
    /// When one had to make room for another last, before hours that were loaded ahead for it could be of use.
    crowded: Option<Timestamp>,
}

struct OfTerminal {
    clock: EpochClock,
    since: Timestamp,
    used: Timestamp,
    keys: BTreeMap<u32, Hour>,
}

/// The key of an hour, and which windows of it are past under which policy.
#[derive(Clone)]
struct Hour {
    id: EpochId,
    key: EpochKey,
    policy: CheckedPolicy,
    behind: Behind,
}

impl Kept {
    /// The hour of this key, judged by this policy.
    pub(super) fn find(&self, id: &EpochId, policy: CheckedPolicy) -> Option<LoadedEpoch> {
        let hour = self.of.get(&id.terminal)?.keys.get(&id.epoch)?;
        let same = hour.policy == policy;
        (hour.id == *id).then(|| LoadedEpoch {
            version: id.version,
            epoch: id.epoch,
            key: hour.key.clone(),
            policy,
            behind: if same { hour.behind } else { Behind::default() },
        })
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Somebody pays at this terminal now, and these are the keys that judge it.
    pub(super) fn use_now(
        &mut self,
        terminal: TerminalId,
        now: Timestamp,
        generation: u32,
        loaded: &[LoadedEpoch],
    ) {
        if loaded.is_empty() {
            return;
        }
        let order = &mut self.order;
        let of_terminal = self.of.entry(terminal).or_insert_with(|| {
            order.push_back(terminal);
            OfTerminal {
                clock: EpochClock::of(terminal),
                since: now,
                used: now,
                keys: BTreeMap::new(),
            }
        });
        of_terminal.used = of_terminal.used.max(now);
        of_terminal.forget_past(terminal, now);
        of_terminal.add(terminal, generation, loaded);
        while self.of.len() > TERMINALS_KEPT_MAX {
            let Some(first) = self.order.pop_front() else {
                return;
            };
            let gone = self.of.remove(&first);
            if gone.is_some_and(|it| now < it.since + AHEAD_MAX_MS) {
                self.crowded = Some(now);
            }
        }
    }

    /// Keys of hours to come, if the terminal is in use.
    pub(super) fn keep_ahead(
        &mut self,
        terminal: TerminalId,
        generation: u32,
        loaded: &[LoadedEpoch],
    ) {
        if let Some(of_terminal) = self.of.get_mut(&terminal) {
            of_terminal.add(terminal, generation, loaded);
        }
    }

    /// Terminals in use whose next hour is near and not here, the nearest first, with what to load of each. None for
    /// a day after it was crowded here: what is loaded ahead would give way before it is used.
    pub(super) fn due(&self, now: Timestamp, max: usize) -> Vec<(TerminalId, Vec<u32>)> {
        if self
            .crowded
            .is_some_and(|at| at <= now && now < at + IN_USE_MS)
        {
            return Vec::new();
        }
        let due = self.of.iter().filter_map(|(terminal, it)| {
            let next = it.clock.epoch_at(now + AHEAD_MS);
            let lacks = !it.keys.contains_key(&next);
            lacks.then(|| (it.clock.opens(next), *terminal, it.lacking(next)))
        });
        let mut due: Vec<_> = due.collect();
        due.sort_unstable_by_key(|(opens, terminal, _)| (*opens, terminal.number()));
        due.truncate(max);
        due.into_iter()
            .map(|(_, it, lacking)| (it, lacking))
            .collect()
    }

    /// Drops terminals that are not in use any longer.
    pub(super) fn forget_idle(&mut self, now: Timestamp) {
        self.of.retain(|_, it| now < it.used + IN_USE_MS);
        let of = &self.of;
        self.order.retain(|terminal| of.contains_key(terminal));
    }

    /// Every key; not how crowded it is.
    pub(super) fn forget_all(&mut self) {
        self.of.clear();
        self.order.clear();
    }

    pub(super) fn forget(&mut self, terminal: TerminalId) {
        if self.of.remove(&terminal).is_some() {
            self.order.retain(|known| *known != terminal);
        }
    }
}

impl OfTerminal {
    /// The nearest hours stay.
    fn add(&mut self, terminal: TerminalId, generation: u32, loaded: &[LoadedEpoch]) {
        for it in loaded {
            let id = EpochId {
                generation,
                terminal,
                version: it.version,
                epoch: it.epoch,
            };
            let hour = Hour {
                id,
                key: it.key.clone(),
                policy: it.policy,
                behind: it.behind,
            };
            self.keys.insert(it.epoch, hour);
        }
        while self.keys.len() > EPOCHS_KEPT_MAX {
            self.keys.pop_last();
        }
    }

    fn forget_past(&mut self, terminal: TerminalId, now: Timestamp) {
        let needed = epochs_needed(terminal, now);
        let first = needed.first().copied().unwrap_or(0);
        self.keys.retain(|epoch, _| *epoch >= first);
    }

    fn lacking(&self, next: u32) -> Vec<u32> {
        let ahead = next..next.saturating_add(EPOCHS_AHEAD);
        ahead.filter(|it| !self.keys.contains_key(it)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::token::Channel;
    use protocol::window::Policy;

    const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);

    fn terminal(number: u32) -> TerminalId {
        TerminalId::from_number(number).expect("below the limit")
    }

    fn hour(epoch: u32) -> LoadedEpoch {
        LoadedEpoch {
            version: 1,
            epoch,
            key: EpochKey::from_bytes([7; 32]),
            policy: policy(),
            behind: Behind::default(),
        }
    }

    fn policy() -> CheckedPolicy {
        Policy::default().check().expect("it is sound")
    }

    fn id(terminal: TerminalId, generation: u32, version: u32, epoch: u32) -> EpochId {
        EpochId {
            generation,
            terminal,
            version,
            epoch,
        }
    }

    /// A terminal, the hour that `NOW` lies in, and its keys in use.
    fn in_use() -> (Kept, TerminalId, u32) {
        let (mut kept, terminal) = (Kept::default(), terminal(1));
        let epoch = EpochClock::of(terminal).epoch_at(NOW);
        kept.use_now(terminal, NOW, 1, &[hour(epoch)]);
        (kept, terminal, epoch)
    }

    #[test]
    fn keys_are_kept_of_a_bounded_number_of_terminals() {
        let mut kept = Kept::default();
        for number in 0..TERMINALS_KEPT_MAX as u32 + 10 {
            kept.use_now(terminal(number), NOW, 1, &[hour(5)]);
        }
        assert_eq!(kept.of.len(), TERMINALS_KEPT_MAX);
        assert_eq!(kept.order.len(), TERMINALS_KEPT_MAX);
        assert!(!kept.of.contains_key(&terminal(0)));
    }

    #[test]
    fn a_forgotten_terminal_has_no_keys_and_another_generation_or_version_has_none_of_these() {
        let (mut kept, terminal, epoch) = in_use();
        assert!(kept.find(&id(terminal, 1, 1, epoch), policy()).is_some());
        assert!(kept.find(&id(terminal, 2, 1, epoch), policy()).is_none());
        assert!(kept.find(&id(terminal, 1, 2, epoch), policy()).is_none());
        kept.forget(terminal);
        assert!(kept.find(&id(terminal, 1, 1, epoch), policy()).is_none());
        assert!(kept.order.is_empty());
    }

    #[test]
    fn what_is_past_under_one_policy_says_nothing_under_another() {
        let (mut kept, used, epoch) = in_use();
        let mut walked = hour(epoch);
        let clock = EpochClock::of(used);
        for channel in Channel::ALL {
            let windows = hour(epoch);
            let end = clock.closes(epoch);
            walked.behind.follow(windows.windows(channel, &clock), end);
        }
        assert_ne!(walked.behind, Behind::default());
        kept.use_now(used, NOW, 1, std::slice::from_ref(&walked));
        let id = id(used, 1, 1, epoch);
        let behind = |policy| kept.find(&id, policy).map(|it| it.behind);
        assert_eq!(behind(policy()), Some(walked.behind));
        let mut slower = Policy::default();
        slower.nfc.longest_ms += 1_000;
        let slower = slower.check().expect("it is sound");
        assert_eq!(behind(slower), Some(Behind::default()));
    }

    #[test]
    fn hours_to_come_are_kept_of_terminals_in_use_only_and_of_bounded_number() {
        let (mut kept, used, epoch) = in_use();
        let day: Vec<_> = (epoch + 1..epoch + 100).map(hour).collect();
        for terminal in [used, terminal(2)] {
            kept.keep_ahead(terminal, 1, &day);
        }
        assert_eq!(kept.len(), 1);
        assert_eq!(kept.of[&used].keys.len(), EPOCHS_KEPT_MAX);
        assert!(kept.find(&id(used, 1, 1, epoch + 1), policy()).is_some());
        // An hour on, what is past goes.
        kept.use_now(used, NOW + 2 * EPOCH_MS, 1, &[hour(epoch + 2)]);
        assert!(kept.find(&id(used, 1, 1, epoch), policy()).is_none());
    }

    #[test]
    fn the_next_hours_are_due_shortly_before_the_first_of_them_begins() {
        let (mut kept, used, epoch) = in_use();
        let begins = EpochClock::of(used).opens(epoch + 1);
        assert!(kept.due(begins - AHEAD_MS - 1, 9).is_empty());
        let ahead: Vec<u32> = (epoch + 1..=epoch + EPOCHS_AHEAD).collect();
        let due = kept.due(begins - AHEAD_MS, 9);
        assert_eq!(due, [(used, ahead.clone())]);
        assert!(kept.due(begins - AHEAD_MS, 0).is_empty());
        let loaded: Vec<_> = ahead.into_iter().map(hour).collect();
        kept.keep_ahead(used, 1, &loaded);
        assert!(kept.due(begins, 9).is_empty());
    }

    /// As many as are kept, all of them since `NOW`.
    fn full() -> (Kept, TerminalId, u32) {
        let (mut kept, used, epoch) = in_use();
        for number in 2..=TERMINALS_KEPT_MAX as u32 {
            kept.use_now(terminal(number), NOW, 1, &[hour(epoch)]);
        }
        (kept, used, epoch)
    }

    #[test]
    fn nothing_is_loaded_ahead_for_a_day_after_one_gave_way_before_it_could_be_of_use() {
        let (mut kept, _, epoch) = full();
        let one_more = terminal(TERMINALS_KEPT_MAX as u32 + 1);
        let crowded = NOW + AHEAD_MAX_MS - 1;
        assert!(!kept.due(crowded, usize::MAX).is_empty(), "all have room");
        kept.use_now(one_more, crowded, 1, &[hour(epoch)]);
        assert_eq!(kept.len(), TERMINALS_KEPT_MAX);
        assert!(kept.due(crowded, usize::MAX).is_empty());
        assert!(kept.due(crowded + IN_USE_MS - 1, usize::MAX).is_empty());
        assert!(!kept.due(crowded + IN_USE_MS, usize::MAX).is_empty());
        assert!(
            !kept.due(crowded - 1, usize::MAX).is_empty(),
            "the clock was set back"
        );
        kept.forget_all();
        kept.use_now(one_more, crowded, 1, &[hour(epoch)]);
        assert!(
            kept.due(crowded + AHEAD_MAX_MS, 9).is_empty(),
            "it still is"
        );
    }

    #[test]
    fn who_was_here_for_long_gives_way_and_it_is_not_crowded() {
        let (mut kept, used, epoch) = full();
        let later = NOW + AHEAD_MAX_MS;
        kept.use_now(
            terminal(TERMINALS_KEPT_MAX as u32 + 1),
            later,
            1,
            &[hour(epoch)],
        );
        assert!(!kept.of.contains_key(&used));
        assert!(!kept.due(later, usize::MAX).is_empty());
    }

    #[test]
    fn a_terminal_where_nobody_paid_for_a_day_is_forgotten() {
        let (mut kept, ..) = in_use();
        kept.forget_idle(NOW + IN_USE_MS - 1);
        assert_eq!(kept.len(), 1);
        kept.forget_idle(NOW + IN_USE_MS);
        assert_eq!((kept.len(), kept.order.len()), (0, 0));
    }
}
