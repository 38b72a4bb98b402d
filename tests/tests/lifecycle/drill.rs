//! A key of the HSM is in other hands: do the verbs of its page in docs/OPERATIONS.md put things right?
//!
//! One page, one test. The thief has the HSM's PIN, and signs.

use std::time::Instant;

use protocol::audit::CheckpointClaims;
use protocol::jws::{self, BadJws};
use protocol::problem::ProblemType;
use protocol::receipt::ReceiptClaims;
use protocol::schedule::ScheduleClaims;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fleet::Fleet;
use crate::thief::{self, Copied};

/// `prepare`, `activate --now`, `taint`; each says before what it will do. The last one's operation.
fn replaced_in_a_hurry(desk: &Desk<'_>, purpose: &str) -> String {
    let began = Instant::now();
    desk.dry_then_ok(&format!("key prepare {purpose}"));
    desk.dry_then_ok(&format!("key activate {purpose} --now"));
    let tainted = desk.dry_then_ok(&format!("key taint {purpose}"));
    println!(
        "{purpose}: tainted after {} ms",
        began.elapsed().as_millis()
    );
    assert_eq!(tainted["operation"]["state"], "done", "{tainted}");
    id_of(&tainted)
}

fn id_of(planned: &Value) -> String {
    let id = &planned["operation"]["operation"];
    id.as_str().unwrap().to_owned()
}

