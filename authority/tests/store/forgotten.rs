//! Does a restored copy learn again which keys, seeds and operators are not believed, and how many must
//! consent?

use authority::journal::{Fact, Known};
use authority::store::{
    AddOperator, Bar, Certificate, ClaimOutcome, EndReason, KeyPurpose, KeyRecord, Missing,
    PinHash, PinTry, Reseeded, Stepped, StoreError, Subject, When, Whose, Work,
};
use hsm::SealedSeed;
use pki::consent::Policy;
use pki::lifecycle::{KeyState, Step};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use protocol::token::Channel;

use crate::fence::{Place, RAISED_AT, Start, assert_contained, ban, contents};
use crate::old;
use crate::suite::certificates::certificate;
use crate::suite::rotation::{add_key, batch, begin, next, sealing_keys, step};
use crate::suite::sign_ins;
use crate::world::{NOW, World, number};

/// The generator of P-256: a point that everybody knows, and nobody's key.
const POINT: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                     4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

/// What the house does in the lost time, one by one.
const STEPS: [&str; 5] = ["seed", "taint", "key", "operator", "policy"];

/// With keys, two terminals and four operators, and a policy for one group; and its copy.
async fn furnished() -> Place {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let world = &start.world;
    sealing_keys(world).await;
    world.terminal(1).await;
    world.terminal(2).await;
    for (n, name) in ["ben", "mallory", "olga", "otto"].into_iter().enumerate() {
        add_operator(world, name, n as u8 + 100).await;
    }
    let policy = policy(0, &[("seed", 2)]);
    let set = world.store.set_consent_policy(policy, "olga", NOW).await;
    assert_eq!(set, Ok(Bar::Done));
    start.stop();
    place.back_up();
    place
}

fn policy(required: u32, groups: &[(&str, u32)]) -> Policy {
    Policy {
        required,
        groups: groups.iter().map(|(g, n)| ((*g).into(), *n)).collect(),
        ..Policy::default()
    }
}

async fn add_operator(world: &World, name: &str, key: u8) {
    let certificate = Certificate {
        subject: Subject::Operator(name.into()),
        ..certificate(number(1), &format!("{key:02x}"), key, NOW)
    };
    let added = world.store.add_operator(certificate, "init", NOW).await;
    assert_eq!(added, Ok(AddOperator::Added));
}

fn point() -> [u8; 65] {
    let mut point = [0; 65];
    for (place, byte) in point.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&POINT[2 * place..2 * place + 2], 16).unwrap();
    }
    point
}

/// The active sealing key gives its place to another and is tainted; a receipt key is made and tainted.
async fn taint(world: &World) {
    let (old, new) = ("m2key-sealing-1", "m2key-sealing-2");
    let id = begin(world, Work::Activate { kid: new.into() }).await;
    stepped(step(world, id, new, Step::Activate).await);
    let id = begin(world, Work::Taint { kid: old.into() }).await;
    stepped(step(world, id, old, Step::Taint).await);
    let label = KeyPurpose::Receipt.label(5);
    let state = KeyState::Prepared;
    let made = KeyRecord::new(KeyPurpose::Receipt, state, label, Some(point()), NOW);
    let kid = made.kid.clone();
    assert!(world.store.add_key(made).await.unwrap());
    let id = begin(world, Work::Taint { kid: kid.clone() }).await;
    stepped(step(world, id, &kid, Step::Taint).await);
}

fn stepped(stepped: Stepped) {
    assert!(matches!(stepped, Stepped::Done(_)), "{stepped:?}");
}

/// Another point than [`POINT`]: the one across the axis.
fn made_key() -> KeyRecord {
    let mut point = point();
    let across = "b01cbd1c01e58065711814b583f061e9d431cca994cea1313449bf97c840ae0a";
    for (place, byte) in point[33..].iter_mut().enumerate() {
        *byte = u8::from_str_radix(&across[2 * place..2 * place + 2], 16).unwrap();
    }
    let purpose = KeyPurpose::Checkpoint;
    KeyRecord::new(
        purpose,
        KeyState::Prepared,
        purpose.label(4),
        Some(point),
        NOW,
    )
}

