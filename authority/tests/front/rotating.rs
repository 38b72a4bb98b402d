//! Does a security team replace keys and seeds with the real binary, and can an auditor follow?

use std::path::Path;

use crate::house::{House, Said, openssl, text};

/// More than one batch.
const FLEET: usize = 70;

fn verb(house: &House, arguments: &[&str]) -> Said {
    let said = house.verb(arguments);
    assert_eq!(said.code, 0, "{said:?}");
    said
}

/// `n` terminals of one merchant.
fn terminals(house: &House, n: usize) -> Vec<String> {
    let add = [
        "merchant",
        "add",
        "--name",
        "Shop",
        "--currency",
        "EUR",
        "--json",
    ];
    let merchant = house.verb(&add).json()["merchant"]
        .as_str()
        .unwrap()
        .to_owned();
    let add = ["terminal", "add", "--merchant", &merchant, "--json"];
    let id = |_| {
        house.verb(&add).json()["terminal"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    (0..n).map(id).collect()
}

fn versions(house: &House) -> Vec<u64> {
    let listed = verb(house, &["terminal", "list", "--json"]).json();
    let all = listed["terminals"].as_array().unwrap();
    all.iter()
        .map(|it| it["seed_version"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_sealing_key_is_replaced_on_the_running_authority_and_the_transcript_says_so() {
    let house = House::new();
    let daemon = house.serve();
    let all = terminals(&house, 3);
    let dry = verb(&house, &["key", "prepare", "sealing", "--dry-run"]);
    assert!(dry.out.contains("m2key-sealing-2") && dry.out.contains("nothing was done"));
    house.verb(&["key", "activate", "sealing"]).refused(
        1,
        "key prepare sealing",
        "then take the step that comes next",
    );
    verb(&house, &["key", "prepare", "sealing"]);
    let done = verb(&house, &["key", "activate", "sealing", "--json"]).json();
    assert_eq!(done["operation"]["state"], "done", "{done}");
    assert_eq!(done["operation"]["done"], 3);
    assert_eq!(versions(&house), [2, 2, 2]);
    house
        .verb(&["key", "retire", "sealing"])
        .refused(1, &all[0], "Wait for those who are named");
    let keys = verb(&house, &["keys"]);
    for shown in [
        "sealing     active      m2key-sealing-2",
        "by operator",
        "root ",
        "issuing ",
    ] {
        assert!(keys.out.contains(shown), "{shown}: {}", keys.out);
    }
    let operation = done["operation"]["operation"].as_str().unwrap();
    let shown = verb(&house, &["operation", "show", operation]);
    assert!(shown.out.contains("terminals  3 of 3"), "{shown:?}");

    let (transcript, jwks) = (house.scratch("t.jws"), house.scratch("jwks.json"));
    let signed = verb(&house, &["operation", "transcript", operation]).out;
    std::fs::write(&transcript, &signed).unwrap();
    let set = daemon.public("/.well-known/jwks.json", &[]).body;
    std::fs::write(&jwks, set).unwrap();
    daemon.stop();
    let check = [
        "transcript",
        "verify",
        text(&transcript),
        "--jwks",
        text(&jwks),
    ];
    let told = house.command(&check);
    assert_eq!(told.code, 0, "{told:?}");
    for line in [
        "This transcript is genuine",
        "operator asked for `key activate`",
        "seed.sealed",
    ] {
        assert!(told.out.contains(line), "{line}: {}", told.out);
    }
    let cut = signed.trim().replacen("eyJ", "eyK", 1);
    std::fs::write(&transcript, cut).unwrap();
    house
        .command(&check)
        .refused(1, "shows nothing", "do not rely on it");
}

#[test]
fn a_fleet_has_its_new_seeds_once_each_after_the_daemon_was_killed() {
    let house = House::new();
    let daemon = house.serve();
    terminals(&house, FLEET);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| house.verb(&["seed", "rotate", "--all", "--planned"]));
        wait_for_a_running_operation(&house.dir().join("store.sqlite"));
        // SIGKILL, somewhere in it.
        drop(daemon);
        asking.join().unwrap();
    });
    let daemon = house.serve();
    let ended = loop {
        let listed = verb(&house, &["operation", "list", "--json"]).json();
        let only = listed["operations"][0].clone();
        if only["state"] != "running" {
            break only;
        }
    };
    assert_eq!(
        (&ended["state"], &ended["done"]),
        (&"done".into(), &FLEET.into())
    );
    assert_eq!(versions(&house), vec![2; FLEET]);
    daemon.stop();
    let audit = verb(&house, &["--offline", "audit", "verify"]);
    assert!(audit.out.starts_with("the audit chain holds"), "{audit:?}");
}

fn wait_for_a_running_operation(store: &Path) {
    let store = rusqlite::Connection::open(store).unwrap();
    let begun = || -> i64 {
        let sql = "SELECT count(*) FROM operations";
        store.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    while begun() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn what_a_signing_key_is_certified_for_is_good_to_openssl() {
    let house = House::new();
    let daemon = house.serve();
    let certified = loop {
        let set = daemon.public("/.well-known/jwks.json", &[]).json();
        let keys = set["keys"].as_array().unwrap().clone();
        assert_eq!(keys.len(), 4);
        if keys.iter().all(|key| key["x5c"].is_array()) {
            break keys;
        }
    };
    for key in certified {
        let chain: Vec<String> = key["x5c"].as_array().unwrap().iter().map(pem).collect();
        let (own, issuing) = (house.scratch("own.pem"), house.scratch("issuing.pem"));
        std::fs::write(&own, &chain[0]).unwrap();
        std::fs::write(&issuing, &chain[1]).unwrap();
        let root = house.dir().join("root.pem");
        let verify = [
            "verify",
            "-x509_strict",
            "-CAfile",
            text(&root),
            "-untrusted",
            text(&issuing),
            text(&own),
        ];
        assert!(openssl(&verify).contains(": OK"));
        let shown = openssl(&[
            "x509",
            "-in",
            text(&own),
            "-noout",
            "-ext",
            "extendedKeyUsage",
        ]);
        assert!(
            !shown.contains("TLS Web"),
            "it opens no connection: {shown}"
        );
    }
}

fn pem(der: &serde_json::Value) -> String {
    let base64 = der.as_str().unwrap();
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[test]
fn a_banned_terminal_comes_back_with_a_new_seed_and_a_new_join_token() {
    let house = House::new();
    let _daemon = house.serve();
    let (terminal, _) = house.terminal();
    let unban = [
        "terminal", "unban", &terminal, "--reason", "found", "--json",
    ];
    house
        .verb(&unban)
        .refused(1, "is not banned", "use what is there");
    verb(&house, &["terminal", "ban", &terminal, "--reason", "lost"]);
    let seed = ["seed", "rotate", "--terminal", &terminal, "--planned"];
    house
        .verb(&seed)
        .refused(1, "terminal unban", "another way to pay");
    let joins = house.verb(&unban).json();
    assert!(joins["join_token"].as_str().unwrap().starts_with("m2j-"));
    let shown = house
        .verb(&["terminal", "show", &terminal, "--json"])
        .json();
    assert_eq!(shown["seed_version"], 2);
    assert!(shown.get("banned_at").is_none());
}

#[test]
fn what_to_rotate_and_how_must_be_said() {
    let house = House::empty();
    for arguments in [
        &["seed", "rotate", "--all"][..],
        &["seed", "rotate", "--planned"],
        &[
            "seed",
            "rotate",
            "--all",
            "--planned",
            "--compromised",
            "--reason",
            "x",
        ],
        &["seed", "rotate", "--all", "--compromised"],
        &["key", "prepare", "nonsense"],
    ] {
        assert_eq!(house.command(arguments).code, 2, "{arguments:?}");
    }
}