/// What was done is on record for whoever comes later, and nothing else was disturbed.
async fn on_record(fleet: &Fleet, desk: &Desk<'_>, operation: &str) {
    let (file, jwks) = (
        fleet.scratch("operation.jws"),
        fleet.jwks_file("jwks.json").await,
    );
    std::fs::write(
        &file,
        desk.text(&format!("operation transcript {operation}")),
    )
    .unwrap();
    let verify = format!("transcript verify {file} --jwks {}", jwks.unwrap());
    let said = desk.ok(&verify);
    assert_eq!(said["operation"], operation, "{said}");
    assert_eq!(desk.ok("audit verify")["holds"], true);
    assert_eq!(desk.ok("account check")["balanced"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_schedule_key_is_dropped_by_whoever_is_connected_and_later_by_whoever_was_not() {
    let mut fleet = Fleet::of(2).await.unwrap();
    let stolen = fleet.world.terminals[0].schedule().await.unwrap().schedule;
    fleet.world.terminals[1].kill_agent();
    let desk = fleet.desk();
    let operation = replaced_in_a_hurry(&desk, "schedule");
    let refused = jws::verify::<ScheduleClaims>(&stolen, &fleet.jwks().await.unwrap());
    assert_eq!(refused.unwrap_err(), BadJws::TaintedKey);
    fleet.shopper_pays(0).await.unwrap();
    // It signs nothing any more, so it is destroyed although one terminal holds what it signed.
    desk.dry_then_ok("key retire schedule");
    let gone = jws::verify::<ScheduleClaims>(&stolen, &fleet.jwks().await.unwrap());
    assert_eq!(gone.unwrap_err(), BadJws::UnknownKey);
    on_record(&fleet, &desk, &operation).await;
    fleet.world.terminals[1].run().await.unwrap();
    fleet.shopper_pays(1).await.unwrap();
    let held = fleet.world.terminals[1].schedule().await.unwrap();
    jws::verify::<ScheduleClaims>(&held.schedule, &fleet.jwks().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_under_a_stolen_key_is_refused_and_an_older_one_is_as_good_as_its_keeper() {
    let fleet = Fleet::of(2).await.unwrap();
    let desk = fleet.desk();
    let genuine = fleet.shopper_pays(0).await.unwrap();
    let operation = replaced_in_a_hurry(&desk, "receipt");
    let keys = fleet.jwks().await.unwrap();
    let header: Value = serde_json::from_slice(&thief::part(&genuine, 0)).unwrap();
    let kid = header["kid"].as_str().unwrap();
    let tainted_at = keys.find(kid).unwrap().m2key_tainted_at.unwrap();

    let forged = |iat: i64| {
        let mut claims = thief::claims_of(&genuine);
        claims["iat"] = json!(iat);
        claims["amount"]["amount_minor"] = json!(999_900);
        thief::forges(&fleet.world.authority, "m2key-receipt-1", &genuine, &claims)
    };
    let jwks = fleet.jwks_file("jwks-now.json").await.unwrap();
    let verify = |name: &str, receipt: &str| {
        let file = fleet.scratch(name);
        std::fs::write(&file, receipt).unwrap();
        desk.say(&format!("receipt verify {file} --jwks {jwks}"))
    };
    let late = forged(tainted_at + 1).expect("the thief can still sign");
    let said = verify("late.jws", &late);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("after its key was tainted"), "{said:?}");
    // One that is dated back is good in itself; who was given it since, and who kept it, is not in it.
    let early = forged(tainted_at - 60).unwrap();
    for (name, receipt) in [("early.jws", &early), ("genuine.jws", &genuine)] {
        let said = verify(name, receipt).ok().unwrap().json().unwrap();
        assert!(said["tainted_at"].is_string(), "{said}");
        let believed = jws::verify::<ReceiptClaims>(receipt, &keys);
        assert_eq!(believed.unwrap_err(), BadJws::TaintedKey, "by no terminal");
    }
    // The books know which of the two they have.
    let compare = |name: &str| desk.say(&format!("fence compare {}", fleet.scratch(name)));
    let said = compare("genuine.jws").ok().unwrap().json().unwrap();
    assert_eq!(said["receipts"][0]["lost"], false, "{said}");
    let said = compare("early.jws");
    assert!(
        said.code == 1 && said.err.contains("another receipt"),
        "{said:?}"
    );

    let fresh = fleet.shopper_pays(1).await.unwrap();
    let said = verify("fresh.jws", &fresh).ok().unwrap().json().unwrap();
    assert!(said["tainted_at"].is_null(), "{said}");
    desk.dry_then_ok("key retire receipt");
    assert_eq!(forged(tainted_at - 60), None, "the key is gone");
    on_record(&fleet, &desk, &operation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_checkpoint_raises_the_fence_and_no_more_once_its_key_is_tainted() {
    let mut fleet = Fleet::of(2).await.unwrap();
    fleet.world.terminals[1].kill_agent();
    let place = fleet.world.dir().join("thief");
    let copied = Copied::from(&fleet.world.terminals[1], &fleet.world.authority, &place).unwrap();
    // Before the taint it is believed, and there seems to be a later database than this one.
    let before = forged_checkpoint(&fleet).await;
    copied.asks("/v1/events", Some(&before)).await.unwrap();
    let status = fleet.desk().say("fence status");
    assert!(
        status.code == 4 && status.out.contains(&fleet.id(1)),
        "{status:?}"
    );
    fleet
        .desk()
        .refused("key prepare checkpoint", "older than the world");
    fleet.desk().ok("fence raise --reason forged");
    fleet.world.authority.stop().await.unwrap();
    fleet.world.authority.serve().await.unwrap();

    let desk = fleet.desk();
    let forged = forged_checkpoint(&fleet).await;
    let operation = replaced_in_a_hurry(&desk, "checkpoint");
    let answer = copied.asks("/v1/events", Some(&forged)).await.unwrap();
    assert_eq!(answer, 200, "a terminal is heard out");
    assert_eq!(desk.ok("fence status")["fenced"], false);
    desk.ok(&format!("terminal ban {} --reason thief", fleet.id(1)));
    fleet.pays_again(0).await.unwrap();
    desk.dry_then_ok("key retire checkpoint");
    on_record(&fleet, &desk, &operation).await;
}

/// The thief's word for a database that goes on far beyond this one.
async fn forged_checkpoint(fleet: &Fleet) -> String {
    let genuine = fleet.last_checkpoint().await.unwrap();
    let mut claims = thief::claims_of(&genuine);
    claims["heads"][0]["sequence"] = json!(1_000_000);
    let authority = &fleet.world.authority;
    let forged = thief::forges(authority, "m2key-checkpoint-1", &genuine, &claims).unwrap();
    let set = fleet.jwks().await.unwrap();
    jws::verify_kept::<CheckpointClaims>(&forged, &set).unwrap();
    forged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_tainted_sealing_or_binding_key_no_token_of_before_is_taken() {
    let fleet = Fleet::of(2).await.unwrap();
    let desk = fleet.desk();
    for (purpose, who) in [("sealing", 0), ("binding", 1)] {
        let shown = [fleet.link(0).await.unwrap(), fleet.link(1).await.unwrap()];
        let other = 1 - who;
        fleet.world.terminals[other].freeze_agent().unwrap();
        desk.dry_then_ok(&format!("key prepare {purpose}"));
        desk.dry_then_ok(&format!("key activate {purpose}"));
        let tainted = desk.dry_then_ok(&format!("key taint {purpose}"));
        assert_eq!(tainted["operation"]["done"], 2, "{tainted}");
        for old in &shown {
            fleet.refuses(old, ProblemType::TokenUnknown).await;
        }
        desk.dry_then_ok(&format!("key retire {purpose}"));
        fleet.pays_again(who).await.unwrap();
        fleet.world.terminals[other].thaw_agent().unwrap();
        on_record(&fleet, &desk, &id_of(&tainted)).await;
    }
    // The one that stood still at last comes back by itself, too.
    fleet.pays_again(0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_seeds_for_a_shop_that_was_broken_into_stop_its_tokens_and_nobody_elses() {
    let fleet = Fleet::of(4).await.unwrap();
    let desk = fleet.desk();
    // Terminals 1 and 3 are the shop's; a phone holds a claim at one, the other stands still.
    let (broken, elsewhere) = (fleet.link(3).await.unwrap(), fleet.link(0).await.unwrap());
    let held = fleet.phones[1]
        .must_claim(&fleet.link(1).await.unwrap())
        .await
        .unwrap();
    fleet.world.terminals[3].freeze_agent().unwrap();
    let line = format!(
        "seed rotate --merchant {} --compromised --reason burglary",
        fleet.second
    );
    let done = desk.dry_then_ok(&line);
    assert_eq!(done["operation"]["done"], 2, "{done}");
    fleet.refuses(&broken, ProblemType::TokenUnknown).await;
    fleet.pays(0, &elsewhere).await.unwrap();
    fleet.phones[1].must_approve(&held).await.unwrap();
    fleet.world.terminals[3].thaw_agent().unwrap();
    fleet.pays_again(3).await.unwrap();
    on_record(&fleet, &desk, &id_of(&done)).await;
}
