//! What is a payment worth that a restore has forgotten, and can its token pay again?

use harness::phone::{Claim, Phone};
use harness::{World, wait};
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
    until_journalled(&world).await;

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
    let claim = claim_of_now(&world, &held, late).await;
    let kept = held.must_approve(&claim).await.unwrap();
    std::fs::write(&file, &kept.response.receipt).unwrap();
    let compared = world.authority.verb(&compare).unwrap();
    assert_eq!(compared["receipts"][0]["lost"], false, "{compared}");
    let books = world.authority.verb(&["account", "check"]).unwrap();
    assert_eq!(books["balanced"], true);
    let audit = world.authority.verb(&["audit", "verify"]).unwrap();
    assert_eq!(audit["holds"], true, "{audit}");
}

/// Waits for a checkpoint of everything that is in the chain now: what came after the last one, the
/// journal does not know.
async fn until_journalled(world: &World) {
    let audit = world.authority.verb(&["audit", "verify"]).unwrap();
    let last = audit["heads"][0]["sequence"].as_u64().unwrap();
    let journal = world.authority.file("fence.journal");
    let reaches = |line: &str| {
        let (_, json) = line.split_once(' ')?;
        let line: serde_json::Value = serde_json::from_str(json).ok()?;
        let row = line["heads"][0]["sequence"].as_u64()?;
        (line["fact"] == "checkpoint" && row >= last).then_some(())
    };
    let look = async || {
        let text = std::fs::read_to_string(&journal).ok()?;
        text.lines().find_map(reaches)
    };
    wait::until("a checkpoint in the journal", look)
        .await
        .unwrap();
}

/// Taps until the tag has a link of this generation: until the terminal has its new schedule, it shows
/// what it had.
async fn claim_of_now(world: &World, phone: &Phone, mut last: String) -> Claim {
    loop {
        last = phone.tap_other_than(world.terminal(), &last).await.unwrap();
        match phone.claim(&last).await.unwrap() {
            Ok(claim) => return claim,
            Err(problem) => assert_refused(Some(problem), ProblemType::TokenUnknown),
        }
    }
}
