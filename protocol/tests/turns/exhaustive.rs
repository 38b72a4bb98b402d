//! Is there any order of operations in which a token does what it must not?
//!
//! All lists of operations up to a length, enumerated; worlds that are the same are walked once.

use std::collections::HashSet;

use protocol::time::Millis;
use protocol::token::Channel::{self, Code, Nfc, Qr};

use crate::model::Op::*;
use crate::model::{Answer, Charge, EPOCH, Op, Place, World};

/// Walks every list of at most `depth` of `ops`; how many different worlds were met.
fn walk(place: &Place, start: World, ops: &[Op], depth: usize) -> usize {
    let mut met = HashSet::from([start.clone()]);
    let mut edge = vec![start];
    for _ in 0..depth {
        let mut next = Vec::new();
        for world in edge {
            for op in ops {
                let mut after = world.clone();
                if after.step(place, *op) {
                    judge(place, &world, *op, &after);
                    after.answers.clear();
                    if met.insert(after.clone()) {
                        next.push(after);
                    }
                }
            }
        }
        edge = next;
    }
    met.len()
}

/// That no token is spent twice is asserted where the model spends it.
fn judge(place: &Place, before: &World, op: Op, after: &World) {
    if let (Post(phone), Some(Answer::Claimed { charge })) = (op, after.answers.last()) {
        let seen = before.seen[phone].expect("what was posted was seen");
        let same = matches!(seen.charge_then, Charge::Offered(c) | Charge::Held(c) if c == *charge);
        let by_tag = seen.token.window.channel == Nfc;
        assert!(
            same || by_tag,
            "shown for {:?}, claims {charge}",
            seen.charge_then
        );
    }
    never_ahead(place, after);
    converges(place, after);
}

/// A terminal never shows a turn that the authority has not reached.
fn never_ahead(place: &Place, world: &World) {
    for channel in Channel::ALL {
        if let Some(token) = world.shown(place, channel) {
            assert!(token.turn <= world.turn_of(&token.window), "{token:?}");
        }
    }
}

/// Once all that is under way has arrived, in either order, and one whole state after it, the
/// terminal knows the authority's turn of every window that counts.
fn converges(place: &Place, world: &World) {
    for backwards in [false, true] {
        let mut later = world.clone();
        let _ = later.step(place, Connect);
        later.network.push(later.frame(place));
        while !later.network.is_empty() {
            let n = if backwards {
                later.network.len() - 1
            } else {
                0
            };
            later.run(place, &[Deliver(n)]);
        }
        for window in place.acceptable(later.now) {
            assert_eq!(later.known.of(&window), later.turn_of(&window));
        }
    }
}

fn walk_from(channels: &[Channel], ahead: Millis, depth: usize, ops: &[Op]) -> usize {
    let place = Place::new(channels);
    // The last window of an epoch, 3 s before the next epoch: all kinds of boundary are near.
    let mut world = World::new(place.opens(Qr, EPOCH + 1, 0) - 3_000);
    world.ahead = ahead;
    walk(&place, world, ops, depth)
}

const TILL: [Op; 4] = [StartCharge, CancelCharge, Release, Approve];

#[test]
fn no_order_of_two_phones_at_one_screen_breaks_the_rules() {
    let phones = [
        See(0, Qr),
        See(1, Qr),
        Post(0),
        Post(1),
        Deliver(0),
        Deliver(1),
        Pass,
    ];
    let worlds = walk_from(&[Qr], 0, 9, &[&TILL[..], &phones].concat());
    assert!(worlds > 10_000, "{worlds}");
}

#[test]
fn no_order_of_losses_doubles_and_restarts_breaks_the_rules() {
    let network = [
        See(0, Qr),
        Post(0),
        Deliver(0),
        Deliver(1),
        Double(0),
        Lose(0),
        Restart,
        Connect,
        Pass,
    ];
    for ahead in [-2_000, 2_000] {
        let worlds = walk_from(&[Qr], ahead, 9, &[&TILL[..], &network].concat());
        assert!(worlds > 5_000, "{worlds}");
    }
}

#[test]
fn no_order_of_tag_screen_and_typed_code_breaks_the_rules() {
    let channels = [
        See(0, Nfc),
        See(1, Qr),
        See(1, Code),
        Post(0),
        Post(1),
        Deliver(0),
        Pass,
    ];
    let worlds = walk_from(&Channel::ALL, 2_000, 8, &[&TILL[..], &channels].concat());
    assert!(worlds > 5_000, "{worlds}");
}
