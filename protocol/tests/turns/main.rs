//! Does a token shown for one charge ever claim another, or two phones one token?
//!
//! Every race that the design names is a list of operations here, to be replayed for ever. Below
//! them, all lists up to a length are walked, not sampled.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
mod exhaustive;
mod model;
mod real_tokens;

use std::collections::BTreeSet;

use model::Op::*;
use model::{Answer, Charge, EPOCH, Place, World};
use protocol::token::Channel::{self, Code, Nfc, Qr};
use protocol::turn::{KNOWN_TURNS_MAX, KnownTurns, TURN_SHUT, TurnCause, TurnState, next_turn};

fn claimed(charge: u8) -> Answer {
    Answer::Claimed { charge }
}

/// A quiet moment in the middle of a qr window.
fn midway() -> (Place, World) {
    let place = Place::new(&Channel::ALL);
    let now = place.opens(Qr, EPOCH, 40) + 10_000;
    (place, World::new(now))
}

#[test]
fn two_phones_with_one_token_make_one_claim() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[
            StartCharge,
            Deliver(0),
            See(0, Qr),
            See(1, Qr),
            Post(0),
            Post(1),
        ],
    );
    assert_eq!(world.answers, [claimed(1), Answer::NotLive]);
}

#[test]
fn two_phones_with_one_tag_make_one_claim_even_after_a_release() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[
            StartCharge,
            See(0, Nfc),
            See(1, Nfc),
            Post(0),
            Release,
            Post(1),
        ],
    );
    assert_eq!(world.answers, [claimed(1), Answer::NotLive]);
}

#[test]
fn a_phone_that_posts_twice_has_one_claim() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[
            StartCharge,
            Deliver(0),
            See(0, Code),
            Post(0),
            Release,
            Post(0),
        ],
    );
    assert_eq!(world.answers, [claimed(1), Answer::NotLive]);
}

#[test]
fn a_charge_that_starts_just_before_the_spend_makes_the_older_token_worthless() {
    let (place, mut world) = midway();
    world.run(&place, &[See(0, Qr), StartCharge, Post(0)]);
    assert_eq!(world.answers, [Answer::NotLive]);
    assert_eq!(world.charge, Charge::Offered(1));
}

#[test]
fn a_spend_just_before_the_charge_ends_leaves_nothing_for_the_next_charge() {
    let (place, mut world) = midway();
    let ops = [
        StartCharge,
        Deliver(0),
        See(0, Qr),
        See(1, Code),
        Post(0),
        CancelCharge,
    ];
    world.run(&place, &ops);
    world.run(&place, &[StartCharge, Post(0), Post(1)]);
    assert_eq!(
        world.answers,
        [claimed(1), Answer::NotLive, Answer::NotLive]
    );
}

#[test]
fn a_push_that_comes_after_the_spend_it_tells_of_shows_the_next_token() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[StartCharge, Deliver(0), See(0, Qr), Post(0), Release],
    );
    // Both frames are still under way: the spent token is on the screen and is refused.
    world.run(
        &place,
        &[
            See(1, Qr),
            Post(1),
            Deliver(0),
            Deliver(0),
            See(1, Qr),
            Post(1),
        ],
    );
    assert_eq!(world.answers, [claimed(1), Answer::NotLive, claimed(1)]);
}

#[test]
fn pushes_reordered_doubled_and_lost_end_at_the_authoritys_turn() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[
            StartCharge,
            CancelCharge,
            StartCharge,
            CancelCharge,
            Double(3),
        ],
    );
    let newest = world.shown(&place, Qr).unwrap();
    assert_eq!(newest.turn, 4);
    for late in [Deliver(1), Deliver(0), Deliver(1), Lose(0)] {
        world.run(&place, &[late]);
        assert_eq!(world.shown(&place, Qr), Some(newest));
    }
}

#[test]
fn a_lost_push_costs_a_refusal_and_heals_at_the_next_boundary() {
    let (place, mut world) = midway();
    world.run(&place, &[StartCharge, Lose(0), See(0, Qr), Post(0)]);
    assert_eq!(world.answers, [Answer::NotLive]);
    world.now = place.opens(Qr, EPOCH, 41);
    world.run(&place, &[See(0, Qr), Post(0)]);
    assert_eq!(world.answers[1], claimed(1));
}