async fn reseed(world: &World, when: When, of: &[(TerminalId, u32)], under: u32) -> Reseeded {
    let work = Work::Reseed {
        whose: Whose::All,
        when,
        reason: "drill".into(),
    };
    let id = begin(world, work).await;
    let new = batch(id, of, when, under);
    world.store.reseed(new).await.unwrap()
}

async fn revoke_mallory(world: &World) {
    let revoked = world.store.revoke_operator("mallory", "olga", NOW).await;
    assert_eq!(revoked, Ok(Bar::Done));
}

async fn require_one(world: &World) {
    let set = world.store.set_consent_policy(policy(1, &[]), "olga", NOW);
    assert_eq!(set.await, Ok(Bar::Done));
}

async fn take(world: &World, what: &str) {
    match what {
        "taint" => taint(world).await,
        "key" => assert!(world.store.add_key(made_key()).await.unwrap()),
        "seed" => {
            let one = [(number(1), 2)];
            let done = reseed(world, When::Compromised, &one, 1).await;
            assert_eq!(done, Reseeded::Done);
        }
        "operator" => revoke_mallory(world).await,
        _ => require_one(world).await,
    }
}

/// What of it stands in the journal.
fn is_known(known: &Known, what: &str) -> bool {
    match what {
        "taint" => known.tainted.len() == 2,
        "key" => known.made.contains_key(&made_key().kid),
        "seed" => known.voided.get(&number(1)).is_some_and(|it| it.below == 2),
        "operator" => known.operators.contains_key("mallory"),
        _ => known.policy.as_ref().is_some_and(|it| it.number == 2),
    }
}

fn is_missing(missing: &Missing, what: &str) -> bool {
    match what {
        "taint" => missing.taints.len() == 2,
        "key" => missing.keys == ["m2key-checkpoint-4"],
        "seed" => missing.seeds == [number(1)],
        "operator" => missing.operators == ["mallory"],
        _ => missing
            .policy
            .as_ref()
            .is_some_and(|it| it.policy.required == 1),
    }
}

/// A place where all of it was done and lost.
async fn restored() -> (Place, Start) {
    let place = furnished().await;
    let start = place.start().await;
    for what in STEPS {
        take(&start.world, what).await;
    }
    start.stop();
    place.restore();
    let start = place.start().await;
    (place, start)
}

fn successor(at: Timestamp) -> KeyRecord {
    let purpose = KeyPurpose::Sealing;
    KeyRecord::new(purpose, KeyState::Active, purpose.label(3), None, at)
}

async fn key(start: &Start, label: &str) -> KeyRecord {
    let keys = start.world.store.keys().await.unwrap();
    let found = keys.into_iter().find(|key| key.label.0 == label);
    found.unwrap_or_else(|| panic!("no {label}"))
}

