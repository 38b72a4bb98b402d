//! Does a restored copy learn again which shoppers were locked and which passkeys were removed?

use authority::store::{ClaimOutcome, Locked, PersonKey};
use protocol::token::Channel;

use crate::fence::{Place, assert_contained, contents};
use crate::suite::allowances::add_passkey;
use crate::suite::sign_ins::{new_session, start};
use crate::world::{LATER, NOW, World, live, person};

async fn lock(world: &World, name: &str) {
    let store = &world.store;
    let locked = store.lock(person(name), "phone lost".into(), None, NOW);
    assert_eq!(locked.await, Ok(Locked::Done));
}

async fn unlock(world: &World, name: &str) {
    let (store, by) = (&world.store, "olga".to_owned());
    let unlocked = store.unlock(person(name), "found".into(), by, LATER);
    assert_eq!(unlocked.await, Ok(Locked::Done));
}

async fn is_locked(world: &World, name: &str) -> bool {
    let lock = world.store.lock_of(person(name)).await.unwrap();
    lock.is_some()
}

async fn remove(world: &World, who: &PersonKey, id: u8) -> bool {
    let removed = world.store.remove_passkey(who.clone(), vec![id; 16], NOW);
    removed.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_locks_again_whoever_was_locked() {
    let place = Place::new();
    let mut first = place.start().await;
    first.catch_up().await;
    first.world.shopper("anna", 100).await;
    first.world.shopper("ben", 100).await;
    first.stop();
    place.back_up();
    let mut second = place.start().await;
    lock(&second.world, "anna").await;
    lock(&second.world, "ben").await;
    unlock(&second.world, "ben").await;
    second.catch_up().await;
    assert_contained(&second);
    assert_eq!(second.difference.unjournalled, []);
    second.stop();
    place.restore();
    let start = place.start().await;
    assert_eq!(start.difference.missing.locks.len(), 1);
    assert!(!is_locked(&start.world, "anna").await);
    assert_eq!(start.raise().await.locks, 1);
    assert!(is_locked(&start.world, "anna").await);
    assert!(!is_locked(&start.world, "ben").await, "he was unlocked");
    start.world.check_books_and_audit().await;
    start.stop();
    let mut next = place.start().await;
    assert_contained(&next);
    next.catch_up().await;
    assert_eq!(next.difference.unjournalled, []);
}

/// The profile was made in the lost time, so the copy has neither it nor its lock.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_locked_in_a_profile_that_is_lost_is_locked_in_the_next() {
    let place = Place::new();
    let mut first = place.start().await;
    first.catch_up().await;
    let terminal = first.world.terminal(1).await;
    first.stop();
    place.back_up();
    let second = place.start().await;
    second.world.shopper("anna", 100).await;
    lock(&second.world, "anna").await;
    second.stop();
    place.restore();
    let restored = place.start().await;
    assert_eq!(restored.difference.missing.locks.len(), 1);
    assert_eq!(restored.raise().await.locks, 1);
    let world = &restored.world;
    assert!(is_locked(world, "anna").await, "for whoever asks");
    start(world, &new_session(1, "ben", LATER)).await;
    assert!(!is_locked(world, "ben").await);
    world.start(terminal, 100).await;
    let mut claim = world.claim_of(live(terminal, Channel::Code, 0));
    claim.person = Some(person("anna"));
    assert_eq!(world.store.claim(claim).await, Ok(ClaimOutcome::Locked));
    start(world, &new_session(2, "anna", LATER)).await;
    assert!(is_locked(world, "anna").await);
    restored.stop();
    let mut next = place.start().await;
    assert_contained(&next);
    next.catch_up().await;
    assert!(is_locked(&next.world, "anna").await);
    unlock(&next.world, "anna").await;
    next.catch_up().await;
    assert_eq!(next.difference.unjournalled, []);
    assert_contained(&next);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_waits_for_somebody_is_lifted_before_they_come() {
    let place = Place::new();
    let mut first = place.start().await;
    first.catch_up().await;
    first.stop();
    place.back_up();
    let second = place.start().await;
    second.world.shopper("anna", 100).await;
    lock(&second.world, "anna").await;
    second.stop();
    place.restore();
    let restored = place.start().await;
    assert_eq!(restored.raise().await.locks, 1);
    unlock(&restored.world, "anna").await;
    start(&restored.world, &new_session(1, "anna", LATER)).await;
    assert!(!is_locked(&restored.world, "anna").await);
    restored.stop();
    let next = place.start().await;
    assert_contained(&next);
    let known = contents(&place.journal()).known;
    assert!(known.locks.values().all(|lock| lock.locked.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_removes_again_what_was_removed() {
    let place = Place::new();
    let mut first = place.start().await;
    first.catch_up().await;
    let anna = first.world.shopper("anna", 100).await;
    add_passkey(&first.world, &anna, 1).await;
    add_passkey(&first.world, &anna, 2).await;
    first.stop();
    place.back_up();
    let mut second = place.start().await;
    assert!(remove(&second.world, &anna, 1).await);
    second.catch_up().await;
    assert_eq!(second.difference.unjournalled, []);
    second.stop();
    let known = contents(&place.journal()).known;
    assert_eq!(known.passkeys.len(), 1);
    place.restore();
    let start = place.start().await;
    assert_eq!(start.difference.missing.passkeys.len(), 1);
    assert_eq!(start.raise().await.passkeys, 1);
    let good = start.world.store.passkeys(anna).await.unwrap().unwrap();
    let good: Vec<_> = good.passkeys.into_iter().map(|it| it.id).collect();
    assert_eq!(good, [vec![2; 16]]);
    start.world.check_books_and_audit().await;
    start.stop();
    assert_contained(&place.start().await);
}

/// As a crash between commit and journal leaves it, or a database of the version before.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_journal_was_not_told_is_told_at_the_start() {
    let place = Place::new();
    let store = crate::open(&place.database());
    let world = World::new(std::sync::Arc::new(store));
    let anna = world.shopper("anna", 100).await;
    add_passkey(&world, &anna, 1).await;
    remove(&world, &anna, 1).await;
    lock(&world, "anna").await;
    drop(world);
    let mut start = place.start().await;
    assert_contained(&start);
    start.catch_up().await;
    assert_eq!(start.difference.unjournalled, []);
    let known = contents(&place.journal()).known;
    assert_eq!((known.locks.len(), known.passkeys.len()), (1, 1));
    start.stop();
    let store = crate::open(&place.database());
    let world = World::new(std::sync::Arc::new(store));
    unlock(&world, "anna").await;
    drop(world);
    let mut start = place.start().await;
    assert_eq!(start.difference.unjournalled.len(), 1);
    start.catch_up().await;
    let known = contents(&place.journal()).known;
    assert!(known.locks.values().all(|lock| lock.locked.is_none()));
}
