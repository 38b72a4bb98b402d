//! Does a replaced key or seed leave nobody without, and nothing of the old one good?

use authority::store::{
    ClaimOutcome, KeyPurpose, KeyRecord, KeyStep, NewSchedule, NewSeed, Operation, OperationId,
    OperationState, Reseed, Reseeded, Scheduled, Seed, Stepped, ToReseed, When, Whose, Work,
};
use hsm::{KeyLabel, SealedSeed, SealingKeys};
use pki::lifecycle::{KeyState, Step};
use protocol::ids::TerminalId;
use protocol::token::Channel;

use crate::world::{NOW, World, epoch_now, new_schedule, new_terminal, number, recorded};

const HOUR_MS: i64 = 3_600_000;

pub(crate) async fn add_key(world: &World, purpose: KeyPurpose, state: KeyState, n: u32) -> String {
    let key = KeyRecord::new(purpose, state, purpose.label(n), None, NOW);
    let kid = key.kid.clone();
    assert!(world.store.add_key(key).await.unwrap());
    kid
}

/// The keys that the seeds of these tests are under, and a next sealing key.
pub(crate) async fn sealing_keys(world: &World) {
    add_key(world, KeyPurpose::Sealing, KeyState::Active, 1).await;
    add_key(world, KeyPurpose::Binding, KeyState::Active, 1).await;
    add_key(world, KeyPurpose::Sealing, KeyState::Prepared, 2).await;
}

pub(crate) async fn begin(world: &World, work: Work) -> OperationId {
    let id = OperationId(world.charge_id().0);
    let operation = Operation {
        id,
        verb: "test".into(),
        work,
        asked_by: "olga".into(),
        // What was consented to once is carried out once.
        consent: Some(format!("consent of {}", id.0)),
        state: OperationState::Running,
        outcome: None,
        total: None,
        done: 0,
        after: None,
        started_at: NOW,
        ended_at: None,
    };
    world
        .store
        .begin_operation(operation.clone())
        .await
        .unwrap();
    let stored = world.store.operation(id).await.unwrap();
    assert_eq!(stored, Some(operation));
    id
}

async fn begin_reseed(world: &World, when: When) -> OperationId {
    let work = Work::Reseed {
        whose: Whose::All,
        when,
        reason: "drill".into(),
    };
    begin(world, work).await
}

pub(crate) async fn step(world: &World, operation: OperationId, kid: &str, step: Step) -> Stepped {
    let step = KeyStep {
        operation,
        kid: kid.into(),
        step,
        at: NOW,
    };
    world.store.step_key(step).await.unwrap()
}

fn under(n: u32) -> SealingKeys {
    SealingKeys {
        sealing: KeyPurpose::Sealing.label(n),
        binding: KeyLabel("m2key-binding-1".into()),
    }
}

pub(crate) fn batch(
    operation: OperationId,
    of: &[(TerminalId, u32)],
    when: When,
    n: u32,
) -> Reseed {
    let seed = |(terminal, version): &(TerminalId, u32)| NewSeed {
        terminal: *terminal,
        version: *version,
        keys: under(n),
        sealed: SealedSeed {
            context: vec![1],
            blob: vec![*version as u8; 40],
            binding: [6; 32],
        },
    };
    Reseed {
        operation,
        seeds: of.iter().map(seed).collect(),
        when,
        lift_ban: false,
        total: 3,
        at: NOW,
    }
}

pub(crate) async fn next(world: &World, id: OperationId, whose: Whose) -> Vec<(u32, u32)> {
    let found = world.store.to_reseed(id, whose, None, NOW, 10).await;
    let plain = |it: ToReseed| (it.terminal.value(), it.version);
    found.unwrap().into_iter().map(plain).collect()
}

pub(crate) async fn one_key_of_a_purpose_is_active_and_steps_may_be_repeated(world: &World) {
    sealing_keys(world).await;
    let second = KeyRecord::new(
        KeyPurpose::Sealing,
        KeyState::Active,
        KeyPurpose::Sealing.label(9),
        None,
        NOW,
    );
    assert_eq!(world.store.add_key(second).await, Ok(false));
    let (old, new) = ("m2key-sealing-1", "m2key-sealing-2");
    let id = begin(world, Work::Activate { kid: new.into() }).await;
    assert!(matches!(
        step(world, id, old, Step::Taint).await,
        Stepped::Wrong(_)
    ));
    assert_eq!(
        step(world, id, "nobody", Step::Taint).await,
        Stepped::Unknown
    );
    for _ in 0..2 {
        let Stepped::Done(key) = step(world, id, new, Step::Activate).await else {
            panic!("not active")
        };
        assert_eq!((key.state, key.operation), (KeyState::Active, Some(id)));
    }
    let states = |kid: &'static str| async move {
        let keys = world.store.keys().await.unwrap();
        keys.into_iter().find(|key| key.kid == kid).unwrap().state
    };
    assert_eq!(states(old).await, KeyState::Superseded);
    let Stepped::Done(key) = step(world, id, old, Step::Taint).await else {
        panic!("not tainted")
    };
    assert_eq!(key.tainted_at, Some(NOW));
    let Stepped::Done(key) = step(world, id, old, Step::Retire).await else {
        panic!("not retired")
    };
    assert_eq!((key.state, key.tainted_at), (KeyState::Retired, Some(NOW)));
    let kinds = world.audit_kinds().await;
    assert_eq!(kinds.iter().filter(|k| *k == "key.stepped").count(), 4);
}