async fn active(start: &Start) -> Vec<String> {
    let keys = start.world.store.keys().await.unwrap();
    let active = keys.iter().filter(|key| key.state == KeyState::Active);
    active.map(|key| key.label.0.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_believed_stands_in_the_journal_and_is_missed_in_a_copy() {
    for what in STEPS {
        let place = furnished().await;
        let start = place.start().await;
        assert!(!is_known(&contents(&place.journal()).known, what));
        take(&start.world, what).await;
        let known = contents(&place.journal()).known;
        assert!(is_known(&known, what), "{what}: {known:?}");
        start.stop();
        let unrestored = place.start().await;
        assert_contained(&unrestored);
        assert_eq!(unrestored.difference.unjournalled, [], "{what}");
        unrestored.stop();
        place.restore();
        let restored = place.start().await;
        let missing = &restored.difference.missing;
        assert!(is_missing(missing, what), "{what}: {missing:?}");
        restored
            .raise_with(vec![successor(RAISED_AT)])
            .await
            .unwrap();
        restored.stop();
        let raised = place.start().await;
        assert_contained(&raised);
        assert_eq!(raised.difference.unjournalled, [], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_kept_from_the_journal_is_owed_to_it() {
    let place = furnished().await;
    let start = place.start().await;
    for what in STEPS {
        take(&start.world, what).await;
    }
    start.stop();
    std::fs::remove_file(place.journal()).unwrap();
    let mut start = place.start().await;
    let owed = &start.difference.unjournalled;
    let count = |is: fn(&Fact) -> bool| owed.iter().filter(|(_, fact)| is(fact)).count();
    assert_eq!(count(|fact| matches!(fact, Fact::Made(_))), 2);
    assert_eq!(count(|fact| matches!(fact, Fact::Tainted(_))), 2);
    assert_eq!(count(|fact| matches!(fact, Fact::Reseeded { .. })), 1);
    assert_eq!(
        count(|fact| matches!(fact, Fact::OperatorRevoked { .. })),
        1
    );
    assert_eq!(count(|fact| matches!(fact, Fact::Policy(_))), 1);
    start.catch_up().await;
    assert_eq!(start.difference.unjournalled, []);
    let known = contents(&place.journal()).known;
    assert!(STEPS.iter().all(|what| is_known(&known, what)), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_that_was_tainted_is_good_again_and_nobody_is_left_without_one() {
    let (place, start) = restored().await;
    let refused = start.raise_with(Vec::new()).await;
    assert!(
        matches!(refused, Err(StoreError::Corrupt { .. })),
        "{refused:?}"
    );
    assert_eq!(
        start.world.store.generation().await,
        Ok(1),
        "all or nothing"
    );
    let raised = start.raise_with(vec![successor(RAISED_AT)]).await.unwrap();
    let mut labels = raised.keys;
    labels.sort();
    assert_eq!(labels, ["m2key-receipt-5", "m2key-sealing-1"]);
    for label in &labels {
        let key = key(&start, label).await;
        assert_eq!((key.state, key.tainted_at), (KeyState::Tainted, Some(NOW)));
    }
    let lost = key(&start, "m2key-receipt-5").await;
    assert_eq!(lost.public_point, Some(point()), "to verify what it signed");
    assert_eq!(active(&start).await, ["m2key-binding-1", "m2key-sealing-3"]);
    let running = start.world.store.running_operations().await.unwrap();
    let taint = Work::Taint {
        kid: "m2key-sealing-1".into(),
    };
    let found = running.iter().find(|operation| operation.work == taint);
    let found = found.expect("seeds under it are replaced by the next start");
    assert_eq!((found.asked_by.as_str(), &found.consent), ("olga", &None));
    start.world.check_books_and_audit().await;
    start.stop();
    assert_contained(&place.start().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_lost_time_verifies_again_and_signs_no_more() {
    let (place, start) = restored().await;
    let lost = KeyRecord {
        state: KeyState::Superseded,
        ..made_key()
    };
    let found = vec![lost.clone()];
    let raised = start.raise_finding(vec![successor(RAISED_AT)], found).await;
    assert_eq!(raised.unwrap().was, 1);
    let found = key(&start, "m2key-checkpoint-4").await;
    let expected = KeyRecord {
        since: RAISED_AT,
        ..lost
    };
    assert_eq!(found, expected);
    start.world.check_books_and_audit().await;
    start.stop();
    let raised = place.start().await;
    assert_contained(&raised);
    assert_eq!(raised.difference.unjournalled, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_was_compromised_is_void_until_there_is_one_that_nobody_has_seen() {
    let (_place, start) = restored().await;
    let world = &start.world;
    let (one, two) = (number(1), number(2));
    world.start(two, 420).await;
    let raised = start.raise_with(vec![successor(RAISED_AT)]).await.unwrap();
    assert_eq!(raised.seeds, 1);
    assert_eq!(world.seed(one, u32::MAX).await, None);
    let other = world.seed(two, u32::MAX).await;
    assert_eq!(other.unwrap().version, 1, "nobody compromised it");
    world.start(one, 420).await;
    let refused = world.claim(one, Channel::Qr).await;
    assert!(matches!(refused, ClaimOutcome::Spent), "{refused:?}");
    let running = world.store.running_operations().await.unwrap();
    let is_of_seeds = |work: &Work| {
        let whose = Whose::Void;
        matches!(work, Work::Reseed { whose: it, when: When::Compromised, .. } if *it == whose)
    };
    let found = running
        .iter()
        .find(|operation| is_of_seeds(&operation.work));
    let id = found.expect("the next start makes one").id;
    assert_eq!(next(world, id, Whose::Void).await, [(one.value(), 3)]);
    let reused = batch(id, &[(one, 2)], When::Compromised, 3);
    let reused = world.store.reseed(reused).await;
    assert_eq!(reused, Ok(Reseeded::Moved), "the lost one had this version");
    let fresh = batch(id, &[(one, 3)], When::Compromised, 3);
    assert_eq!(world.store.reseed(fresh).await, Ok(Reseeded::Done));
    let seed = world.seed(one, u32::MAX).await.unwrap();
    assert_eq!(
        seed.sealed,
        SealedSeed {
            context: vec![1],
            blob: vec![3; 40],
            binding: [6; 32]
        }
    );
    assert_eq!(next(world, id, Whose::Void).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_new_seed_is_nothing_that_a_copy_must_know() {
    let place = furnished().await;
    let start = place.start().await;
    let planned = reseed(&start.world, When::Planned, &[(number(1), 2)], 1).await;
    assert_eq!(planned, Reseeded::Done);
    start.stop();
    place.restore();
    let restored = place.start().await;
    assert_contained(&restored);
    restored.raise_with(Vec::new()).await.unwrap();
    let seed = restored.world.seed(number(1), u32::MAX).await;
    assert_eq!(seed.unwrap().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_was_revoked_is_none_and_their_name_is_not_given_again() {
    let place = furnished().await;
    let start = place.start().await;
    add_operator(&start.world, "eve", 200).await;
    for name in ["eve", "mallory"] {
        let revoked = start.world.store.revoke_operator(name, "olga", NOW).await;
        assert_eq!(revoked, Ok(Bar::Done));
    }
    start.stop();
    place.restore();
    let start = place.start().await;
    let raised = start.raise_with(Vec::new()).await.unwrap();
    assert_eq!(raised.operators, ["eve", "mallory"]);
    for name in ["eve", "mallory"] {
        let operator = start.world.store.operator(name, NOW).await.unwrap();
        let revoked = operator.unwrap().revoked.unwrap();
        assert_eq!((revoked.by.as_str(), revoked.at), ("olga", NOW));
    }
    let again = Certificate {
        subject: Subject::Operator("eve".into()),
        ..certificate(number(1), "ee", 201, NOW)
    };
    let again = start.world.store.add_operator(again, "olga", NOW).await;
    assert_eq!(again, Ok(AddOperator::NameTaken));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_policy_and_the_one_of_the_copy_both_bind() {
    let (place, start) = restored().await;
    let raised = start.raise_with(vec![successor(RAISED_AT)]).await.unwrap();
    assert!(raised.policy);
    let both = policy(1, &[("seed", 2)]);
    assert_eq!(start.world.store.consent_policy().await, Ok(both.clone()));
    start.stop();
    let known = contents(&place.journal()).known;
    let journalled = known.policy.unwrap();
    assert_eq!((journalled.number, journalled.policy), (3, both));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_that_the_journal_did_not_take_is_done_and_owed() {
    let (place, start) = restored().await;
    let in_the_way = place.journal().with_extension("new");
    std::fs::create_dir(&in_the_way).unwrap();
    let unanswered = start.raise_with(vec![successor(RAISED_AT)]).await;
    let is_owed = matches!(unanswered, Err(StoreError::Unjournalled { .. }));
    assert!(is_owed, "{unanswered:?}");
    start.stop();
    std::fs::remove_dir(&in_the_way).unwrap();
    let mut start = place.start().await;
    assert_contained(&start);
    assert_eq!(start.difference.generation, 2);
    start.catch_up().await;
    assert_eq!(start.difference.unjournalled, []);
    let known = contents(&place.journal()).known;
    assert_eq!((known.generation, known.policy.unwrap().number), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_the_copy_never_knew_fences_no_start_after_the_raise() {
    let place = furnished().await;
    let start = place.start().await;
    let world = &start.world;
    let unknown = world.terminal(9).await;
    let done = reseed(world, When::Compromised, &[(unknown, 2)], 1).await;
    assert_eq!(done, Reseeded::Done);
    let banned = world
        .store
        .ban_terminal(unknown, "stolen".into(), NOW)
        .await;
    assert!(banned.unwrap().is_some());
    start.stop();
    place.restore();
    let start = place.start().await;
    let missing = &start.difference.missing;
    assert_eq!(
        (&missing.bans, &missing.seeds),
        (&vec![unknown], &vec![unknown])
    );
    let raised = start.raise_with(Vec::new()).await.unwrap();
    assert_eq!((raised.bans, raised.seeds), (vec![], 0));
    start.stop();
    assert_contained(&place.start().await);
}

/// A new seed for every terminal, and no ban.
fn reseed_by_hand(place: &Place, version: u32) {
    let conn = rusqlite::Connection::open(place.database()).unwrap();
    let sql = "UPDATE terminals SET banned_at_ms = NULL, ban_reason = NULL, version = ?1";
    assert_eq!(conn.execute(sql, [version]), Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_of_before_a_raise_binds_no_seed_that_was_made_after_it_and_a_later_ban_does() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let terminal = start.world.terminal(1).await;
    start.stop();
    place.back_up();
    reseed_by_hand(&place, 2);
    let start = place.start().await;
    ban(&start.world, terminal).await.unwrap();
    start.stop();
    place.restore();
    assert_eq!(place.start().await.raise().await.bans, [terminal]);
    // Its new seed has the number of the one that was lost.
    reseed_by_hand(&place, 2);
    let start = place.start().await;
    assert_contained(&start);
    assert_eq!(start.raise().await.bans, []);
    start.stop();
    place.back_up();
    let start = place.start().await;
    ban(&start.world, terminal).await.unwrap();
    start.stop();
    let banned = place.start().await;
    assert_contained(&banned);
    assert_eq!(banned.difference.unjournalled, []);
    banned.stop();
    place.restore();
    let start = place.start().await;
    assert_eq!(start.difference.missing.bans, [terminal]);
    assert_eq!(start.raise().await.bans, [terminal]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_version_before_knows_which_seeds_a_compromise_replaced() {
    let place = furnished().await;
    let start = place.start().await;
    for (when, of) in [
        (When::Compromised, [(number(1), 2)]),
        (When::Planned, [(number(2), 2)]),
    ] {
        assert_eq!(reseed(&start.world, when, &of, 1).await, Reseeded::Done);
    }
    add_key(&start.world, KeyPurpose::Receipt, KeyState::Active, 1).await;
    start.stop();
    old::make(&place.database(), 6);
    drop(place.start().await);
    let sql = "SELECT id, void_below FROM terminals ORDER BY id";
    let conn = rusqlite::Connection::open(place.database()).unwrap();
    let mut statement = conn.prepare(sql).unwrap();
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let found: Vec<(u32, u32)> = found.unwrap().map(Result::unwrap).collect();
    assert_eq!(found, [(number(1).value(), 2), (number(2).value(), 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_ends_every_browser_session_and_clears_every_pin() {
    let place = Place::new();
    let mut start = place.start().await;
    start.catch_up().await;
    let world = &start.world;
    let merchant = world.merchant().await.id;
    let pin = PinHash {
        salt: [7; 16],
        hash: [8; 32],
        cost: 1,
    };
    assert_eq!(world.store.set_pin(merchant, pin, NOW).await, Ok(true));
    sign_ins::start(world, &sign_ins::new_session(1, "ann", NOW)).await;
    let raised = start.raise().await;
    assert_eq!((raised.sessions, raised.pins), (1, 1));
    let ended = sign_ins::ended(world, 1).await;
    assert_eq!(ended, Some(EndReason::Everywhere));
    let tried = world.store.begin_pin_try(merchant, RAISED_AT).await;
    assert_eq!(tried, Ok(PinTry::NotSet));
    world.check_books_and_audit().await;
}
