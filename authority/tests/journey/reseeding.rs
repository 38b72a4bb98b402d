//! Does a fleet get new seeds once each, unnoticed when planned, and at once after a compromise?

use authority::services::operators::{Fleet, SeedRotate, TerminalUnban, carry_out};
use authority::services::rotation::{self, KeyVerb};
use authority::services::schedules::Due;
use authority::store::{OperationState, Rotation, TerminalStatus, Terminals, Tokens, When};
use protocol::token::Channel;

use crate::rotating::{HOUR, gone, is_in_hsm, number, refused, replace, rotate, step, version};
use crate::world::{MINUTE, World};

#[tokio::test]
async fn a_planned_new_seed_is_noticed_by_nobody() {
    let world = World::new().await;
    let before = world.schedule(world.terminal).await;
    let shown = world.shown(Channel::Qr).await;
    let revision = push_revision(&world).await;
    rotate(&world, Fleet::All, When::Planned).await;
    assert_eq!(version(&world, world.terminal).await, 2);
    assert_eq!(push_revision(&world).await, revision);
    assert_eq!(world.shown(Channel::Qr).await, shown, "the same tokens");
    let again = world.schedule(world.terminal).await;
    for (one, other) in before.epoch_keys.iter().zip(&again.epoch_keys) {
        assert_eq!((one.epoch, one.version), (other.epoch, 1));
        assert_eq!(one.key.expose(), other.key.expose());
    }
    world.charge(420).await;
    world.claimed(&world.shown(Channel::Qr).await, None).await;
    // The hours that were issued before end, and the new seed goes on without a gap.
    for _ in 0..30 {
        world.advance(HOUR);
        world.shown(Channel::Nfc).await;
    }
    let later = world.schedule(world.terminal).await;
    assert!(later.epoch_keys.iter().all(|entry| entry.version == 2));
}

#[tokio::test]
async fn after_a_compromise_no_token_of_the_old_seed_is_taken() {
    let world = World::new().await;
    for moment in [0, 58 * MINUTE] {
        world.advance(moment);
        world.charge(420).await;
        let shown = [
            world.shown(Channel::Qr).await,
            world.shown(Channel::Nfc).await,
        ];
        let before = version(&world, world.terminal).await;
        rotate(&world, Fleet::Terminal(world.terminal), When::Compromised).await;
        assert_eq!(version(&world, world.terminal).await, before + 1);
        for token in shown {
            world
                .claim(&token, None)
                .await
                .refused(403, "token-unknown");
        }
        let terminal = world.store.terminal(world.terminal).await.unwrap().unwrap();
        let due = world.journey.schedules.due(&terminal);
        assert_eq!(due, Due::Now, "it is told at once");
        world.claimed(&world.shown(Channel::Qr).await, None).await;
        let terminal = world.store.terminal(world.terminal).await.unwrap().unwrap();
        assert_eq!(world.journey.schedules.due(&terminal), Due::No);
        world.advance(20 * MINUTE);
        world.journey.sweep(world.now()).await.unwrap();
    }
}

#[tokio::test]
async fn fetching_only_the_tail_of_the_horizon_does_not_make_up_for_a_void_schedule() {
    let world = World::new().await;
    let whole = world.schedule(world.terminal).await;
    rotate(&world, Fleet::Terminal(world.terminal), When::Compromised).await;
    world.advance(2 * HOUR);
    let after = whole.epoch_keys.last().map(|entry| entry.epoch);
    let query = protocol::wire::schedules::ScheduleQuery { after };
    let issued = world
        .journey
        .schedules
        .issue(world.terminal, &query, world.now());
    issued.await.unwrap();
    let terminal = world.store.terminal(world.terminal).await.unwrap().unwrap();
    assert!(terminal.refetch && world.journey.schedules.due(&terminal) == Due::Now);
}

