#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::terminal;
use proptest::prelude::*;

const DAY: Millis = 24 * 3_600_000;
const WEEK: Millis = 7 * DAY;

fn life(from: Timestamp, draw: u32) -> Life {
    Life {
        not_before: from,
        not_after: from + WEEK,
        draw,
    }
}

fn first() -> Life {
    life(Timestamp::from_ms(1_000_000), u32::MAX / 2)
}

fn at(now: Timestamp) -> At {
    At {
        now,
        ticks: now.ms(),
    }
}

fn due() -> At {
    at(first().renews_at())
}

fn told(renew_now: bool, trust_sequence: u64) -> Upkeep {
    Upkeep {
        renew_now,
        trust_sequence,
        ..Upkeep::default()
    }
}

fn later(words: &str) -> Failed {
    Failed::Later {
        words: words.into(),
        wait_ms: 0,
    }
}

fn resting() -> Keeper {
    Keeper::new(first(), Stage::Rest, 0)
}

/// Carries out what is asked for, as if nothing ever failed, and tells which steps that were.
fn carry_out(keeper: &mut Keeper, at: At, next: Life) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = keeper.poll(at) {
        steps.push(step);
        let done = match step {
            Step::KeepAnswer => Done::Kept(next),
            Step::Try => Done::Trying { footing: 2 },
            Step::FetchTrust | Step::Rebootstrap => Done::Following { sequence: 9 },
            _ => Done::Plainly,
        };
        keeper.handle_done(step, done, at);
        if step == Step::Try {
            keeper.handle_proven(2);
        }
    }
    steps
}

proptest! {
    #[test]
    fn a_certificate_is_renewed_around_half_of_its_life_whatever_that_is(
        draw: u32,
        from in 0i64..4_000_000_000_000,
        length in 1_000i64..400 * DAY,
    ) {
        let not_before = Timestamp::from_ms(from);
        let life = Life { not_before, not_after: not_before + length, draw };
        let share = (life.renews_at() - not_before) * 100 / length;
        prop_assert!((39..=60).contains(&share), "{share} %");
    }
}

#[test]
fn a_fleet_that_enrolled_at_once_does_not_renew_at_once() {
    let from = Timestamp::from_ms(0);
    let renewals: Vec<_> = (0..1_000)
        .map(|n| life(from, draw(terminal(n), &[7; 32])).renews_at())
        .collect();
    let (first, last) = (
        renewals.iter().min().unwrap(),
        renewals.iter().max().unwrap(),
    );
    assert!(*last - *first > WEEK / 6, "{}", *last - *first);
    let busiest = (0..24).map(|hour| {
        let from = *first + hour * 3_600_000;
        renewals
            .iter()
            .filter(|r| **r >= from && **r < from + 3_600_000)
            .count()
    });
    // A thousand over 33.6 hours: some 30 in each.
    assert!(busiest.max().unwrap() < 60);
}

#[test]
fn nothing_is_done_before_half_life_and_the_whole_renewal_after_it() {
    let mut keeper = resting();
    assert_eq!(keeper.poll(at(first().renews_at() - 1)), None);
    let next = life(due().now, 5);
    assert_eq!(carry_out(&mut keeper, due(), next), RENEWAL);
    assert_eq!(keeper.renews_at(), next.renews_at());
    assert_eq!(keeper.poll(due()), None);
}

#[test]
fn a_renewed_certificate_takes_the_place_of_the_old_one_only_once_it_was_used() {
    let mut keeper = Keeper::new(first(), Stage::Certified(life(due().now, 5)), 0);
    assert_eq!(keeper.poll(due()), Some(Step::Try));
    keeper.handle_done(Step::Try, Done::Trying { footing: 7 }, due());
    keeper.handle_proven(6);
    assert_eq!(keeper.poll(due()), None);
    keeper.handle_proven(7);
    assert_eq!(keeper.poll(due()), Some(Step::PromoteKey));
}

#[test]
fn a_renewed_certificate_that_is_refused_is_given_up_for_the_old_one_and_asked_for_again() {
    let mut keeper = Keeper::new(first(), Stage::Certified(life(due().now, 5)), 0);
    assert_eq!(keeper.poll(due()), Some(Step::Try));
    keeper.handle_done(Step::Try, Done::Trying { footing: 7 }, due());
    keeper.handle_refused("not issued here", due());
    assert_eq!(keeper.poll(due()), Some(Step::GoBack));
    keeper.handle_done(Step::GoBack, Done::Plainly, due());
    assert_eq!(keeper.poll(due()), None);
    assert!(keeper.troubles()[0].words.contains("not issued here"));
    let again = at(due().now + RETRY_FIRST_MS);
    assert_eq!(
        keeper.poll(again),
        Some(Step::Ask),
        "the same key, or the authority sees a clone"
    );
}

