//! What if the copy that is put back still believes a stolen key or tag, a compromised seed, a revoked
//! operator, or that one operator is enough?

use serde_json::{Value, json};

use crate::certificates::Shown;
use crate::house::{Daemon, House, Said, text};
use crate::restoring::{SCHEDULE, ask, reasons};
use crate::two_people::{as_bob, person, request_in};

const REASON: [&str; 2] = ["--reason", "stolen"];
/// Numbers of tags: one whose keys the copy knows, and one whose keys it does not.
const TAG: &str = "04010203040506";
const LOST_TAG: &str = "04010203040507";
const RAISE: [&str; 4] = ["fence", "raise", "--reason", "disk lost"];

/// An authority with a copy from before it had to act.
struct Drill {
    house: House,
    /// Profiles of operators.
    bob: String,
    mallory: String,
    terminal: String,
    shown: Shown,
}

fn done(house: &House, arguments: &[&str]) -> Said {
    let said = house.verb(arguments);
    assert_eq!(said.code, 0, "{said:?}");
    said
}

/// Version of the keys that were made for it.
fn keys_for(house: &House, terminal: &str, tag: &str, file: &str) -> Value {
    let file = house.scratch(file);
    let out = ["--out", text(&file), "--json"];
    let of_it = ["tag", "keys", "--terminal", terminal, "--uid", tag];
    done(house, &[&of_it[..], &out].concat()).json()["key_version"].clone()
}

impl Drill {
    /// Keys and the seed are replaced after a compromise, tags and mallory are no more, and one more has to
    /// consent; then a copy from before all of it is put back.
    fn restored() -> Self {
        let house = House::new();
        let daemon = house.serve();
        let (terminal, shown) = house.enrolled(&daemon);
        let bob = person(&house, "bob", &[]);
        let mallory = person(&house, "mallory", &[]);
        assert_eq!(ask(&daemon, SCHEDULE, &shown).status, 200);
        assert_eq!(keys_for(&house, &terminal, TAG, "a.keys"), 1);
        house.back_up();
        assert_eq!(keys_for(&house, &terminal, LOST_TAG, "b.keys"), 1);
        for tag in [TAG, LOST_TAG] {
            done(&house, &[&["tag", "retire", tag][..], &REASON].concat());
        }
        for purpose in ["schedule", "sealing"] {
            done(&house, &["key", "prepare", purpose]);
            done(&house, &["key", "activate", purpose, "--now"]);
            done(&house, &["key", "taint", purpose]);
        }
        let of_it = ["seed", "rotate", "--terminal", &terminal, "--compromised"];
        done(&house, &[&of_it[..], &REASON].concat());
        let revoke = [
            "operator",
            "revoke",
            "mallory",
            "--reason",
            "key-compromise",
        ];
        done(&house, &revoke);
        done(&house, &["policy", "set", "--required", "1"]);
        assert_eq!(daemon.stop(), 0);
        house.restore();
        Self {
            house,
            bob,
            mallory,
            terminal,
            shown,
        }
    }

    /// Both operators together.
    fn raise(&self) -> Value {
        let waits = self.house.verb(&RAISE);
        waits.refused(4, "0 of 1 consents", "consent carry-out");
        let id = request_in(&waits);
        let sign = ["consent", "sign", &id, "--yes"];
        let said = as_bob(&self.house, &self.mallory, &sign);
        assert_eq!(said.code, 1, "{said:?}");
        let said = as_bob(&self.house, &self.bob, &sign);
        assert_eq!(said.code, 0, "{said:?}");
        let carry_out = ["consent", "carry-out", &id, "--json"];
        done(&self.house, &carry_out).json()["answer"].clone()
    }

    fn serve(&self) -> Daemon {
        let daemon = self.house.serve();
        loop {
            let listed = done(&self.house, &["operation", "list", "--json"]).json();
            let all = listed["operations"].as_array().unwrap();
            if all.iter().all(|it| it["state"] != "running") {
                assert!(all.iter().all(|it| it["state"] == "done"), "{listed}");
                return daemon;
            }
        }
    }

    fn keys(&self, state: &str) -> Vec<String> {
        let keys = done(&self.house, &["keys", "--json"]).json();
        let all = keys["keys"].as_array().unwrap().iter();
        let name = |it: &Value| it["name"].as_str().unwrap().to_owned();
        let ours = |it: &&Value| name(it).starts_with("m2key-") && it["state"] == state;
        let mut names: Vec<String> = all.filter(ours).map(name).collect();
        names.sort();
        names
    }
}