pub(crate) async fn a_key_is_not_retired_while_a_seed_under_it_counts(world: &World) {
    sealing_keys(world).await;
    let terminal = world.terminal(1).await;
    let issued = world
        .store
        .record_schedule(new_schedule(
            terminal,
            epoch_now(terminal),
            epoch_now(terminal) + 5,
        ))
        .await;
    assert_eq!(issued, Ok(recorded(1)));
    let (old, new) = ("m2key-sealing-1", "m2key-sealing-2");
    let id = begin(world, Work::Activate { kid: new.into() }).await;
    step(world, id, new, Step::Activate).await;
    let Stepped::Stranded(stranded) = step(world, id, old, Step::Retire).await else {
        panic!("retired")
    };
    assert_eq!((stranded.count, stranded.first), (1, vec![terminal]));
    let planned = batch(id, &[(terminal, 2)], When::Planned, 2);
    assert_eq!(world.store.reseed(planned).await, Ok(Reseeded::Done));
    let present = epoch_now(terminal);
    let around: Vec<u32> = (present + 4..present + 8).collect();
    let judging = world.store.judging(terminal, around.clone()).await;
    let seeds = judging.unwrap().unwrap().seeds;
    let by_version = |(seed, epochs): &(Seed, Vec<u32>)| (seed.version, epochs.clone());
    assert_eq!(
        seeds.iter().map(by_version).collect::<Vec<_>>(),
        [(1, around[..2].to_vec()), (2, around[2..].to_vec())]
    );
    let at = |hours: i64| world.store.dependents(old.into(), NOW + hours * HOUR_MS);
    assert_eq!(at(5).await.unwrap().count, 1, "issued hours are under it");
    assert_eq!(at(9).await.unwrap().count, 0);
    let banned = world.store.ban_terminal(terminal, "lost".into(), NOW);
    banned.await.unwrap().unwrap();
    assert_eq!(
        at(0).await.unwrap().count,
        0,
        "nothing of a banned one counts"
    );
}

pub(crate) async fn new_seeds_are_counted_once_with_their_operation(world: &World) {
    sealing_keys(world).await;
    let merchant = world.merchant().await;
    for n in [1, 2, 3] {
        world.terminal_of(&merchant, n).await;
    }
    let stranger = world.terminal(4).await;
    let id = begin_reseed(world, When::Planned).await;
    let ids = [number(1), number(2), number(3)].map(TerminalId::value);
    let of_merchant = || Whose::Merchant(merchant.id);
    let mut wanted: Vec<(u32, u32)> = ids.iter().map(|id| (*id, 2)).collect();
    wanted.sort_unstable();
    assert_eq!(next(world, id, of_merchant()).await, wanted);
    assert_eq!(
        world.store.count_to_reseed(id, Whose::All, NOW).await,
        Ok(4)
    );
    let one = next(world, id, Whose::Terminal(stranger)).await;
    assert_eq!(one, [(stranger.value(), 2)]);

    let first = batch(id, &[(number(1), 2)], When::Planned, 1);
    assert_eq!(world.store.reseed(first.clone()).await, Ok(Reseeded::Done));
    assert_eq!(world.store.reseed(first).await, Ok(Reseeded::Moved), "once");
    let ban = world.store.ban_terminal(number(2), "lost".into(), NOW);
    ban.await.unwrap().unwrap();
    let with_banned = batch(id, &[(number(3), 2), (number(2), 2)], When::Planned, 1);
    let moved = world.store.reseed(with_banned).await;
    assert_eq!(moved, Ok(Reseeded::Moved), "all of a batch, or none");
    let not_active = batch(id, &[(number(3), 2)], When::Planned, 2);
    assert_eq!(world.store.reseed(not_active).await, Ok(Reseeded::Moved));
    assert_eq!(
        next(world, id, of_merchant()).await,
        [(number(3).value(), 2)]
    );
    assert_eq!(
        next(world, id, Whose::Banned(number(2))).await,
        [(number(2).value(), 2)]
    );
    let stored = world.store.operation(id).await.unwrap().unwrap();
    assert_eq!((stored.done, stored.total), (1, Some(3)));
    assert_eq!(stored.after, Some(number(1)));
}

