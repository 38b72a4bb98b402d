//! Does whoever leaves a profile and comes back stand where they stood?

use authority::store::{
    Barred, Deleted, IntentStep, Limit, Linked, NewSession, PARTED_KEPT_MS, PERSON_SPAN_MS,
    PayOutcome, PersonKey, Reason, SpendRules, Standing, StepUpCause, Unlinked, day_of, end_of_day,
};
use protocol::money::Currency;
use protocol::time::Timestamp;
use protocol::token::Channel;

use crate::world::{NOW, World, live, number, person};

use super::allowances::{LAW, at_a_bank, payment, pays, step_up};
use super::profiles::link;
use super::sign_ins::{new_session, start};

/// When everybody here leaves.
const LEFT: Timestamp = Timestamp::from_ms(NOW.ms() + 60_000);

async fn standing(world: &World, who: &PersonKey) -> Standing {
    let standings = world.store.standings(who.clone()).await.unwrap();
    let here = standings.into_iter().find(|(it, _)| *it == Currency::EUR);
    here.map_or(Standing::default(), |(_, it)| it)
}

/// With five payments and all that was in the balance.
async fn spent(world: &World, name: &str) -> PersonKey {
    let who = world.shopper(name, 500).await;
    for n in 1..=5 {
        let paid = pays(world, &who, n, 100).await;
        assert!(matches!(paid, PayOutcome::Paid(_)), "{paid:?}");
    }
    who
}

async fn delete(world: &World, who: &PersonKey, at: Timestamp) {
    let deleted = world.store.delete_profile(who.clone(), at).await;
    assert_eq!(deleted, Ok(Deleted::Done));
}

pub(crate) async fn who_deletes_the_profile_and_comes_back_goes_on_counting(world: &World) {
    let anna = spent(world, "anna").await;
    delete(world, &anna, LEFT).await;
    let anna = world.shopper("anna", 500).await;
    let again = standing(world, &anna).await;
    assert_eq!((again.unaided_minor, again.unaided_payments), (500, 5));
    assert_eq!(again.day_minor, 500);
    let sixth = pays(world, &anna, 6, 100).await;
    assert_eq!(sixth, step_up(StepUpCause::Payments));
    let mut capped = payment(world, &anna, 7, 100).await;
    capped.strength = authority::store::Strength::Wallet;
    capped.rules = SpendRules {
        shopper_day_minor: Some(599),
        ..LAW
    };
    let refused = world.store.pay(capped).await.unwrap();
    let of_day = |it: &PayOutcome| matches!(it, PayOutcome::Barred(Barred::Limit { which, .. }) if *which == Limit::ShopperDay);
    assert!(of_day(&refused), "{refused:?}");
    let other = world.shopper("other", 500).await;
    let first = pays(world, &other, 8, 100).await;
    assert!(matches!(first, PayOutcome::Paid(_)), "nobody else's count");
}

pub(crate) async fn who_leaves_again_and_again_goes_on_counting(world: &World) {
    let anna = spent(world, "anna").await;
    delete(world, &anna, LEFT).await;
    start(world, &new_session(1, "anna", LEFT + 1)).await;
    delete(world, &anna, LEFT + 2).await;
    start(world, &new_session(2, "anna", LEFT + 3)).await;
    assert_eq!(standing(world, &anna).await.unaided_payments, 5);
}

pub(crate) async fn who_leaves_after_a_strong_authentication_begins_with_little(world: &World) {
    let anna = world.shopper("anna", 9_000).await;
    let mut strong = payment(world, &anna, 1, 9_000).await;
    strong.strength = authority::store::Strength::Wallet;
    let paid = world.store.pay(strong).await.unwrap();
    assert!(matches!(paid, PayOutcome::Paid(_)), "{paid:?}");
    delete(world, &anna, LEFT).await;
    start(world, &new_session(1, "anna", LEFT + 1)).await;
    let again = standing(world, &anna).await;
    assert_eq!((again.unaided_payments, again.day_minor), (0, 9_000));
    delete(world, &anna, LEFT + 2).await;
    let over = end_of_day(day_of(LEFT));
    assert_eq!(world.store.forget_parted(over - 1, 9).await, Ok(0));
    let gone = world.store.forget_parted(over, 9).await;
    assert_eq!(gone, Ok(1), "a day's sum counts that day");
}

pub(crate) async fn what_left_is_kept_so_long_and_no_longer(world: &World) {
    let anna = spent(world, "anna").await;
    delete(world, &anna, LEFT).await;
    let over = LEFT + PARTED_KEPT_MS;
    let forget = |at| world.store.forget_parted(at, 9);
    assert_eq!(forget(over - 1).await, Ok(0));
    start(world, &new_session(1, "anna", over)).await;
    assert_eq!(standing(world, &anna).await, Standing::default());
    assert_eq!(forget(over).await, Ok(1));
    assert_eq!(forget(over).await, Ok(0));
}

