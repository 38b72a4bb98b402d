//! Does the doctor find what is wrong, and nothing else, whether the agent runs or not?

use std::os::unix::net::UnixListener;

use harness::process::Said;
use harness::terminal::Terminal;
use harness::{World, wait};
use serde_json::Value;

/// What an examination says of one subject.
fn finding(said: &Said, subject: &str) -> Value {
    let diagnosis = said.json().unwrap();
    let all = diagnosis["findings"].as_array().unwrap();
    let found = all.iter().find(|it| it["subject"] == subject);
    found
        .unwrap_or_else(|| panic!("nothing of {subject}: {diagnosis:#}"))
        .clone()
}

fn verdict(said: &Said, subject: &str) -> String {
    finding(said, subject)["verdict"].as_str().unwrap().into()
}

fn whose(said: &Said, subject: &str) -> String {
    finding(said, subject)["fix"]["whose"]
        .as_str()
        .unwrap()
        .into()
}

/// Subjects whose verdict is not "ok", in the order of the examination.
fn complaints(said: &Said) -> Vec<String> {
    let diagnosis = said.json().unwrap();
    let all = diagnosis["findings"].as_array().unwrap().iter();
    let wrong = all.filter(|it| it["verdict"] != "ok");
    wrong
        .map(|it| it["subject"].as_str().unwrap().into())
        .collect()
}

fn examine(terminal: &Terminal) -> Said {
    terminal.ask(&["doctor", "--json"]).unwrap()
}

/// Examines again until it is as wanted.
async fn until(terminal: &Terminal, what: &str, wanted: impl Fn(&Said) -> bool) -> Said {
    let look = async || Some(examine(terminal)).filter(&wanted);
    wait::until(what, look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_is_well_the_doctor_says_so_and_a_stopped_agent_is_the_only_complaint() {
    let mut world = World::new().await.unwrap();
    let well = until(world.terminal(), "a written tag", |it| it.code == 0).await;
    assert_eq!(complaints(&well), [""; 0]);
    for subject in [
        "agent",
        "network",
        "clock",
        "certificate",
        "horizon",
        "reports",
        "disk",
        "files",
        "card service",
        "reader",
        "tag",
        "tag wear",
    ] {
        assert_eq!(verdict(&well, subject), "ok", "{subject}");
    }
    let words = world.terminal().ask(&["doctor"]).unwrap();
    assert!(words.out.contains("All is well."), "{}", words.out);

    let status = world
        .terminal()
        .ask(&["status", "--json"])
        .unwrap()
        .json()
        .unwrap();
    assert!(
        status["horizon"]["left_s"].as_i64().unwrap() > 3_600,
        "{status}"
    );
    assert_eq!(status["clock"]["is_heard"], true);
    assert!(
        status["tag"]["wear"]["writes"].as_u64().unwrap() > 0,
        "{status}"
    );
    let budget = &status["tag"]["wear"]["budget"];
    assert!(budget["cycles"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(budget["endurance"], 100_000);
    assert_eq!(budget["is_measured"], false);

    assert_eq!(world.terminal_mut().stop_agent().await.unwrap(), Some(0));
    let alone = examine(world.terminal());
    assert_eq!(alone.code, 4, "{}", alone.out);
    assert_eq!(complaints(&alone), ["agent"], "{}", alone.out);
    for subject in [
        "network",
        "clock",
        "certificate",
        "horizon",
        "reader",
        "tag",
    ] {
        assert_eq!(verdict(&alone, subject), "ok", "{subject}: {}", alone.out);
    }
    // It only looked: the next run finds everything as it was.
    world.terminal_mut().run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_found_and_said_to_whose_move_it_is() {
    let mut world = World::new().await.unwrap();

    // An agent that runs looks at its tag when there is something to write.
    world.terminal_mut().kill_agent();
    world.terminal().take_tag().unwrap();
    let missed = |it: &Said| verdict(it, "tag") == "broken";
    let bare = until(world.terminal(), "the tag to be missed", missed).await;
    assert_eq!(complaints(&bare), ["agent", "tag"], "{}", bare.out);
    assert_eq!(whose(&bare, "tag"), "merchant");

    // A card service that hangs up on everybody, as pcscd does when polkit says no.
    let socket = world.dir().join("refuses.sock");
    let refuses = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || refuses.incoming().for_each(drop));
    let refused = world
        .terminal()
        .ask_at(&socket, &["doctor", "--json"])
        .unwrap();
    assert_eq!(verdict(&refused, "card service"), "broken");
    let fix = finding(&refused, "card service")["fix"]["what"].to_string();
    assert!(fix.contains("polkit"), "{}", refused.out);
    let nobody = world.dir().join("nobody.sock");
    let absent = world
        .terminal()
        .ask_at(&nobody, &["doctor", "--json"])
        .unwrap();
    let fix = finding(&absent, "card service")["fix"]["what"].to_string();
    assert!(fix.contains("pcscd.socket"), "{}", absent.out);

    // The authority is away: the terminal lasts, and says how long.
    world.authority.kill();
    let cut = examine(world.terminal());
    assert_eq!(verdict(&cut, "network"), "broken");
    assert_eq!(verdict(&cut, "horizon"), "ok", "{}", cut.out);

    // A broken configuration hides the rest, and says so.
    let config = world.terminal().file("agent.toml");
    std::fs::write(&config, "authority = 7").unwrap();
    let lost = examine(world.terminal());
    assert_eq!(
        (lost.code, complaints(&lost)),
        (4, vec!["configuration".into()])
    );
}
