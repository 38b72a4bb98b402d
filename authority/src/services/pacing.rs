//! How slow must the nfc channel be, so that a tag that nears its end lasts until it is replaced?
//!
//! ```text
//!  reports ──▶ tag_wear ──▶ windows() ──▶ nfc_paces ──▶ schedules, and the judge of tokens
//!                            for epochs that no schedule has told yet
//! ```
//! As long as more than the margin of a tag is left, nothing changes. From then on the windows are
//! as long as it takes to make the rest last [`SlowConfig::last_days`] days, within a longest length.

use protocol::schedule::NfcPace;
use protocol::time::{Millis, Timestamp};
use protocol::wear::DAY_MS;
use protocol::window::{CheckedPolicy, NfcWindows, WindowPolicy};

use crate::config::SlowConfig;
use crate::store::{Pace, WornTag};

/// Lengths are whole multiples of this: a pace that changes with every schedule helps nobody.
const STEP_MS: Millis = 30_000;

/// The windows that this tag needs; `None`: the policy's own. `held` are those of the last epoch that
/// was told: one tag is never written faster again.
pub fn windows(
    tag: Option<&WornTag>,
    held: Option<NfcWindows>,
    nfc: &WindowPolicy,
    rules: &SlowConfig,
    now: Timestamp,
) -> Option<NfcWindows> {
    let tag = tag?;
    let due_since = tag.due_since.filter(|_| rules.last_days > 0)?;
    let rest = (due_since + Millis::from(rules.last_days) * DAY_MS) - now;
    let links = Millis::from(tag.wear.left() / tag.wear.per_link.max(1));
    let longest_ms = match (rest, links) {
        (1.., 1..) => longest_of_mean(rest / links),
        // Nothing is left, or it should have been replaced long ago.
        _ => Millis::MAX,
    };
    let held_ms = held.map_or(0, |held| held.longest_ms);
    let longest_ms = longest_ms.max(held_ms).min(rules.longest_ms);
    (longest_ms > nfc.longest_ms).then_some(NfcWindows {
        shortest_ms: longest_ms / 2,
        longest_ms,
    })
}

/// The policy of an epoch: what the configuration says, or the pace under which it is told.
pub fn policy_of(policy: &CheckedPolicy, paces: &[Pace], epoch: u32) -> CheckedPolicy {
    let begun = paces.iter().rev().find(|pace| pace.from_epoch <= epoch);
    let windows = begun.and_then(|pace| pace.windows);
    // A policy that became slower than the pace since is the pace.
    let paced = windows.and_then(|windows| policy.paced(windows).ok());
    paced.unwrap_or(*policy)
}

/// What a schedule of these epochs says of it.
pub fn told(
    policy: &CheckedPolicy,
    paces: &[Pace],
    epochs: impl Iterator<Item = u32>,
) -> Vec<NfcPace> {
    let mut last = *policy;
    let mut told = Vec::new();
    for from_epoch in epochs {
        let is = policy_of(policy, paces, from_epoch);
        if is != last {
            let nfc = is.get().nfc;
            let windows = NfcWindows {
                shortest_ms: nfc.shortest_ms,
                longest_ms: nfc.longest_ms,
            };
            told.push(NfcPace {
                from_epoch,
                windows,
            });
        }
        last = is;
    }
    told
}

