//! Do schedules leave room for payments, and are an hour's keys there before it begins?

use authority::services::kept_keys::{AHEAD_MS, EPOCHS_AHEAD, IN_USE_MS};
use authority::services::schedules::SCHEDULES_MAX;
use futures_util::FutureExt;
use futures_util::future::join_all;
use hsm::HsmError;
use protocol::live::epochs_needed;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::window::{EPOCH_MS, EpochClock};
use protocol::wire::schedules::ScheduleQuery;

use crate::world::World;

#[tokio::test]
async fn a_fleet_that_renews_together_is_told_to_come_later_and_a_payment_is_not() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let (query, now) = (ScheduleQuery::default(), world.now());
    let fleet = || {
        let schedules = &world.journey.schedules;
        (0..SCHEDULES_MAX + 36).map(|_| schedules.issue(world.terminal, &query, now))
    };
    let (mut renewing, mut refused) = (Vec::new(), Vec::new());
    // Each asks before any of them is answered.
    for mut one in fleet().map(Box::pin) {
        match one.as_mut().now_or_never() {
            None => renewing.push(one),
            Some(answered) => refused.extend(answered.err()),
        }
    }
    assert_eq!((renewing.len(), refused.len()), (SCHEDULES_MAX, 36));
    let (issued, paid) = tokio::join!(join_all(renewing), world.approve(&phone, "ann", 420));
    assert_eq!(paid.status, 200);
    assert!(issued.iter().all(Result::is_ok));
    for failure in refused {
        let problem = failure.into_problem();
        assert_eq!(
            problem.problem_type(),
            Some(protocol::problem::ProblemType::Busy)
        );
        assert!(problem.retry_after_s.is_some());
    }
    let places = join_all(fleet().take(SCHEDULES_MAX)).await;
    assert!(
        places.iter().all(Result::is_ok),
        "every place is free again"
    );
}

#[tokio::test]
async fn the_keys_of_the_next_hour_of_a_terminal_in_use_are_there_before_it_begins() {
    let world = World::new().await;
    world.charge(420).await;
    let begins = next_hour(&world);
    world.advance(begins - AHEAD_MS - world.now() - 1);
    assert_eq!(
        world.journey.prefetch(world.now()).await.unwrap(),
        0,
        "too early"
    );
    world.advance(1);
    assert_eq!(world.journey.prefetch(world.now()).await.unwrap(), 1);
    assert_eq!(
        world.journey.prefetch(world.now()).await.unwrap(),
        0,
        "once"
    );
    world.hsm.fail_after(0, lost());
    for _ in 0..EPOCHS_AHEAD - 1 {
        world.advance(EPOCH_MS);
        assert!(has_keys(&world, world.now()).await, "without the HSM");
    }
}

#[tokio::test]
async fn hours_of_a_terminal_that_nobody_pays_at_are_not_loaded() {
    let world = World::new().await;
    world.schedule(world.terminal).await;
    world.advance(next_hour(&world) - world.now());
    assert_eq!(world.journey.prefetch(world.now()).await.unwrap(), 0);
    world.charge(420).await;
    world.advance(IN_USE_MS);
    assert_eq!(world.journey.prefetch(world.now()).await.unwrap(), 0);
    assert_eq!(world.journey.epoch_keys.terminals_kept(), 0);
}

#[tokio::test]
async fn what_a_schedule_told_of_a_terminal_in_use_is_not_asked_again() {
    let world = World::new().await;
    world.charge(420).await;
    world.schedule(world.terminal).await;
    world.hsm.fail_after(0, lost());
    for _ in 0..24 {
        world.advance(EPOCH_MS);
        assert_eq!(world.journey.prefetch(world.now()).await.unwrap(), 0);
        assert!(has_keys(&world, world.now()).await, "without the HSM");
    }
}

#[tokio::test]
async fn a_prefetch_without_the_hsm_is_made_up_for_later() {
    let world = World::new().await;
    world.charge(420).await;
    world.advance(next_hour(&world) - AHEAD_MS - world.now());
    world.hsm_fails_once();
    assert!(world.journey.prefetch(world.now()).await.is_err());
    assert_eq!(world.journey.prefetch(world.now()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_ban_forgets_the_hours_to_come_too() {
    let world = World::new().await;
    world.charge(420).await;
    world.schedule(world.terminal).await;
    let link = world.shown(Channel::Qr).await;
    let (terminal, now) = (world.terminal, world.now());
    let banned = authority::store::Terminals::ban_terminal(
        world.store.as_ref(),
        terminal,
        "stolen".into(),
        now,
    );
    banned.await.unwrap();
    let claimed = world.claim(&link, None).await;
    claimed.refused(403, "terminal-refused");
    assert_eq!(world.journey.epoch_keys.terminals_kept(), 0);
}

fn next_hour(world: &World) -> Timestamp {
    let clock = EpochClock::of(world.terminal);
    clock.opens(clock.epoch_at(world.now()) + 1)
}

/// Whether every key that judges this moment is to be had.
async fn has_keys(world: &World, now: Timestamp) -> bool {
    let keys = &world.journey.epoch_keys;
    let loaded = keys.present(world.terminal, now).await;
    loaded.is_ok_and(|it| it.len() == epochs_needed(world.terminal, now).len())
}

fn lost() -> HsmError {
    HsmError::DeviceLost {
        detail: "test".into(),
    }
}
