//! Does a daemon with two HSM tokens serve while one is lost, and say so?

use std::path::PathBuf;

use authority::store::KeyPurpose;

use crate::house::{Daemon, House};

const CLONE: &str = "m2key-authority-2";

#[test]
fn one_of_two_hsm_tokens_is_lost_and_comes_back_while_the_daemon_serves() {
    let house = House::new();
    let clone = Clone::of(&house);
    let view = house.verb(&["check-hsm", "--json"]).json();
    assert_eq!(view["ok"], true, "{view}");
    let daemon = house.serve();
    assert!(warnings(&daemon).iter().all(|it| !it.contains(CLONE)));
    assert_eq!(state(&daemon), 3);
    clone.take_away();
    until(&house, || warns(&daemon, CLONE));
    assert_eq!(daemon.loopback("/ready").status, 200);
    until(&house, || state(&daemon) < 2);
    clone.put_back();
    until(&house, || !warns(&daemon, CLONE) && state(&daemon) == 3);
}

#[test]
fn a_key_that_a_clone_lacks_is_told_until_it_is_copied() {
    let house = House::new();
    let clone = Clone::of(&house);
    let daemon = house.serve();
    assert_eq!(house.verb(&["key", "prepare", "receipt"]).code, 0);
    until(&house, || warns(&daemon, "does not share m2key-receipt-2"));
    let checked = house.verb(&["check-hsm"]);
    checked.refused(4, "not as M2Key needs", "LACKING");
    let lacking = format!("LACKING  key m2key-receipt-2 in {CLONE}");
    assert!(checked.out.contains(&lacking), "{checked:?}");
    drop(daemon);
    clone.copy_again();
    assert_eq!(house.verb(&["check-hsm"]).code, 0);
}

#[test]
fn of_a_clone_that_was_never_seen_each_key_is_told_as_unseen_and_none_as_lacking() {
    let house = House::new();
    let clone = Clone::of(&house);
    clone.take_away();
    let checked = house.verb(&["check-hsm"]);
    checked.refused(4, "not as M2Key needs", "UNSEEN or AWAY");
    let lines: Vec<_> = checked.out.lines().collect();
    let of_keys = lines.iter().filter(|line| line.contains(" key m2key-"));
    let told = format!(": {CLONE} could not show it");
    for line in of_keys.clone() {
        let is_unseen = line.starts_with("UNSEEN   key m2key-") && line.ends_with(&told);
        assert!(is_unseen, "{checked:?}");
    }
    assert_eq!(of_keys.count(), KeyPurpose::ALL.len(), "{checked:?}");
    let away = format!("AWAY     {CLONE}: ");
    assert_eq!(lines.iter().filter(|it| it.starts_with(&away)).count(), 1);

    let view = house.verb(&["check-hsm", "--json"]);
    assert_eq!(view.code, 4, "{view:?}");
    let view: serde_json::Value = serde_json::from_str(&view.out).unwrap();
    for key in view["keys"].as_array().unwrap() {
        assert_eq!(key["unseen_on"], serde_json::json!([CLONE]), "{key}");
    }
    clone.put_back();
    let seen = house.verb(&["check-hsm"]);
    assert!(seen.code == 0 && !seen.out.contains("UNSEEN"), "{seen:?}");
}

#[test]
fn a_daemon_starts_while_a_clone_is_away_and_not_while_all_are() {
    let house = House::new();
    let clone = Clone::of(&house);
    clone.take_away();
    let daemon = house.serve();
    assert!(warns(&daemon, CLONE));
    assert_eq!(daemon.loopback("/ready").status, 200);
    drop(daemon);
    let checked = house.verb(&["check-hsm"]);
    checked.refused(4, "not as M2Key needs", "AWAY");
    house.edit_config(
        "token_label = \"m2key-authority\"",
        "token_label = \"nobody\"",
    );
    let refused = house.verb(&["serve"]);
    refused.refused(4, "no HSM token labelled", "token_label");
}

/// The folder of SoftHSM that a clone of the authority's HSM token lies in.
struct Clone {
    original: PathBuf,
    clone: PathBuf,
}

impl Clone {
    /// As a maker's tool does it: the same keys and PIN, under a label and a serial number of its own.
    fn of(house: &House) -> Self {
        let tokens = house.dir().join("hsm/tokens");
        let original = std::fs::read_dir(&tokens).unwrap().next().unwrap();
        let clone = Self {
            original: original.unwrap().path(),
            clone: tokens.join("clone"),
        };
        clone.copy_again();
        let text = std::fs::read_to_string(house.config()).unwrap();
        let more = format!("\n[[hsm.clones]]\ntoken_label = \"{CLONE}\"\n");
        std::fs::write(house.config(), text + &more).unwrap();
        clone
    }

    fn copy_again(&self) {
        std::fs::create_dir_all(&self.clone).unwrap();
        for file in std::fs::read_dir(&self.original).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), self.clone.join(file.file_name())).unwrap();
        }
        let about = self.clone.join("token.object");
        let mut bytes = std::fs::read(&about).unwrap();
        let label = format!("{:<32}", "m2key-authority");
        let found = bytes.windows(32).position(|it| it == label.as_bytes());
        let at = found.unwrap();
        bytes[at..at + CLONE.len()].copy_from_slice(CLONE.as_bytes());
        // The serial number, after the label and an attribute's head; slots are numbered after it.
        bytes[at + 56..at + 72].reverse();
        std::fs::write(&about, bytes).unwrap();
    }

    fn take_away(&self) {
        std::fs::rename(&self.clone, self.elsewhere()).unwrap();
    }

    fn put_back(&self) {
        std::fs::rename(self.elsewhere(), &self.clone).unwrap();
    }

    fn elsewhere(&self) -> PathBuf {
        self.original.parent().unwrap().with_file_name("elsewhere")
    }
}

/// Adds terminals, which makes seeds in the HSM, until it is so.
fn until(house: &House, is_so: impl Fn() -> bool) {
    while !is_so() {
        house.terminal();
    }
}

fn warns(daemon: &Daemon, what: &str) -> bool {
    warnings(daemon).iter().any(|it| it.contains(what))
}

fn warnings(daemon: &Daemon) -> Vec<String> {
    let ready = daemon.loopback("/ready").json();
    let warnings = ready["warnings"].as_array().unwrap().iter();
    warnings.map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// Of the clone, as metrics show it.
fn state(daemon: &Daemon) -> u8 {
    let metrics = daemon.loopback("/metrics").body;
    let gauge = format!("m2key_authority_hsm_state{{token=\"{CLONE}\"}} ");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(&gauge));
    value.expect(&metrics).parse().unwrap()
}
