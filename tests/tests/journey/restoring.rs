//! What is a payment worth that a restore has forgotten, and can its token pay again?

use harness::{World, wait};
use protocol::audit::CheckpointClaims;
use protocol::jws;
use protocol::problem::ProblemType;
use protocol::receipt::ReceiptClaims;

use crate::{PRICE, assert_refused, offer, published_keys};

#[tokio::test]
async fn nothing_spent_or_approved_is_good_again_after_a_restore_and_the_terminal_comes_back() {
    let mut world = World::new().await.unwrap();
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let held = world.signed_in_phone("shopper-two").await.unwrap();
    offer(&world).await;
    let early = phone.tap(world.terminal()).await.unwrap();
    let claim = phone.must_claim(&early).await.unwrap();

    // The backup has the claim, and not what came of it.
    assert_eq!(world.authority.stop().await.unwrap(), Some(0));
    let (store, backup) = (
        world.authority.file("store.sqlite"),
        world.dir().join("backup.sqlite"),
    );
    std::fs::copy(&store, &backup).unwrap();
    world.authority.serve().await.unwrap();
    let lost = phone.must_approve(&claim).await.unwrap();
    offer(&world).await;
    let late = held.tap_other_than(world.terminal(), &early).await.unwrap();
    let other = held.must_claim(&late).await.unwrap();

    all_is_sealed(&world).await;
    world.authority.kill();
    std::fs::copy(&backup, &store).unwrap();
    for log in ["store.sqlite-wal", "store.sqlite-shm"] {
        let _ = std::fs::remove_file(world.authority.file(log));
    }
    world.authority.serve_fenced().await.unwrap();
    for (phone, claim) in [(&phone, &claim), (&held, &other)] {
        let refused = phone.approve(claim).await.unwrap().err();
        assert_refused(refused, ProblemType::Fenced);
    }
    let refused = phone.claim(&late).await.unwrap().err();
    assert_refused(refused, ProblemType::Fenced);
    let raise = ["fence", "raise", "--reason", "the disk was replaced"];
    let raised = world.authority.verb(&raise).unwrap();
    assert_eq!(raised["generation"], 2);
    assert_eq!(raised["charges_ended"], 1, "{raised}");
    assert!(raised["lost_rows"].as_u64().unwrap() > 0, "{raised}");
    world.authority.stop().await.unwrap();
    world.authority.serve().await.unwrap();

    // The claim of the backup would pay a second time, had it not been released.
    let refused = phone.approve(&claim).await.unwrap().err();
    assert_refused(refused, ProblemType::ClaimOver);
    let refused = held.approve(&other).await.unwrap().err();
    assert_refused(refused, ProblemType::ClaimUnknown);
    for token in [&early, &late] {
        let refused = held.claim(token).await.unwrap().err();
        assert_refused(refused, ProblemType::TokenUnknown);
    }

    // What the database forgot, its receipt still proves; and the terminal goes on by itself.
    let keys = published_keys(&world).await;
    let receipt = jws::verify::<ReceiptClaims>(&lost.response.receipt, &keys).unwrap();
    assert_eq!(receipt.claims().amount.amount_minor(), PRICE);
    let file = world.dir().join("lost.jws");
    std::fs::write(&file, &lost.response.receipt).unwrap();
    let compare = ["fence", "compare", file.to_str().unwrap()];
    let compared = world.authority.verb(&compare).unwrap();
    assert_eq!(compared["receipts"][0]["lost"], true, "{compared}");
    offer(&world).await;
    // Until the terminal has its new schedule, the tag holds one more token of before: tried once, too.
    let mut tried = vec![late.clone()];
    let accepted = async || {
        let link = world.terminal().tap().filter(|it| !tried.contains(it))?;
        tried.push(link.clone());
        held.claim(&link).await.ok()?.ok()
    };
    let claim = wait::until("a token that is accepted", accepted)
        .await
        .unwrap();
    let kept = held.must_approve(&claim).await.unwrap();
    std::fs::write(&file, &kept.response.receipt).unwrap();
    let compared = world.authority.verb(&compare).unwrap();
    assert_eq!(compared["receipts"][0]["lost"], false, "{compared}");
    let books = world.authority.verb(&["account", "check"]).unwrap();
    assert_eq!(books["balanced"], true);
    let audit = world.authority.verb(&["audit", "verify"]).unwrap();
    assert_eq!(audit["holds"], true);
}

/// Waits until a checkpoint binds every row of the audit: only what one binds is known to be lost.
async fn all_is_sealed(world: &World) {
    let (path, keys) = (
        world.authority.file("store.sqlite"),
        published_keys(world).await,
    );
    let number = |sql: &str| -> Option<i64> {
        let store = rusqlite::Connection::open(&path).ok()?;
        store.query_row(sql, [], |row| row.get(0)).ok()
    };
    let last = || -> Option<String> {
        let store = rusqlite::Connection::open(&path).ok()?;
        let sql = "SELECT jws FROM checkpoints ORDER BY number DESC LIMIT 1";
        store.query_row(sql, [], |row| row.get(0)).ok()
    };
    let sealed = async || {
        let rows = number("SELECT max(sequence) FROM audit_rows")?;
        let checkpoint = jws::verify::<CheckpointClaims>(&last()?, &keys).ok()?;
        let heads = &checkpoint.claims().heads;
        (heads
            .iter()
            .any(|head| i64::try_from(head.sequence) == Ok(rows)))
        .then_some(())
    };
    wait::until("a checkpoint of every row", sealed)
        .await
        .unwrap();
}