#[test]
fn when_the_old_certificate_is_refused_as_well_the_younger_one_is_renewed() {
    let next = life(due().now, 5);
    let mut keeper = Keeper::new(first(), Stage::Certified(next), 0);
    assert_eq!(keeper.poll(due()), Some(Step::Try));
    keeper.handle_done(Step::Try, Done::Trying { footing: 7 }, due());
    keeper.handle_refused("it has expired", due());
    assert_eq!(keeper.poll(due()), Some(Step::GoBack));
    keeper.handle_done(Step::GoBack, Done::Plainly, due());
    let again = at(due().now + RETRY_FIRST_MS);
    assert_eq!(keeper.poll(again), Some(Step::Ask));
    let words = "a later certificate is in use".to_owned();
    keeper.handle_failed(Step::Ask, Failed::Refused { words }, again);
    keeper.handle_refused("it has expired", again);
    let newest = life(again.now, 6);
    let steps = carry_out(&mut keeper, again, newest);
    assert_eq!(steps[..2], [Step::PromoteKey, Step::PromoteChain]);
    keeper.handle_refused("it has expired", again);
    assert_eq!(carry_out(&mut keeper, again, newest), RENEWAL);
}

#[test]
fn a_start_goes_on_where_the_last_run_was_cut_off() {
    let next = life(due().now, 5);
    let from = |stage| carry_out(&mut Keeper::new(first(), stage, 0), due(), next);
    assert_eq!(from(Stage::Rest), RENEWAL);
    assert_eq!(from(Stage::Key), RENEWAL[1..]);
    assert_eq!(from(Stage::Certified(next)), RENEWAL[3..]);
}

#[test]
fn a_pair_that_both_expired_goes_on_from_the_younger_one() {
    let next = life(due().now, 5);
    let mut keeper = Keeper::new(first(), Stage::Certified(next), 0);
    let long_after = at(next.not_after + DAY);
    let newest = life(long_after.now, 6);
    let steps = carry_out(&mut keeper, long_after, newest);
    assert_eq!(steps[..2], [Step::PromoteKey, Step::PromoteChain]);
    assert_eq!(steps[2..], RENEWAL);
    assert_eq!(keeper.renews_at(), newest.renews_at());
}

#[test]
fn an_expired_certificate_is_renewed_at_once() {
    let mut keeper = resting();
    let long_after = at(first().not_after + 20 * DAY);
    assert_eq!(keeper.poll(long_after), Some(Step::MakeKey));
}

#[test]
fn a_certificate_that_the_authority_takes_for_expired_is_renewed_whatever_our_clock_says() {
    let mut keeper = resting();
    let early = at(first().not_before);
    keeper.handle_refused("it has expired", early);
    assert_eq!(keeper.poll(early), Some(Step::MakeKey));
    let mut taken = resting();
    taken.handle_refused("it has expired", early);
    taken.handle_proven(1);
    assert_eq!(taken.poll(early), None);
}

#[test]
fn a_key_that_the_authority_knows_already_is_replaced_by_a_fresh_one() {
    let mut keeper = Keeper::new(first(), Stage::Key, 0);
    assert_eq!(keeper.poll(due()), Some(Step::Ask));
    keeper.handle_failed(Step::Ask, Failed::Key, due());
    assert_eq!(keeper.poll(due()), Some(Step::DropNext));
    keeper.handle_done(Step::DropNext, Done::Plainly, due());
    assert_eq!(keeper.poll(due()), Some(Step::MakeKey));
}

#[test]
fn failures_are_spaced_out_to_a_limit_and_keep_the_key() {
    let mut keeper = Keeper::new(first(), Stage::Key, 0);
    let mut now = due();
    let mut pauses = Vec::new();
    for _ in 0..20 {
        assert_eq!(keeper.poll(now), Some(Step::Ask));
        keeper.handle_failed(Step::Ask, later("away"), now);
        let failed_at = now.ticks;
        while keeper.poll(now).is_none() {
            now.ticks += 500;
        }
        pauses.push(now.ticks - failed_at);
    }
    assert!(
        pauses[0] <= RETRY_FIRST_MS && pauses.is_sorted(),
        "{pauses:?}"
    );
    assert!(pauses[19] >= RETRY_LONGEST_MS / 2 && pauses[19] <= RETRY_LONGEST_MS + 500);
}

