//! Are keys and seeds replaced without anybody losing a payment, and is what is not believed refused
//! at once?

use std::collections::BTreeSet;

use authority::services::Failure;
use authority::services::changes::Change;
use authority::services::jwks::{self, JWKS_MAX_AGE_S};
use authority::services::keyring::KeyPurpose;
use authority::services::operators::{
    AuditVerify, Fleet, Gate, KeyList, KeyStep, OperationTranscript, Planned, SeedRotate,
    TerminalUnban, Verb, carry_out,
};
use authority::services::push::Frame;
use authority::services::rotation::{self, KeyVerb, transcript};
use authority::store::{AuditLog, KeyRecord, OperationState, Rotation, Terminals, When};
use hsm::{Hsm, HsmError, KeyLabel};
use pki::Certificate;
use pki::lifecycle::KeyState;
use protocol::ids::TerminalId;
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws};
use protocol::receipt::ReceiptClaims;
use protocol::schedule::ScheduleClaims;
use serde_json::Value;

use crate::world::{MINUTE, World};

pub(crate) const HOUR: i64 = 60 * MINUTE;
const PUBLISHED_MS: i64 = JWKS_MAX_AGE_S as i64 * 1_000;

pub(crate) async fn step(world: &World, step: KeyVerb, key: &str) -> Result<Planned, Failure> {
    let verb = KeyStep {
        step,
        key: key.into(),
        now: false,
        dry_run: false,
    };
    carry_out(&world.app, "olga", verb).await
}

pub(crate) async fn rotate(world: &World, fleet: Fleet, when: When) -> Planned {
    let verb = SeedRotate {
        fleet,
        when,
        reason: "drill".into(),
        dry_run: false,
    };
    carry_out(&world.app, "olga", verb).await.unwrap()
}

/// What a runner does every few seconds.
async fn pass(world: &World) {
    rotation::pass(&world.app).await.unwrap();
}

/// Prepared, published, and activated when it may be.
pub(crate) async fn replace(world: &World, purpose: &str) {
    step(world, KeyVerb::Prepare, purpose).await.unwrap();
    pass(world).await;
    world.advance(PUBLISHED_MS);
    step(world, KeyVerb::Activate, purpose).await.unwrap();
}

#[track_caller]
pub(crate) fn refused(result: Result<Planned, Failure>, slug: &str, says: &str) {
    let failure = result.unwrap_err();
    let said = failure.to_string();
    assert!(said.contains(says), "{said}");
    let problem = failure.into_operator_problem();
    assert_eq!(problem.problem_type().unwrap().slug(), slug, "{said}");
}

async fn state_of(world: &World, label: &str) -> KeyState {
    key(world, label).await.state
}

async fn key(world: &World, label: &str) -> KeyRecord {
    let keys = world.store.keys().await.unwrap();
    let found = keys.into_iter().find(|key| key.label.0 == label);
    found.unwrap_or_else(|| panic!("no {label}"))
}

pub(crate) async fn is_in_hsm(world: &World, label: &str) -> bool {
    let reports = world.hsm.inventory().await.unwrap();
    reports.iter().any(|report| report.label.0 == label)
}

pub(crate) async fn version(world: &World, terminal: TerminalId) -> u32 {
    world
        .store
        .terminal(terminal)
        .await
        .unwrap()
        .unwrap()
        .version
}

pub(crate) fn number(n: u32) -> TerminalId {
    TerminalId::from_number(n).unwrap()
}

fn kids(set: &[u8]) -> BTreeSet<String> {
    let set: JwkSet = serde_json::from_slice(set).unwrap();
    set.keys.into_iter().map(|key| key.kid.unwrap()).collect()
}