/// Windows from half of it to it are as long as `mean` on average, rounded up.
fn longest_of_mean(mean: Millis) -> Millis {
    let exact = mean.saturating_mul(4).div_euclid(3).saturating_add(1);
    exact.saturating_add(STEP_MS - 1) / STEP_MS * STEP_MS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use protocol::derive::EpochKey;
    use protocol::ids::TerminalId;
    use protocol::token::Channel;
    use protocol::wear::TagWear;
    use protocol::window::{EpochClock, Policy, WindowPlan};

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const RULES: SlowConfig = SlowConfig {
        last_days: 30,
        longest_ms: 900_000,
    };

    fn tag(cycles: u32, due_since: Option<Timestamp>) -> WornTag {
        WornTag {
            terminal: TerminalId::from_number(1).unwrap(),
            uid: "04A1".into(),
            wear: TagWear {
                cycles,
                endurance: 100_000,
                per_link: 2,
                cycles_per_day: 640,
            },
            at: NOW,
            replace_by: NOW,
            due_since,
        }
    }

    fn longest(tag: &WornTag, held: Option<NfcWindows>, now: Timestamp) -> Option<Millis> {
        let nfc = Policy::default().nfc;
        windows(Some(tag), held, &nfc, &RULES, now).map(|windows| windows.longest_ms)
    }

    fn minutes(longest: i64) -> NfcWindows {
        NfcWindows {
            shortest_ms: longest * 30_000,
            longest_ms: longest * 60_000,
        }
    }

    #[test]
    fn a_tag_with_more_than_the_margin_left_is_not_slowed() {
        assert_eq!(longest(&tag(89_999, None), None, NOW), None);
        let nfc = Policy::default().nfc;
        assert_eq!(windows(None, Some(minutes(10)), &nfc, &RULES, NOW), None);
        let never = SlowConfig {
            last_days: 0,
            ..RULES
        };
        let worn = tag(99_000, Some(NOW));
        assert_eq!(windows(Some(&worn), None, &nfc, &never, NOW), None);
    }

    #[test]
    fn the_rest_is_stretched_over_the_days_and_no_further_than_allowed() {
        // 5 000 links over 30 days: 8.64 min on average.
        assert_eq!(longest(&tag(90_000, Some(NOW)), None, NOW), Some(720_000));
        assert_eq!(longest(&tag(98_000, Some(NOW)), None, NOW), Some(900_000));
        assert_eq!(longest(&tag(100_000, Some(NOW)), None, NOW), Some(900_000));
        assert_eq!(longest(&tag(u32::MAX, Some(NOW)), None, NOW), Some(900_000));
        let late = NOW + 31 * DAY_MS;
        assert_eq!(longest(&tag(95_000, Some(NOW)), None, late), Some(900_000));
    }

    #[test]
    fn one_tag_is_never_written_faster_again_but_for_the_longest_allowed() {
        let held = Some(minutes(14));
        assert_eq!(longest(&tag(90_000, Some(NOW)), held, NOW), Some(840_000));
        let held = Some(minutes(40));
        assert_eq!(longest(&tag(90_000, Some(NOW)), held, NOW), Some(900_000));
    }

    #[test]
    fn whatever_is_asked_for_is_a_policy() {
        let policy = Policy::default().check().unwrap();
        for left in (0..=10_000).step_by(97) {
            for day in 0..40 {
                let tag = tag(100_000 - left, Some(NOW));
                let nfc = &policy.get().nfc;
                let rules = SlowConfig {
                    longest_ms: 3_600_000,
                    ..RULES
                };
                let asked = windows(Some(&tag), None, nfc, &rules, NOW + day * DAY_MS);
                assert!(
                    asked.is_none_or(|windows| policy.paced(windows).is_ok()),
                    "{asked:?}"
                );
            }
        }
    }

    #[test]
    fn an_epoch_has_the_pace_that_began_last_and_a_schedule_tells_only_changes() {
        let policy = Policy::default().check().unwrap();
        let pace = |from_epoch, windows| Pace {
            from_epoch,
            windows,
        };
        let paces = [
            pace(10, Some(minutes(10))),
            pace(20, Some(minutes(15))),
            pace(30, None),
        ];
        let longest = |epoch| policy_of(&policy, &paces, epoch).get().nfc.longest_ms;
        let is: Vec<_> = [9, 10, 19, 20, 29, 30].map(longest).into();
        assert_eq!(is, [360_000, 600_000, 600_000, 900_000, 900_000, 360_000]);
        let told = |epochs: std::ops::Range<u32>| -> Vec<_> {
            let told = told(&policy, &paces, epochs);
            told.iter()
                .map(|pace| (pace.from_epoch, pace.windows.longest_ms))
                .collect()
        };
        assert_eq!(told(0..10), []);
        assert_eq!(told(12..25), [(12, 600_000), (20, 900_000)]);
        assert_eq!(told(25..32), [(25, 900_000), (30, 360_000)]);
        assert_eq!(told(30..32), []);
    }

    #[test]
    fn a_policy_that_became_slower_than_a_pace_counts() {
        let mut slow = Policy::default();
        (slow.nfc.shortest_ms, slow.nfc.longest_ms) = (600_000, 1_200_000);
        let slow = slow.check().unwrap();
        let paces = [Pace {
            from_epoch: 1,
            windows: Some(minutes(10)),
        }];
        assert_eq!(policy_of(&slow, &paces, 5), slow);
        assert_eq!(told(&slow, &paces, 1..5), []);
    }

    /// A terminal that asks for more every hour, a day ahead, and whose tag is written in every window and
    /// after so many spends in an hour. Answers the days the tag lasted, and its longest window.
    fn life(mut wear: TagWear, rules: &SlowConfig, spends: u32) -> (i64, Millis) {
        const AHEAD: u32 = 24;
        let policy = Policy::default().check().unwrap();
        let (terminal, key) = (TerminalId::from_number(1).unwrap(), |epoch: u32| {
            let mut bytes = [7; 32];
            bytes[..4].copy_from_slice(&epoch.to_be_bytes());
            EpochKey::from_bytes(bytes)
        });
        let clock = EpochClock::of(terminal);
        let (mut paces, mut due_since): (Vec<Pace>, _) = (Vec::new(), None);
        let first = 500_000;
        for epoch in first.. {
            let now = clock.opens(epoch);
            due_since = wear.is_due().then(|| due_since.unwrap_or(now));
            let tag = WornTag {
                wear,
                due_since,
                ..tag(0, None)
            };
            let held = paces.last().and_then(|pace| pace.windows);
            let windows = windows(Some(&tag), held, &policy.get().nfc, rules, now);
            if windows != held {
                paces.push(Pace {
                    from_epoch: epoch + AHEAD,
                    windows,
                });
            }
            let is = policy_of(&policy, &paces, epoch);
            let plan = WindowPlan::draw(&key(epoch), &is, Channel::Nfc, &clock, epoch);
            wear.cycles += (plan.windows().len() as u32 + spends) * wear.per_link;
            if wear.left() == 0 {
                let days = i64::from(epoch - first) / 24;
                return (days, is.get().nfc.longest_ms);
            }
        }
        unreachable!("every tag ends")
    }

    fn wear(cycles: u32, endurance: u32, per_link: u32) -> TagWear {
        TagWear {
            cycles,
            endurance,
            per_link,
            cycles_per_day: 640,
        }
    }

    #[test]
    fn over_years_a_tag_lasts_the_days_it_was_given_or_is_as_slow_as_allowed() {
        let never = SlowConfig {
            last_days: 0,
            ..RULES
        };
        let hour = SlowConfig {
            longest_ms: 3_600_000,
            ..RULES
        };
        // A new one: of the last tenth 30 days are made instead of 15.
        let (whole, _) = life(wear(0, 100_000, 2), &never, 0);
        assert!((150..=156).contains(&whole), "{whole}");
        let (days, longest) = life(wear(0, 100_000, 2), &RULES, 0);
        assert!(
            (whole * 9 / 10 + 29..whole * 9 / 10 + 36).contains(&days),
            "{days}"
        );
        assert!(longest <= RULES.longest_ms, "{longest}");
        // One whose last tenth lasts longer than that is slowed only when it should be gone.
        let (whole, _) = life(wear(0, 200_000, 1), &never, 0);
        let (days, longest) = life(wear(0, 200_000, 1), &RULES, 0);
        assert!(days > whole + 30, "{days} {whole}");
        assert_eq!(longest, RULES.longest_ms);
        // Found with 2 % left: a day at the old pace, then as slow as is allowed.
        assert_eq!(life(wear(98_000, 100_000, 2), &never, 0).0, 3);
        let (days, longest) = life(wear(98_000, 100_000, 2), &RULES, 0);
        assert!((5..=7).contains(&days), "{days}");
        assert_eq!(longest, RULES.longest_ms);
        let (days, longest) = life(wear(98_000, 100_000, 2), &hour, 0);
        assert!(days >= 27 && longest == hour.longest_ms, "{days} {longest}");
        // Spends are not slowed, and what they cost is taken from the windows.
        let (days, _) = life(wear(90_000, 100_000, 2), &hour, 3);
        assert!((24..=32).contains(&days), "{days}");
    }
}