#[test]
fn a_release_just_before_the_approval_leaves_nothing_to_approve() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[StartCharge, Deliver(0), See(0, Qr), Post(0), Release],
    );
    assert!(!world.step(&place, Approve));
    assert_eq!(world.charge, Charge::Offered(1));
}

#[test]
fn an_approval_just_before_the_release_leaves_nothing_to_release() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[StartCharge, Deliver(0), See(0, Qr), Post(0), Approve],
    );
    assert!(!world.step(&place, Release));
    assert_eq!(world.charge, Charge::None);
}

#[test]
fn a_claim_just_after_the_charge_ended_is_refused_and_spends_nothing() {
    let (place, mut world) = midway();
    world.run(
        &place,
        &[
            StartCharge,
            Deliver(0),
            See(0, Qr),
            See(1, Nfc),
            CancelCharge,
        ],
    );
    world.run(&place, &[Post(0), Post(1)]);
    assert_eq!(world.answers, [Answer::NotLive, Answer::NothingToPay]);
    assert!(world.spent.is_empty());
}

#[test]
fn a_push_that_arrives_after_a_boundary_does_not_touch_the_new_window() {
    let (place, mut world) = midway();
    world.run(&place, &[StartCharge]);
    world.now = place.opens(Qr, EPOCH, 41);
    let fresh = world.shown(&place, Qr).unwrap();
    assert_eq!((fresh.window.window, fresh.turn), (41, 0));
    world.run(&place, &[Deliver(0), See(0, Qr), Post(0)]);
    assert_eq!(world.seen[0].unwrap().token, fresh);
    assert_eq!(world.answers, [claimed(1)]);
}

#[test]
fn a_terminal_that_restarts_online_shows_the_authoritys_turn() {
    let (place, mut world) = midway();
    world.run(&place, &[StartCharge, Deliver(0), Restart]);
    assert_eq!(world.shown(&place, Qr), None, "blank until it knows");
    world.run(&place, &[Connect, Deliver(0), See(0, Qr), Post(0)]);
    assert_eq!(world.answers, [claimed(1)]);
}

#[test]
fn a_terminal_that_restarts_offline_is_blank_until_the_next_boundary() {
    let (place, mut world) = midway();
    world.run(&place, &[StartCharge, Deliver(0), Restart]);
    assert_eq!(world.shown(&place, Qr), None);
    world.now = place.opens(Qr, EPOCH, 41) - 1;
    assert_eq!(world.shown(&place, Qr), None);
    world.now = place.opens(Qr, EPOCH, 41);
    world.run(&place, &[See(0, Qr), Post(0)]);
    assert_eq!(world.answers, [claimed(1)]);
}

#[test]
fn the_tag_keeps_its_turn_when_charges_come_and_go() {
    let (place, mut world) = midway();
    let tag = world.shown(&place, Nfc);
    world.run(
        &place,
        &[
            StartCharge,
            CancelCharge,
            StartCharge,
            Deliver(2),
            See(0, Nfc),
        ],
    );
    assert_eq!(world.shown(&place, Nfc), tag);
    world.run(&place, &[Post(0), Release, Deliver(3)]);
    assert_eq!(world.answers, [claimed(2)]);
    assert_eq!(
        world.shown(&place, Nfc).unwrap().turn,
        1,
        "only the spend moved it"
    );
}

#[test]
fn early_present_and_late_windows_all_move_when_a_charge_starts() {
    let place = Place::new(&Channel::ALL);
    let boundary = place.opens(Qr, EPOCH, 41);
    // 2 s before it opens the next window counts already, and the one before the last still does.
    for (now, early_counts) in [(boundary - 2_001, false), (boundary - 2_000, true)] {
        let mut world = World::new(now);
        world.run(&place, &[StartCharge]);
        let due = |w: &protocol::token::WindowId| w.channel != Nfc;
        let due: BTreeSet<_> = place.acceptable(now).into_iter().filter(due).collect();
        assert_eq!(world.turns.keys().copied().collect::<BTreeSet<_>>(), due);
        let moved = |index| due.iter().any(|w| w.channel == Qr && w.window == index);
        assert!(moved(40) && moved(41) == early_counts);
    }
    let mut world = World::new(boundary + 29_999);
    world.run(&place, &[StartCharge]);
    let late = |w: &protocol::token::WindowId| (w.channel, w.window) == (Qr, 40);
    assert!(world.turns.keys().any(late), "in its grace");
}