#[tokio::test]
async fn a_signing_key_is_replaced_while_what_the_old_one_signed_is_believed() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let receipt = world.approve(&phone, "ann", 420).await.json()["receipt"].clone();
    for purpose in ["schedule", "receipt", "checkpoint"] {
        replace(&world, purpose).await;
        let (old, new) = (format!("m2key-{purpose}-1"), format!("m2key-{purpose}-2"));
        assert_eq!(state_of(&world, &old).await, KeyState::Superseded);
        assert_eq!(state_of(&world, &new).await, KeyState::Active);
    }
    let schedule = world.schedule(world.terminal).await.schedule;
    let set: JwkSet = serde_json::from_slice(&jwks::believed(&world.app.keyring())).unwrap();
    let verified = jws::verify::<ScheduleClaims>(&schedule, &set).unwrap();
    assert_eq!(verified.kid(), key(&world, "m2key-schedule-2").await.kid);
    let receipt = receipt.as_str().unwrap();
    let verified = jws::verify::<ReceiptClaims>(receipt, &set).unwrap();
    assert_eq!(verified.kid(), key(&world, "m2key-receipt-1").await.kid);
    let phone = world.held(300).await;
    let answer = world.approve(&phone, "ann", 300).await.json();
    let verified = jws::verify::<ReceiptClaims>(answer["receipt"].as_str().unwrap(), &set);
    assert_eq!(
        verified.unwrap().kid(),
        key(&world, "m2key-receipt-2").await.kid
    );
    world.journey.checkpoint(world.now()).await.unwrap();
}

#[tokio::test]
async fn a_key_that_others_cannot_have_fetched_signs_nothing_yet() {
    let world = World::new().await;
    refused(
        step(&world, KeyVerb::Activate, "receipt").await,
        "wrong-key-state",
        "key prepare receipt",
    );
    let tag = world.app.keyring().tag().to_owned();
    step(&world, KeyVerb::Prepare, "receipt").await.unwrap();
    assert_ne!(world.app.keyring().tag(), tag, "terminals are told of it");
    let again = step(&world, KeyVerb::Prepare, "receipt").await;
    refused(again, "already-exists", "m2key-receipt-2 is prepared");
    let unpublished = step(&world, KeyVerb::Activate, "receipt").await;
    refused(unpublished, "would-strand", "was not published yet");
    pass(&world).await;
    world.advance(PUBLISHED_MS - 1_000);
    let early = step(&world, KeyVerb::Activate, "receipt").await;
    refused(early, "would-strand", "for 1 s more");
    let emergency = KeyStep {
        step: KeyVerb::Activate,
        key: "receipt".into(),
        now: true,
        dry_run: false,
    };
    carry_out(&world.app, "olga", emergency).await.unwrap();
    assert_eq!(state_of(&world, "m2key-receipt-2").await, KeyState::Active);
}