#[tokio::test]
async fn a_sealing_key_is_replaced_by_new_seeds_and_destroyed_after_the_last_hour_under_it() {
    let world = World::new().await;
    world.schedule(world.terminal).await;
    for purpose in ["sealing", "binding"] {
        let old = format!("m2key-{purpose}-1");
        replace(&world, purpose).await;
        let retired = step(&world, KeyVerb::Retire, purpose).await;
        refused(retired, "would-strand", &world.terminal.to_string());
        assert!(is_in_hsm(&world, &old).await);
    }
    assert_eq!(version(&world, world.terminal).await, 3);
    for _ in 0..29 {
        world.advance(HOUR);
        world.shown(Channel::Qr).await;
    }
    for purpose in ["sealing", "binding"] {
        step(&world, KeyVerb::Retire, purpose).await.unwrap();
        assert!(!is_in_hsm(&world, &format!("m2key-{purpose}-1")).await);
    }
    world.held(420).await;
}

#[tokio::test]
async fn a_tainted_sealing_key_replaces_every_seed_under_it_now() {
    let world = World::new().await;
    for n in 1..4 {
        world.add_terminal(number(n)).await;
    }
    let shown = world.shown(Channel::Qr).await;
    replace(&world, "sealing").await;
    world.charge(420).await;
    let moved_by_the_charge = world.shown(Channel::Qr).await;
    step(&world, KeyVerb::Taint, "sealing").await.unwrap();
    for token in [shown, moved_by_the_charge] {
        let refused = world.claim(&token, None).await;
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    for terminal in [world.terminal, number(1), number(2), number(3)] {
        assert_eq!(version(&world, terminal).await, 3);
        let judging = world.store.judging(terminal, vec![u32::MAX]).await.unwrap();
        let (seed, _) = &judging.unwrap().seeds[0];
        assert_eq!(seed.keys.sealing.0, "m2key-sealing-2");
    }
    step(&world, KeyVerb::Retire, "sealing").await.unwrap();
    assert!(!is_in_hsm(&world, "m2key-sealing-1").await);
    world.claimed(&world.shown(Channel::Qr).await, None).await;
}

#[tokio::test]
async fn an_unbanned_terminal_comes_back_under_another_seed_only() {
    let world = World::new().await;
    let (terminal, now) = (world.terminal, world.now());
    let shown = world.shown(Channel::Qr).await;
    let unban = || TerminalUnban {
        terminal,
        reason: "found again".into(),
    };
    let early = carry_out(&world.app, "olga", unban()).await.unwrap_err();
    assert!(early.to_string().contains("is not banned"), "{early}");
    let ban = world.store.ban_terminal(terminal, "lost".into(), now);
    ban.await.unwrap().unwrap();
    let banned = SeedRotate {
        fleet: Fleet::Terminal(terminal),
        when: When::Planned,
        reason: String::new(),
        dry_run: false,
    };
    let refused = carry_out(&world.app, "olga", banned).await.unwrap_err();
    assert!(refused.to_string().contains("terminal unban"), "{refused}");
    let joins = carry_out(&world.app, "olga", unban()).await.unwrap();
    assert!(joins.join_token.starts_with(&format!("m2j-{terminal}-")));
    let known = world.store.terminal(terminal).await.unwrap().unwrap();
    assert_eq!((known.status, known.version), (TerminalStatus::Active, 2));
    world.charge(420).await;
    world
        .claim(&shown, None)
        .await
        .refused(403, "token-unknown");
    world.claimed(&world.shown(Channel::Qr).await, None).await;
}

#[tokio::test]
async fn an_unban_whose_hsm_died_goes_on_by_itself_and_only_once() {
    let world = World::new().await;
    let terminal = world.terminal;
    let ban = world
        .store
        .ban_terminal(terminal, "lost".into(), world.now());
    ban.await.unwrap().unwrap();
    world.hsm.fail_after(0, gone());
    let unban = TerminalUnban {
        terminal,
        reason: "found again".into(),
    };
    let waits = carry_out(&world.app, "olga", unban).await.unwrap_err();
    assert!(waits.to_string().contains("goes on by itself"), "{waits}");
    let known = world.store.terminal(terminal).await.unwrap().unwrap();
    assert!(matches!(known.status, TerminalStatus::Banned { .. }));
    let warnings = authority::services::readiness::check(&world.app)
        .await
        .warnings;
    assert!(
        warnings.iter().any(|it| it.contains("waits: ")),
        "{warnings:?}"
    );
    let world = world.restart().await;
    world.hsm.heal();
    while rotation::pass(&world.app).await.unwrap() > 0 {}
    let known = world.store.terminal(terminal).await.unwrap().unwrap();
    assert_eq!((known.status, known.version), (TerminalStatus::Active, 2));
}

#[tokio::test]
async fn a_ban_during_an_unban_that_waits_is_the_last_word() {
    let world = World::new().await;
    let terminal = world.terminal;
    let ban = async || {
        let ban = world
            .store
            .ban_terminal(terminal, "lost".into(), world.now());
        ban.await.unwrap().unwrap();
    };
    ban().await;
    world.hsm.fail_after(0, gone());
    let unban = TerminalUnban {
        terminal,
        reason: "found again".into(),
    };
    carry_out(&world.app, "olga", unban).await.unwrap_err();
    let waiting = world.store.running_operations().await.unwrap();
    ban().await;
    world.hsm.heal();
    while rotation::pass(&world.app).await.unwrap() > 0 {}
    let known = world.store.terminal(terminal).await.unwrap().unwrap();
    assert!(matches!(known.status, TerminalStatus::Banned { .. }));
    let ended = world.store.operation(waiting[0].id).await.unwrap().unwrap();
    assert_eq!(ended.state, OperationState::Refused);
    assert!(ended.outcome.unwrap().contains("banned again"));
}

#[tokio::test]
async fn a_banned_terminal_is_passed_over_by_new_seeds_for_all() {
    let world = World::new().await;
    world.add_terminal(number(1)).await;
    let ban = world
        .store
        .ban_terminal(number(1), "lost".into(), world.now());
    ban.await.unwrap().unwrap();
    let planned = rotate(&world, Fleet::All, When::Compromised).await;
    assert_eq!(planned.operation.unwrap().done, 1);
    assert_eq!(version(&world, number(1)).await, 1);
}

#[tokio::test]
async fn a_fleet_is_re_seeded_once_each_although_the_hsm_dies_again_and_again() {
    const FLEET: u32 = 150;
    let mut world = World::new().await;
    for n in 1..FLEET {
        world.add_terminal(number(n)).await;
    }
    world.hsm.fail_after(40, gone());
    let verb = SeedRotate {
        fleet: Fleet::Merchant(world.merchant),
        when: When::Planned,
        reason: String::new(),
        dry_run: false,
    };
    let waits = carry_out(&world.app, "olga", verb).await.unwrap_err();
    assert!(waits.to_string().contains("goes on by itself"), "{waits}");
    for served in [10, 70, 20, 30] {
        world.hsm.heal();
        world.hsm.fail_after(served, gone());
        world = world.restart().await;
        while rotation::pass(&world.app).await.unwrap() > 0 {}
    }
    let running = world.store.running_operations().await.unwrap().remove(0);
    assert_eq!(running.total, Some(u64::from(FLEET)));
    assert!(
        running.done > 0 && running.done < u64::from(FLEET),
        "{running:?}"
    );
    assert!(world.app.operations.trouble(running.id).is_some());
    world.hsm.heal();
    while rotation::pass(&world.app).await.unwrap() > 0 {}
    let ended = world.store.operation(running.id).await.unwrap().unwrap();
    assert_eq!(
        (ended.state, ended.done),
        (OperationState::Done, u64::from(FLEET))
    );
    for n in 1..FLEET {
        assert_eq!(version(&world, number(n)).await, 2, "{n}");
    }
}

async fn push_revision(world: &World) -> u64 {
    let state = world.store.push_state(world.terminal, 0).await.unwrap();
    state.unwrap().revision
}
