//! Is a tag that nears its end told at its terminal, seen in the fleet, and slowed by the next schedule?

use harness::{World, wait};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worn_tag_is_told_and_seen_and_slowed_by_the_next_schedule() {
    let mut world = World::new().await.unwrap();
    let id = world.terminal().id().to_string();
    assert_eq!(world.terminal_mut().stop_agent().await.unwrap(), Some(0));
    let already = ["personalise", "--already-written", "98000"];
    world.terminal().tag_verb(&already).unwrap();
    world.terminal_mut().run().await.unwrap();

    let show = |world: &World| world.authority.verb(&["terminal", "show", &id]).unwrap();
    let worn = |shown: &Value| shown["tag"]["cycles"].as_u64() > Some(98_000);
    let look = async || Some(show(&world)).filter(worn);
    let seen = wait::until("a report of the tag", look).await.unwrap();
    assert_eq!(seen["tag"]["endurance"], 100_000, "{seen}");
    assert_eq!(
        seen["slowed"],
        Value::Null,
        "every hour up to the horizon is told already"
    );
    let forecast = world.authority.verb(&["tag", "forecast"]).unwrap();
    assert_eq!(forecast["overdue"], 1, "{forecast}");
    assert_eq!(forecast["tags"][0]["terminal"], *id, "{forecast}");

    let doctor = world.terminal().ask(&["doctor", "--json"]).unwrap();
    let diagnosis = doctor.json().unwrap();
    let findings = diagnosis["findings"].as_array().unwrap();
    let wear = findings
        .iter()
        .find(|it| it["subject"] == "tag wear")
        .unwrap();
    assert_eq!(wear["verdict"], "attention", "{wear}");
    let status = world.terminal().ask(&["status", "--json"]).unwrap();
    let status = status.json().unwrap();
    assert_eq!(status["ready"], true, "{status}");
    assert!(
        status["warnings"].to_string().contains("Tag: 98 %"),
        "{status}"
    );

    // More hours than were told before.
    let section = "\n[schedule]\nhorizon_epochs = 48\n";
    world.authority.configure(section).unwrap();
    world.authority.stop().await.unwrap();
    world.authority.serve().await.unwrap();
    let slowed = |shown: &Value| shown["slowed"]["longest_window_ms"] == 900_000;
    let look = async || Some(show(&world)).filter(slowed);
    wait::until("a slower pace", look).await.unwrap();
}