#[tokio::test]
async fn an_active_key_is_neither_tainted_nor_retired() {
    let world = World::new().await;
    for verb in [KeyVerb::Taint, KeyVerb::Retire] {
        for purpose in KeyPurpose::ALL {
            let by_purpose = step(&world, verb, purpose.name()).await;
            refused(by_purpose, "wrong-key-state", "activate another key");
            let by_label = step(&world, verb, &purpose.label(1).0).await;
            refused(by_label, "wrong-key-state", "activate another key");
        }
    }
    // A prepared one beside it is not what "the receipt key" means.
    step(&world, KeyVerb::Prepare, "receipt").await.unwrap();
    for verb in [KeyVerb::Taint, KeyVerb::Retire] {
        let by_purpose = step(&world, verb, "receipt").await;
        refused(by_purpose, "wrong-key-state", "activate another key");
    }
    let unknown = step(&world, KeyVerb::Retire, "m2key-receipt-9").await;
    refused(unknown, "unknown", "no key m2key-receipt-9");
    assert_eq!(world.store.operations(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let world = World::new().await;
    let before = world.store.keys().await.unwrap();
    let verb = KeyStep {
        step: KeyVerb::Prepare,
        key: "sealing".into(),
        now: false,
        dry_run: true,
    };
    assert_eq!(verb.gate(), Gate::One);
    let planned = carry_out(&world.app, "olga", verb).await.unwrap();
    assert!(planned.says[0].contains("m2key-sealing-2"), "{planned:?}");
    assert!(planned.operation.is_none());
    let verb = SeedRotate {
        fleet: Fleet::All,
        when: When::Compromised,
        reason: "drill".into(),
        dry_run: true,
    };
    let planned = carry_out(&world.app, "olga", verb).await.unwrap();
    assert!(planned.says[0].contains("1 terminal"), "{planned:?}");
    assert_eq!(world.store.keys().await.unwrap(), before);
    assert_eq!(version(&world, world.terminal).await, 1);
    assert!(!is_in_hsm(&world, "m2key-sealing-2").await);
}

#[tokio::test]
async fn steps_that_reach_every_seed_or_lift_a_ban_need_other_operators() {
    let step = |key: &str| KeyStep {
        step: KeyVerb::Activate,
        key: key.into(),
        now: false,
        dry_run: false,
    };
    for key in ["sealing", "binding", "m2key-sealing-2", "m2key-binding-7"] {
        assert_eq!(step(key).gate(), Gate::Consented, "{key}");
    }
    for key in ["schedule", "receipt", "checkpoint", "m2key-receipt-2"] {
        assert_eq!(step(key).gate(), Gate::One, "{key}");
    }
    let rotate = |fleet| SeedRotate {
        fleet,
        when: When::Planned,
        reason: String::new(),
        dry_run: false,
    };
    assert_eq!(rotate(Fleet::All).gate(), Gate::Consented);
    assert_eq!(rotate(Fleet::Terminal(number(1))).gate(), Gate::One);
    let unban = TerminalUnban {
        terminal: number(1),
        reason: "found".into(),
    };
    assert_eq!(unban.gate(), Gate::Consented);
}

#[tokio::test]
async fn a_tainted_key_is_believed_by_no_terminal_and_told_to_everybody_else() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let receipt = world.approve(&phone, "ann", 420).await.json()["receipt"].clone();
    let kid = key(&world, "m2key-receipt-1").await.kid;
    replace(&world, "receipt").await;
    let tag = world.app.keyring().tag().to_owned();
    let mut changes = world.app.changes.listen();
    step(&world, KeyVerb::Taint, "receipt").await.unwrap();
    assert!(matches!(changes.next().await, Change::Keys));
    let keys = world.app.keyring();
    assert_ne!(keys.tag(), tag);
    assert!(!kids(&jwks::believed(&keys)).contains(&kid));
    let set: JwkSet = serde_json::from_slice(&jwks::published(&keys)).unwrap();
    let tainted = set.find(&kid).unwrap().m2key_tainted_at;
    assert_eq!(tainted, Some(world.now().secs()));
    let receipt = receipt.as_str().unwrap();
    let believed = jws::verify::<ReceiptClaims>(receipt, &set);
    assert_eq!(believed.unwrap_err(), BadJws::TaintedKey);
    let kept = jws::verify_kept::<ReceiptClaims>(receipt, &set).unwrap();
    assert_eq!(kept.tainted_at(), tainted);
    step(&world, KeyVerb::Retire, "receipt").await.unwrap();
    let keys = world.app.keyring();
    let set: JwkSet = serde_json::from_slice(&jwks::published(&keys)).unwrap();
    assert_eq!(
        set.find(&kid).unwrap().m2key_tainted_at,
        tainted,
        "for ever"
    );
}

#[tokio::test]
async fn a_checkpoint_of_the_second_in_which_its_key_was_tainted_is_not_called_forged() {
    let world = World::new().await;
    step(&world, KeyVerb::Prepare, "checkpoint").await.unwrap();
    assert_eq!(world.journey.checkpoint(world.now()).await.unwrap(), 1);
    let in_a_hurry = KeyStep {
        step: KeyVerb::Activate,
        key: "checkpoint".into(),
        now: true,
        dry_run: false,
    };
    carry_out(&world.app, "olga", in_a_hurry).await.unwrap();
    step(&world, KeyVerb::Taint, "checkpoint").await.unwrap();
    world.journey.checkpoint(world.now()).await.unwrap();
    let audit = AuditVerify {}.run(&world.app).await.unwrap();
    assert_eq!(audit.faults, [""; 0]);
}

#[tokio::test]
async fn every_open_stream_is_told_of_another_key_set() {
    let world = World::new().await;
    let mut frames = world.journey.push.open(world.terminal, "01", None);
    let Some(Frame::State(first)) = frames.recv().await else {
        panic!("no state")
    };
    assert_eq!(first.upkeep.keys_tag, world.app.keyring().tag());
    step(&world, KeyVerb::Prepare, "schedule").await.unwrap();
    world.journey.follow(&Change::Keys);
    let Some(Frame::State(second)) = frames.recv().await else {
        panic!("no state")
    };
    assert_eq!(second.upkeep.keys_tag, world.app.keyring().tag());
    assert_ne!(first.upkeep.keys_tag, second.upkeep.keys_tag);
    assert_eq!(first.revision, second.revision);
}

#[tokio::test]
async fn a_schedule_key_is_not_retired_while_a_terminal_holds_its_schedule() {
    let world = World::new().await;
    world.schedule(world.terminal).await;
    replace(&world, "schedule").await;
    world.schedule(world.terminal).await;
    let retired = step(&world, KeyVerb::Retire, "schedule").await;
    refused(retired, "would-strand", &world.terminal.to_string());
    world.advance(27 * HOUR);
    step(&world, KeyVerb::Retire, "schedule").await.unwrap();
    assert!(!is_in_hsm(&world, "m2key-schedule-1").await);
    let kid = key(&world, "m2key-schedule-1").await.kid;
    assert!(!kids(&jwks::published(&world.app.keyring())).contains(&kid));
    world.schedule(world.terminal).await;
}

pub(crate) fn gone() -> HsmError {
    HsmError::DeviceLost {
        detail: "pulled".into(),
    }
}

/// The steps of a whole life, each with what must hold before and after it, whenever the HSM died.
#[tokio::test]
async fn every_step_comes_to_its_end_whenever_the_hsm_dies() {
    for purpose in KeyPurpose::ALL {
        for verb in [
            KeyVerb::Prepare,
            KeyVerb::Activate,
            KeyVerb::Taint,
            KeyVerb::Retire,
        ] {
            let mut calls = 0;
            while !survives(purpose, verb, calls).await {
                calls += 1;
            }
        }
    }
}

/// True when the HSM lived to the end.
async fn survives(purpose: KeyPurpose, verb: KeyVerb, calls: usize) -> bool {
    let world = World::new().await;
    let name = purpose.name();
    let (old, new) = (purpose.label(1).0, purpose.label(2).0);
    match verb {
        KeyVerb::Prepare => {}
        KeyVerb::Activate => {
            step(&world, KeyVerb::Prepare, name).await.unwrap();
            pass(&world).await;
            world.advance(PUBLISHED_MS);
        }
        KeyVerb::Taint => replace(&world, name).await,
        KeyVerb::Retire => {
            replace(&world, name).await;
            world.advance(30 * HOUR);
        }
    }
    world.hsm.fail_after(calls, gone());
    let done = step(&world, verb, name).await.is_ok();
    let world = world.restart().await;
    world.hsm.heal();
    while rotation::pass(&world.app).await.unwrap() > 0 {}
    let operations = world.store.operations(None, 10).await.unwrap();
    let begun = operations.iter().any(|it| it.verb == format!("key {verb}"));
    assert!(begun || !done);
    if begun {
        assert!(operations.iter().all(|it| it.state == OperationState::Done));
        let (label, wanted) = match verb {
            KeyVerb::Prepare => (&new, KeyState::Prepared),
            KeyVerb::Activate => (&new, KeyState::Active),
            KeyVerb::Taint => (&old, KeyState::Tainted),
            KeyVerb::Retire => (&old, KeyState::Retired),
        };
        assert_eq!(state_of(&world, label).await, wanted, "{calls}");
        assert_eq!(is_in_hsm(&world, label).await, verb != KeyVerb::Retire);
    }
    assert!(is_in_hsm(&world, &purpose.label(1).0).await || verb == KeyVerb::Retire);
    world.held(100).await;
    done
}

#[tokio::test]
async fn a_key_whose_row_was_never_written_is_adopted_unless_it_is_not_as_made() {
    let world = World::new().await;
    // The key is made, then the HSM is gone before its public half was read.
    world.hsm.fail_after(2, gone());
    let waits = step(&world, KeyVerb::Prepare, "receipt").await;
    assert!(waits.unwrap_err().to_string().contains("goes on by itself"));
    assert!(is_in_hsm_after_healing(&world, "m2key-receipt-2").await);
    let label = KeyLabel("m2key-receipt-2".into());
    let point = world.hsm.public_key(&label).await.unwrap();
    pass(&world).await;
    let adopted = key(&world, "m2key-receipt-2").await;
    assert_eq!(adopted.public_point, Some(point));

    world.hsm.fail_after(1, gone());
    step(&world, KeyVerb::Prepare, "schedule")
        .await
        .unwrap_err();
    world.hsm.heal();
    let foreign = KeyLabel("m2key-schedule-2".into());
    let kind = hsm::KeyKind::Binding;
    world.hsm.generate_key(kind, &foreign).await.unwrap();
    pass(&world).await;
    let ended = world.store.operations(None, 10).await.unwrap();
    let refused = ended.iter().find(|it| it.state == OperationState::Refused);
    let why = refused.unwrap().outcome.clone().unwrap();
    assert!(why.contains("not as M2Key makes them"), "{why}");
}

async fn is_in_hsm_after_healing(world: &World, label: &str) -> bool {
    world.hsm.heal();
    is_in_hsm(world, label).await
}

#[tokio::test]
async fn signing_keys_are_certified_by_the_issuing_ca_in_the_background() {
    let world = World::new().await;
    for _ in 0..4 {
        pass(&world).await;
    }
    let set: Value = serde_json::from_slice(&jwks::published(&world.app.keyring())).unwrap();
    for jwk in set["keys"].as_array().unwrap() {
        let x5c = jwk["x5c"].as_array().unwrap();
        assert_eq!(x5c.len(), 2, "its own, and the issuing one");
    }
    let root = world.app.issuer.chain().root().clone();
    for key in world.app.keyring().records() {
        let Some(pem) = &key.certificates else {
            assert!(key.public_point.is_none());
            continue;
        };
        let chain = pki::chain::certificates_from_pem(pem).unwrap();
        let now = authority::clock::unix_seconds(world.now());
        let verified = pki::verify_chain(&chain[0], &chain[1..], &root, now);
        assert!(verified.is_ok(), "{verified:?}");
        assert_eq!(
            Certificate::public_point(&chain[0]),
            key.public_point.unwrap()
        );
    }
    let certified = world.store.keys().await.unwrap();
    pass(&world).await;
    assert_eq!(
        world.store.keys().await.unwrap(),
        certified,
        "and only once"
    );
}

#[tokio::test]
async fn a_transcript_shows_what_was_done_and_nothing_in_it_can_be_changed() {
    let world = World::new().await;
    let planned = rotate(&world, Fleet::All, When::Planned).await;
    let operation = planned.operation.unwrap().operation;
    let verb = OperationTranscript { operation };
    let signed = carry_out(&world.app, "olga", verb)
        .await
        .unwrap()
        .transcript;
    let keys = world.app.keyring();
    let verified = transcript::verify(&signed, keys.jwks())
        .unwrap()
        .into_claims();
    assert_eq!(verified.asked_by, "olga");
    let kinds: Vec<&str> = verified.rows.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["operation.started", "seed.sealed", "operation.ended"]
    );
    let node = &world.store.audit_heads().await.unwrap()[0].node;
    let stored = world
        .store
        .audit_rows(node, verified.rows[0].sequence - 1, 1)
        .await;
    assert_eq!(stored.unwrap()[0].row.body, verified.rows[0].body);

    let mut bent = verified.clone();
    bent.rows[1].body = bent.rows[1].body.replace("\"version\":2", "\"version\":3");
    assert_ne!(bent, verified);
    let bent = authority::services::keyring::sign(
        &world.app.hsm,
        keys.checkpoint(),
        &bent,
        hsm::Priority::Renewal,
    );
    let bent = transcript::verify(&bent.await.unwrap(), keys.jwks()).unwrap_err();
    assert_eq!(
        bent,
        transcript::BadTranscript::Row(verified.rows[1].sequence)
    );
    let other_purpose = world.schedule(world.terminal).await.schedule;
    let refused = transcript::verify(&other_purpose, keys.jwks()).unwrap_err();
    assert_eq!(refused, BadJws::Purpose.into());
}

#[tokio::test]
async fn every_key_is_listed_with_its_age_and_who_took_the_last_step() {
    let world = World::new().await;
    replace(&world, "receipt").await;
    world.advance(400 * 24 * HOUR);
    let keys = carry_out(&world.app, "olga", KeyList {})
        .await
        .unwrap()
        .keys;
    let find = |name: &str| keys.iter().find(|key| key.name == name).unwrap();
    let new = find("m2key-receipt-2");
    assert_eq!(
        (new.state.as_str(), new.by.as_deref()),
        ("active", Some("olga"))
    );
    assert_eq!(find("m2key-receipt-1").state, "superseded");
    assert!(find("m2key-sealing-1").overdue && find("m2key-receipt-1").overdue);
    let purposes: BTreeSet<&str> = keys.iter().map(|key| key.purpose.as_str()).collect();
    for purpose in ["root", "issuing", "schedule", "checkpoint", "binding"] {
        assert!(purposes.contains(purpose), "{purpose}");
    }
    let warnings = authority::services::readiness::check(&world.app)
        .await
        .warnings;
    assert!(
        warnings
            .iter()
            .any(|it| it.contains("key prepare schedule")),
        "{warnings:?}"
    );
}