#[test]
fn the_authority_says_how_long_to_wait() {
    let mut keeper = Keeper::new(first(), Stage::Key, 0);
    let busy = Failed::Later {
        words: "busy".into(),
        wait_ms: 30_000,
    };
    keeper.handle_failed(Step::Ask, busy, due());
    assert_eq!(keeper.poll(at(due().now + 29_999)), None);
    assert_eq!(keeper.poll(at(due().now + 30_000)), Some(Step::Ask));
}

#[test]
fn a_refusal_for_good_is_told_as_such_and_asked_about_rarely() {
    let mut keeper = Keeper::new(first(), Stage::Key, 0);
    let words = "too late".to_owned();
    keeper.handle_failed(
        Step::Ask,
        Failed::Refused {
            words: words.clone(),
        },
        due(),
    );
    let trouble = Trouble {
        words,
        is_final: true,
    };
    assert_eq!(keeper.troubles(), [trouble]);
    assert_eq!(keeper.poll(at(due().now + RETRY_LONGEST_MS - 1)), None);
    assert_eq!(
        keeper.poll(at(due().now + RETRY_LONGEST_MS)),
        Some(Step::Ask)
    );
}

#[test]
fn a_renewal_on_demand_begins_within_a_minute_and_is_not_repeated_at_once() {
    let mut keeper = resting();
    let early = at(first().not_before);
    keeper.handle_told(&told(true, 0), early);
    let soon = at(early.now + SPREAD_MS);
    keeper.handle_told(&told(true, 0), soon);
    assert_eq!(carry_out(&mut keeper, soon, life(soon.now, 5)), RENEWAL);
    keeper.handle_told(&told(true, 0), soon);
    assert_eq!(keeper.poll(at(soon.now + SPREAD_MS)), None);
    let rested = at(soon.now + RENEWED_REST_MS);
    keeper.handle_told(&told(true, 0), rested);
    assert_eq!(keeper.poll(at(rested.now + SPREAD_MS)), Some(Step::MakeKey));
    keeper.handle_told(&told(false, 0), rested);
    assert_eq!(keeper.poll(at(rested.now + SPREAD_MS)), None);
}

#[test]
fn what_is_asked_of_everybody_is_spread_as_the_configuration_says() {
    let early = at(first().not_before);
    let begins = |spread_ms, after_ms| {
        let mut keeper = resting().spread_over(spread_ms);
        keeper.handle_told(&told(true, 0), early);
        keeper.poll(at(early.now + after_ms))
    };
    assert_eq!(begins(0, 0), Some(Step::MakeKey));
    assert_eq!(begins(SPREAD_MAX_MS, SPREAD_MS), None);
    assert_eq!(begins(SPREAD_MAX_MS, SPREAD_MAX_MS), Some(Step::MakeKey));
}

#[test]
fn a_newer_bundle_is_fetched_once_and_an_older_one_never() {
    let mut keeper = Keeper::new(first(), Stage::Rest, 5);
    let early = at(first().not_before);
    keeper.handle_told(&told(false, 5), early);
    let soon = at(early.now + SPREAD_MS);
    assert_eq!(keeper.poll(soon), None);
    keeper.handle_told(&told(false, 9), early);
    assert_eq!(carry_out(&mut keeper, soon, first()), [Step::FetchTrust]);
    keeper.handle_told(&told(false, 9), soon);
    assert_eq!(keeper.poll(at(soon.now + SPREAD_MS)), None);
}

#[test]
fn a_stranger_at_the_other_end_is_asked_for_a_bundle_and_never_for_a_certificate() {
    let mut keeper = Keeper::new(first(), Stage::Key, 0);
    keeper.handle_stranger();
    let overdue = at(first().not_after + DAY);
    assert_eq!(keeper.poll(overdue), Some(Step::Rebootstrap));
    keeper.handle_failed(Step::Rebootstrap, later("not proven"), overdue);
    assert_eq!(keeper.poll(overdue), None);
    let again = at(overdue.now + RETRY_FIRST_MS);
    assert_eq!(keeper.poll(again), Some(Step::Rebootstrap));
    keeper.handle_done(Step::Rebootstrap, Done::Following { sequence: 3 }, again);
    assert_eq!(keeper.poll(again), Some(Step::Ask));
}

#[test]
fn a_clock_that_is_put_right_does_not_stretch_a_pause() {
    let mut keeper = Keeper::new(first(), Stage::Key, 0);
    let a_year_ahead = At {
        now: first().not_after + 365 * DAY,
        ticks: 0,
    };
    assert_eq!(keeper.poll(a_year_ahead), Some(Step::Ask));
    keeper.handle_failed(Step::Ask, later("away"), a_year_ahead);
    let put_right = At {
        now: due().now,
        ticks: RETRY_FIRST_MS,
    };
    assert_eq!(keeper.poll(put_right), Some(Step::Ask));
}