pub(crate) async fn an_identity_that_is_unlinked_takes_the_count_along(world: &World) {
    spent(world, "anna").await;
    let anna = new_session(1, "anna", NOW);
    start(world, &anna).await;
    assert_eq!(
        link(world, 1, &anna, "anna at the bank").await,
        Linked::Done
    );
    let unlinked = world
        .store
        .unlink(person("anna"), person("anna at the bank"), LEFT);
    assert_eq!(unlinked.await, Ok(Unlinked::Done));
    start(world, &new_session(2, "anna at the bank", LEFT + 1)).await;
    let alone = standing(world, &person("anna at the bank")).await;
    assert_eq!((alone.unaided_minor, alone.unaided_payments), (500, 5));
    assert_eq!(standing(world, &person("anna")).await.unaided_payments, 5);
}

/// Or a rail that declines at will would take off the count what somebody else brought.
pub(crate) async fn a_profile_that_is_joined_stands_where_the_worse_of_both_stood(world: &World) {
    let anna = spent(world, "anna").await;
    delete(world, &anna, LEFT).await;
    let carl = at_a_bank(world, "carl").await;
    let store = &world.store;
    let PayOutcome::Begun(asked) = pays(world, &carl, 6, 900).await else {
        panic!("a rail is asked");
    };
    let session = new_session(1, "carl", NOW);
    start(world, &session).await;
    assert_eq!(link(world, 1, &session, "anna").await, Linked::Done);
    let joined = standing(world, &carl).await;
    assert_eq!((joined.unaided_minor, joined.unaided_payments), (900, 5));
    assert_eq!(joined.day_minor, 900);
    let declined = IntentStep::Declined {
        reason: Reason::FundsShort,
    };
    store
        .step_intent(asked.payment, declined, LEFT)
        .await
        .unwrap();
    assert_eq!(
        standing(world, &carl).await,
        joined,
        "nothing is given back"
    );
}

pub(crate) async fn wrong_codes_go_along_too(world: &World) {
    let window = live(number(1), Channel::Code, 0).token().window;
    let anna = person("anna");
    let store = &world.store;
    for n in 0..4 {
        let miss = store.add_miss(anna.clone(), window, NOW, NOW + n);
        miss.await.unwrap();
    }
    delete(world, &anna, LEFT).await;
    let misses = |since| store.misses(anna.clone(), window, since);
    let judged = misses(NOW).await.unwrap().person;
    assert_eq!(judged, 4, "also before there is a profile again");
    assert_eq!(misses(NOW + 4).await.unwrap().person, 0);
    start(world, &new_session(1, "anna", LEFT + 1)).await;
    assert_eq!(misses(NOW).await.unwrap().person, 4);
    assert_eq!(misses(NOW).await.unwrap().window, 4, "once");
    assert_eq!(misses(NOW + 4).await.unwrap().person, 0, "they are over");
    let fifth = store.add_miss(anna.clone(), window, NOW, LEFT + 2);
    assert_eq!(fifth.await.unwrap().person, 5);
    let late = LEFT + PERSON_SPAN_MS;
    delete(world, &anna, late).await;
    start(world, &new_session(2, "anna", late + 1)).await;
    assert_eq!(misses(late - PERSON_SPAN_MS).await.unwrap().person, 1);
}

pub(crate) async fn wrong_codes_of_who_comes_back_count_once(world: &World) {
    let window = live(number(1), Channel::Code, 0).token().window;
    let anna = new_session(1, "anna", NOW);
    start(world, &anna).await;
    let store = &world.store;
    for n in 0..3 {
        let miss = store.add_miss(person("anna"), window, NOW, NOW + n);
        miss.await.unwrap();
    }
    let other = "anna at the bank";
    assert_eq!(link(world, 1, &anna, other).await, Linked::Done);
    let unlinked = store.unlink(person("anna"), person(other), NOW + 3);
    assert_eq!(unlinked.await, Ok(Unlinked::Done));
    assert_eq!(link(world, 2, &anna, other).await, Linked::Done);
    let count = store.misses(person("anna"), window, NOW).await.unwrap();
    assert_eq!(count.person, 3);
}

/// Or whoever deletes the profile holds the next ones with nothing held.
pub(crate) async fn nobody_leaves_while_a_sign_in_of_theirs_holds_a_claim(world: &World) {
    let terminal = world.terminal(1).await;
    world.start(terminal, 420).await;
    let claim = world.claimed(terminal).await.claimed.claim;
    let session = NewSession {
        claim: Some(claim),
        ..new_session(1, "anna", NOW)
    };
    assert!(start(world, &session).await.held.is_some());
    let deleted = world.store.delete_profile(person("anna"), LEFT);
    assert_eq!(deleted.await, Ok(Deleted::Unsettled));
    let released = world.store.release_claim(claim, Vec::new(), LEFT);
    assert_eq!(released.await, Ok(true));
    delete(world, &person("anna"), LEFT).await;
}
