//! Does the authority know how often phones read the tag, when somebody asks about a payment?
//!
//! Reader, tag, agent, mutual TLS and daemon are the real ones; the tag counts.

use harness::World;
use serde_json::Value;

use super::offer;

/// What `dispute show` says of the reads of one charge, once it says something certain.
async fn reads(world: &World, id: &str) -> Value {
    let certain = async || {
        let shown = world.authority.verb(&["dispute", "show", id]).ok()?;
        let moments = shown["moments"].as_array()?.clone();
        let what = |it: &&Value| it["what"] == "reads that explain the claim";
        let facts = moments.iter().find(what)?["facts"].clone();
        facts.get("claims")?;
        Some(facts)
    };
    let found = harness::wait::until("the terminal's report of the next link", certain).await;
    found.unwrap()
}

#[tokio::test]
async fn a_claim_is_explained_by_the_read_that_the_tag_counted() {
    let world = World::new().await.unwrap();
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let (mut last, mut spent) = (String::new(), String::new());
    // The agent has never seen this tag: its count begins with the first link.
    for _ in 0..2 {
        let charge = offer(&world).await.charge;
        let link = phone.tap_other_than(world.terminal(), &spent).await;
        let link = link.unwrap();
        let claim = phone.must_claim(&link).await.unwrap();
        phone.must_approve(&claim).await.unwrap();
        let till = world.terminal().till().unwrap();
        till.paid(charge).await.unwrap();
        (last, spent) = (charge.to_string(), link);
    }
    let facts = reads(&world, &last).await;
    assert_eq!(facts["claims"], "1", "{facts}");
    let counted: u32 = facts["reads"].as_str().unwrap().parse().unwrap();
    assert!(counted >= 1, "{facts}");
    let says = facts["says"].as_str().unwrap();
    assert!(
        says.contains("a phone was at the tag for every claim"),
        "{says}"
    );
    let alarms = world.authority.verb(&["alarm", "list"]).unwrap();
    assert_eq!(alarms["tags"], serde_json::json!([]), "{alarms}");
}