pub(crate) async fn a_token_of_a_replaced_seed_is_refused_in_the_transaction(world: &World) {
    sealing_keys(world).await;
    let terminal = world.terminal(1).await;
    world.start(terminal, 420).await;
    let recognised = world.claim_of(world.shown(terminal, Channel::Qr).await);
    let before = world.revision(terminal).await;
    let id = begin_reseed(world, When::Compromised).await;
    let now = batch(id, &[(terminal, 2)], When::Compromised, 1);
    assert_eq!(world.store.reseed(now).await, Ok(Reseeded::Done));
    assert_eq!(world.store.claim(recognised).await, Ok(ClaimOutcome::Spent));
    let stored = world.store.terminal(terminal).await.unwrap().unwrap();
    assert!(stored.refetch);
    assert_eq!(world.revision(terminal).await, before + 1);
    let epoch = epoch_now(terminal);
    for epoch in [epoch - 1, epoch, epoch + 1] {
        let seed = world.seed(terminal, epoch).await;
        assert_eq!(seed.unwrap().version, 2);
    }
}

pub(crate) async fn a_schedule_of_keys_of_a_replaced_seed_is_not_counted(world: &World) {
    sealing_keys(world).await;
    let terminal = world.terminal(1).await;
    let epoch = epoch_now(terminal);
    let issue = |first: (u32, u32), last: (u32, u32), whole| {
        world.store.record_schedule(NewSchedule {
            first,
            last,
            whole,
            ..new_schedule(terminal, 0, 0)
        })
    };
    let known = issue((epoch, 1), (epoch + 24, 1), true).await;
    assert_eq!(known, Ok(recorded(1)));
    let id = begin_reseed(world, When::Planned).await;
    let planned = batch(id, &[(terminal, 2)], When::Planned, 1);
    assert_eq!(world.store.reseed(planned).await, Ok(Reseeded::Done));
    let derived_before = issue((epoch, 1), (epoch + 25, 1), true).await;
    assert_eq!(derived_before, Ok(Scheduled::SeedMoved));
    let both = issue((epoch, 1), (epoch + 25, 2), true).await;
    assert_eq!(both, Ok(recorded(2)));

    let id = begin_reseed(world, When::Compromised).await;
    let now = batch(id, &[(terminal, 3)], When::Compromised, 1);
    assert_eq!(world.store.reseed(now).await, Ok(Reseeded::Done));
    let derived_before = issue((epoch, 1), (epoch + 25, 2), true).await;
    assert_eq!(derived_before, Ok(Scheduled::SeedMoved));
    let refetch = || async {
        let stored = world.store.terminal(terminal).await.unwrap().unwrap();
        stored.refetch
    };
    issue((epoch + 26, 3), (epoch + 27, 3), false)
        .await
        .unwrap();
    assert!(refetch().await, "the tail is not the whole");
    issue((epoch, 3), (epoch + 27, 3), true).await.unwrap();
    assert!(!refetch().await);
}

pub(crate) async fn a_seed_under_a_replaced_key_is_not_added(world: &World) {
    sealing_keys(world).await;
    let new = "m2key-sealing-2";
    let id = begin(world, Work::Activate { kid: new.into() }).await;
    step(world, id, new, Step::Activate).await;
    let merchant = world.merchant().await;
    let (terminal, mut seed, token) = new_terminal(merchant.id, 7);
    let add = world
        .store
        .add_terminal(terminal.clone(), seed.clone(), token.clone());
    assert_eq!(add.await, Ok(false), "it would need a new seed at once");
    seed.keys = under(2);
    let add = world.store.add_terminal(terminal, seed, token);
    assert_eq!(add.await, Ok(true));
}

pub(crate) async fn an_operation_ends_once_and_keeps_its_rows(world: &World) {
    let id = begin_reseed(world, When::Planned).await;
    let running = world.store.running_operations().await.unwrap();
    assert_eq!(running.len(), 1);
    for outcome in ["done", "again"] {
        let end = world
            .store
            .end_operation(id, OperationState::Done, outcome.into(), NOW);
        end.await.unwrap();
    }
    let ended = world.store.operation(id).await.unwrap().unwrap();
    assert_eq!(ended.outcome.as_deref(), Some("done"));
    assert!(world.store.running_operations().await.unwrap().is_empty());
    let other = begin_reseed(world, When::Planned).await;
    let rows = world.store.operation_rows(id).await.unwrap();
    let kinds: Vec<&str> = rows.iter().map(|row| row.row.kind.as_str()).collect();
    assert_eq!(kinds, ["operation.started", "operation.ended"]);
    assert_eq!(world.store.operation_rows(other).await.unwrap().len(), 1);
    let listed = world.store.operations(None, 10).await.unwrap();
    assert_eq!(listed.len(), 2);
}