#[test]
fn nothing_that_was_tainted_compromised_or_revoked_is_good_again_after_a_restore() {
    let drill = Drill::restored();
    let house = &drill.house;
    let daemon = house.serve();
    let why = reasons(&daemon);
    for missing in [
        "m2key-schedule-1",
        "m2key-sealing-1",
        &drill.terminal,
        "mallory",
        "a raise needs 1 besides the one who asks",
        "2 retired tag(s) are not retired here: 04010203040506, 04010203040507",
    ] {
        assert!(why.contains(missing), "{missing}: {why}");
    }
    let said = as_bob(house, &drill.mallory, &["fence", "status"]);
    assert_eq!(
        said.code, 1,
        "a revoked operator asks for nothing: {said:?}"
    );
    let raised = drill.raise();
    assert_eq!(
        raised["keys_tainted_again"].as_array().unwrap().len(),
        2,
        "{raised}"
    );
    assert_eq!(raised["seeds_void"], 1, "{raised}");
    assert_eq!(raised["operators_revoked_again"][0], "mallory", "{raised}");
    assert_eq!(raised["policy_set_again"], true, "{raised}");
    assert_eq!(raised["tags_retired_again"], json!([TAG]), "{raised}");
    assert_eq!(daemon.stop(), 0);

    let daemon = drill.serve();
    assert_eq!(
        drill.keys("tainted"),
        ["m2key-schedule-1", "m2key-sealing-1"]
    );
    // Keys of the lost time are in the HSM: their labels are not given again.
    let successors = ["m2key-schedule-3", "m2key-sealing-3"];
    let active = drill.keys("active");
    assert!(
        successors
            .iter()
            .all(|it| active.contains(&(*it).to_owned())),
        "{active:?}"
    );
    let issued = ask(&daemon, SCHEDULE, &drill.shown);
    assert_eq!(issued.status, 200, "{issued:?}");
    let key = &issued.json()["epoch_keys"][0];
    assert!(key["version"].as_u64().unwrap() > 2, "{key}");
    let said = as_bob(house, &drill.mallory, &["terminal", "list"]);
    said.refused(1, "certificate", "certificate");
    let policy = done(house, &["policy", "show", "--json"]).json();
    assert_eq!(policy["policy"]["required"], 1);
    let alone = house.verb(&["policy", "set", "--required", "0"]);
    alone.refused(4, "0 of 1 consents", "consent carry-out");
    let tag = done(house, &["tag", "show", TAG, "--json"]).json();
    let of_it = |what: &str| tag["tags"][0][what].as_str();
    assert_eq!(of_it("state"), Some("retired"), "{tag}");
    assert_eq!(of_it("retired_because"), Some("stolen"), "{tag}");
    for (tag, file) in [(TAG, "a2.keys"), (LOST_TAG, "b2.keys")] {
        assert_eq!(keys_for(house, &drill.terminal, tag, file), 2, "{tag}");
    }
    let status = done(house, &["fence", "status", "--json"]).json();
    assert_eq!(status["journal"]["retired_tags"], 2, "{status}");
    let audit = done(house, &["audit", "verify", "--json"]).json();
    assert_eq!(audit["holds"], true, "{audit}");
}

#[test]
fn a_stopped_authority_raises_no_generation_with_fewer_consents_than_were_needed() {
    let drill = Drill::restored();
    let house = &drill.house;
    let offline = |profile: &str, arguments: &[&str]| {
        as_bob(house, profile, &[&["--offline"], arguments].concat())
    };
    let waits = house.verb(&[&["--offline"], &RAISE[..]].concat());
    waits.refused(4, "0 of 1 consents", "consent sign");
    let id = request_in(&waits);
    let sign = ["consent", "sign", &id, "--yes"];
    let refused = offline(&drill.mallory, &sign);
    refused.refused(1, "mallory", "who asked, who consented");
    assert_eq!(offline(&drill.bob, &sign).code, 0);
    let said = house.verb(&[&["--offline"], &RAISE[..]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    for told in [
        "revoked: operator mallory",
        "tainted: m2key-sealing-1",
        "policy show",
        "retired: tag 04010203040506",
    ] {
        assert!(said.out.contains(told), "{told}: {said:?}");
    }
}