#[test]
fn a_terminal_two_seconds_ahead_shows_no_token_that_outlives_its_charge() {
    let place = Place::new(&Channel::ALL);
    let mut world = World::new(place.opens(Qr, EPOCH, 41) - 2_000);
    world.ahead = 2_000;
    world.run(
        &place,
        &[
            StartCharge,
            Deliver(0),
            See(0, Qr),
            CancelCharge,
            StartCharge,
            Post(0),
        ],
    );
    assert_eq!(world.seen[0].unwrap().token.window.window, 41);
    assert_eq!(world.answers, [Answer::NotLive]);
}

#[test]
fn a_token_of_the_last_window_of_an_epoch_still_counts_in_the_next_epoch() {
    let place = Place::new(&Channel::ALL);
    let boundary = place.opens(Qr, EPOCH + 1, 0);
    let mut world = World::new(boundary - 5_000);
    world.run(&place, &[StartCharge, Deliver(0), See(0, Qr)]);
    world.now = boundary + 20_000;
    world.run(&place, &[Post(0)]);
    assert_eq!(world.answers, [claimed(1)]);
    assert_eq!(world.spent.first().unwrap().window.epoch, EPOCH);
}

#[test]
fn a_charge_that_starts_between_two_epochs_moves_windows_of_both() {
    let place = Place::new(&Channel::ALL);
    let mut world = World::new(place.opens(Qr, EPOCH + 1, 0) + 5_000);
    world.run(&place, &[StartCharge]);
    for channel in [Qr, Code] {
        for epoch in [EPOCH, EPOCH + 1] {
            let moved = |w: &&protocol::token::WindowId| (w.channel, w.epoch) == (channel, epoch);
            assert!(
                world.turns.keys().any(|w| moved(&w)),
                "{channel} of {epoch}"
            );
        }
    }
}

#[test]
fn a_window_that_has_used_up_its_turns_is_shut_and_blank_until_the_boundary() {
    let (place, mut world) = midway();
    let window = world.shown(&place, Qr).unwrap().window;
    world.turns.insert(window, TURN_SHUT - 1);
    world.run(&place, &[StartCharge, Deliver(0)]);
    assert_eq!(world.turn_of(&window), TURN_SHUT);
    assert_eq!(world.shown(&place, Qr), None);
    world.run(&place, &[CancelCharge, StartCharge]);
    assert_eq!(world.turn_of(&window), TURN_SHUT, "never back to 0");
    world.now = place.opens(Qr, EPOCH, 41);
    world.run(&place, &[See(0, Qr), Post(0)]);
    assert_eq!(world.answers, [claimed(2)]);
}

#[test]
fn turns_count_up_to_the_last_and_stop() {
    assert_eq!(next_turn(0), Some(1));
    assert_eq!(next_turn(TURN_SHUT - 1), Some(TURN_SHUT));
    assert_eq!(next_turn(TURN_SHUT), None);
}

#[test]
fn a_spend_moves_its_own_window_only() {
    let (place, world) = midway();
    let acceptable = place.acceptable(world.now);
    for window in &acceptable {
        let moved = TurnCause::Spent(window.turn(7)).moves(acceptable.clone());
        assert_eq!(moved, [*window]);
    }
}

#[test]
fn a_flood_of_turns_is_bounded_and_costs_no_channel_its_newest_windows() {
    let (place, world) = midway();
    let mut known = KnownTurns::default();
    let at = |channel, epoch, window, turn| {
        let mut id = place.acceptable(world.now)[0];
        (id.channel, id.epoch, id.window) = (channel, epoch, window);
        TurnState { window: id, turn }
    };
    known.absorb([at(Nfc, u32::MAX, 0, 9)]);
    known.absorb(
        (0..=u16::MAX)
            .step_by(8)
            .map(|window| at(Qr, u32::MAX, window, 5)),
    );
    let remembered = |window| known.of(&at(Qr, u32::MAX, window, 0).window) > 0;
    let count = (0..=u16::MAX).filter(|window| remembered(*window)).count();
    assert_eq!(count + 1, KNOWN_TURNS_MAX);
    assert!(remembered(65_528) && !remembered(0));
    assert_eq!(known.of(&at(Nfc, u32::MAX, 0, 0).window), 9);
}
