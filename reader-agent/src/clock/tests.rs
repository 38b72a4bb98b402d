#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::MovedHands;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const HOUR: Millis = 3_600_000;
/// When the authority's clock says this, the ticks are at 0.
const START: Millis = 1_795_459_200_000;

/// A clock whose ticks this moves.
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn wait(&self, ms: Millis) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn ticks(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }

    /// What the authority's clock says now.
    fn there(&self) -> Timestamp {
        Timestamp::from_ms(START + self.ticks())
    }
}

fn hand(boot_id: u128, remembered: Option<Remembered>, wall_ms: Millis) -> (Clock, Hand) {
    let ticks = Arc::new(AtomicI64::new(0));
    let hands = MovedHands {
        ticks: ticks.clone(),
        wall: Timestamp::from_ms(wall_ms),
        boot_id,
    };
    let clock = Clock::with(Box::new(hands), remembered);
    (clock, Hand(ticks))
}

fn told() -> (Clock, Hand) {
    let (clock, hand) = hand(1, None, 0);
    clock.heard(hand.there());
    (clock, hand)
}

#[test]
fn a_frame_that_is_late_turns_nothing_back_however_late_it_is() {
    let (clock, hand) = told();
    for (late, meant) in [
        (1, Told::Known),
        (LATE_MS, Told::Known),
        (LATE_MS + 1, Told::Doubtful),
        (60 * HOUR, Told::Doubtful),
    ] {
        let made = hand.there();
        hand.wait(late);
        assert_eq!(clock.overheard(made), meant, "{late}");
        assert_eq!(clock.now(), Some(hand.there()), "{late}");
    }
}

#[test]
fn a_frame_that_waited_while_the_machine_slept_for_a_weekend_does_not_bring_friday_back() {
    let (clock, hand) = told();
    let friday = hand.there();
    // Asked for and answered on Friday, read on Monday.
    let asked = hand.ticks();
    hand.wait(60 * HOUR);
    assert_eq!(clock.answered(friday, asked), Told::Known);
    assert_eq!(clock.now(), Some(hand.there()));
    assert_eq!(clock.overheard(friday + 1), Told::Doubtful);
    assert_eq!(clock.now(), Some(hand.there()));
}

#[test]
fn an_answer_that_was_read_after_a_sleep_sets_no_clock_that_knew_nothing() {
    let (clock, hand) = hand(1, None, 0);
    let (friday, asked) = (hand.there(), hand.ticks());
    hand.wait(60 * HOUR);
    assert_eq!(clock.answered(friday, asked), Told::Doubtful);
    assert_eq!(clock.overheard(friday), Told::Doubtful);
    assert_eq!(clock.now(), None);
    let asked = hand.ticks();
    assert_eq!(clock.answered(hand.there(), asked), Told::Known);
    assert_eq!(clock.now(), Some(hand.there()));
}

#[test]
fn a_slow_answer_fits_and_one_that_leaves_no_other_way_turns_the_clock_back() {
    let (clock, hand) = told();
    let (asked, made) = (hand.ticks(), hand.there());
    hand.wait(3_000);
    assert_eq!(clock.answered(made, asked), Told::Known);
    assert_eq!(clock.now(), Some(hand.there()), "it was only slow");
    for back in [-1_000, -24 * HOUR] {
        let set = hand.there() + back;
        assert_eq!(clock.answered(set, hand.ticks()), Told::Known);
        assert_eq!(clock.now(), Some(set), "the authority's clock was set");
        clock.heard(hand.there());
    }
}

#[test]
fn a_frame_from_the_future_is_put_right_by_the_next_answer() {
    let (clock, hand) = told();
    assert_eq!(clock.overheard(hand.there() + 24 * HOUR), Told::Known);
    assert_eq!(clock.overheard(hand.there()), Told::Doubtful);
    assert_eq!(clock.answered(hand.there(), hand.ticks()), Told::Known);
    assert_eq!(clock.now(), Some(hand.there()));
}

#[test]
fn a_wall_clock_that_is_set_by_a_day_changes_nothing_while_the_agent_runs_or_starts_anew() {
    let (clock, first) = told();
    first.wait(HOUR);
    let remembered = Remembered {
        authority_minus_wall_ms: 250,
        ..clock.remember().unwrap()
    };
    for day in [-24 * HOUR, 0, 24 * HOUR] {
        let (again, hand) = hand(1, Some(remembered), START + HOUR + day);
        hand.wait(2 * HOUR);
        assert_eq!(again.now(), Some(hand.there()), "{day}");
        assert!(!again.is_heard());
    }
}

#[test]
fn a_slow_first_answer_after_a_new_start_turns_no_clock_back_that_counted_on() {
    let (clock, first) = told();
    first.wait(HOUR);
    let (again, hand) = hand(1, clock.remember(), START);
    hand.wait(2 * HOUR);
    let (asked, made) = (hand.ticks(), hand.there());
    hand.wait(ANSWER_MS);
    assert_eq!(again.answered(made, asked), Told::Known);
    assert_eq!(again.now(), Some(hand.there()));
    assert!(again.is_heard());
    let set = hand.there() + -HOUR;
    assert_eq!(again.answered(set, hand.ticks()), Told::Known);
    assert_eq!(
        again.now(),
        Some(set),
        "the authority's clock was set meanwhile"
    );
}

#[test]
fn after_a_start_of_the_machine_a_wall_clock_behind_the_last_moment_seen_is_not_believed() {
    let (clock, _hand) = told();
    let remembered = Remembered {
        authority_minus_wall_ms: 250,
        ..clock.remember().unwrap()
    };
    let at = |wall| hand(2, Some(remembered), wall).0.now();
    assert_eq!(at(START - 24 * HOUR), None);
    assert_eq!(at(START - 251), None);
    assert_eq!(at(START - 250), Some(Timestamp::from_ms(START)));
    let without = Remembered {
        boot: None,
        ..remembered
    };
    assert_eq!(hand(1, Some(without), START - 251).0.now(), None);
}

#[test]
fn a_fresh_agent_does_not_know_the_time_until_the_authority_speaks() {
    let clock = Clock::start(None);
    assert_eq!(clock.now(), None);
    clock.heard(Timestamp::from_ms(START));
    assert!(clock.now().is_some_and(|now| now.ms() >= START));
    assert!(clock.is_heard());
}

#[tokio::test]
async fn an_alarm_rings_each_time_it_is_set() {
    let mut alarm = Alarm::new();
    for _ in 0..3 {
        alarm.after(Duration::from_millis(1)).await;
    }
    // One that was given up does not ring into the next.
    tokio::select! {
        biased;
        () = alarm.after(Duration::from_secs(3_600)) => panic!("an hour is not over"),
        () = tokio::task::yield_now() => {}
    }
    alarm.after(Duration::from_millis(1)).await;
}
