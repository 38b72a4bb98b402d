//! Do two people, each at their own command with their own key, get done what one may not?

use std::path::Path;
use std::process::Command;

use pki::consent::Transcript;
use serde_json::Value;

use crate::house::{House, Said, text};

/// Bob makes a key and asks; the house's operator makes him one.
pub fn bob(house: &House, more: &[&str]) -> String {
    person(house, "bob", more)
}

/// They make a key and ask; the house's operator makes them one.
pub fn person(house: &House, name: &str, more: &[&str]) -> String {
    let dir = house.scratch("");
    let mut request = vec!["operator", "request", name, "--dir", text(&dir)];
    request.extend(more);
    let said = house.verb(&request);
    assert_eq!(said.code, 0, "{said:?}");
    let file = |kind: &str| text(&dir.join(format!("{name}.{kind}"))).to_owned();
    let (csr, pem) = (file("csr"), file("pem"));
    let add = [
        "operator",
        "add",
        name,
        "--request",
        &csr,
        "--certificate",
        &pem,
    ];
    let said = house.verb(&add);
    assert_eq!(said.code, 0, "{said:?}");
    file("toml")
}

pub fn as_bob(house: &House, profile: &str, arguments: &[&str]) -> Said {
    let mut all = vec!["--as", profile];
    all.extend(arguments);
    house.verb(&all)
}

/// The id in the hint of a refusal for want of consents.
pub fn request_in(said: &Said) -> String {
    let (_, after) = said.err.split_once("consent sign ").unwrap();
    after.lines().next().unwrap().to_owned()
}

fn roots(house: &House) -> Vec<pki::Certificate> {
    let pem = std::fs::read_to_string(house.dir().join("root.pem")).unwrap();
    pki::chain::certificates_from_pem(&pem).unwrap()
}

#[test]
fn two_people_change_the_policy_together_and_one_does_not() {
    let house = House::new();
    let daemon = house.serve();
    let bob = bob(&house, &[]);
    let set = house.verb(&["policy", "set", "--required", "1"]);
    assert_eq!(set.code, 0, "{set:?}");
    let lower = ["policy", "set", "--required", "0"];
    let waits = house.verb(&lower);
    waits.refused(4, "0 of 1 consents", "consent carry-out");
    let id = request_in(&waits);
    assert_eq!(
        request_in(&house.verb(&lower)),
        id,
        "one request for one thing"
    );
    let own = house.verb(&["consent", "sign", &id, "--yes"]);
    own.refused(1, "their own request", "who asked, who consented");
    let unasked = as_bob(&house, &bob, &["consent", "sign", &id]);
    unasked.refused(2, "nobody is there", "--yes");
    let signed = as_bob(&house, &bob, &["consent", "sign", &id, "--yes", "--json"]);
    assert_eq!(signed.json()["consented"][0], "bob");
    assert!(signed.err.contains("verb        policy-set"), "{signed:?}");
    let foreign = as_bob(&house, &bob, &["consent", "carry-out", &id]);
    foreign.refused(1, "somebody else asks", "who asked, who consented");
    let done = house.verb(&["consent", "carry-out", &id, "--json"]).json();
    assert_eq!(done["answer"]["policy"]["required"], 0);
    let transcript = house.verb(&["consent", "transcript", &id]);
    let shown = Transcript::from_json(&transcript.out)
        .unwrap()
        .verify(&roots(&house))
        .unwrap();
    assert_eq!(shown.consented_by(), ["bob"]);
    assert!(shown.in_words().contains("asked by    operator at "));
    drop(daemon);
}

#[test]
fn a_stopped_authority_is_no_way_around_the_others() {
    let house = House::new();
    let daemon = house.serve();
    let bob = bob(&house, &[]);
    house.verb(&["policy", "set", "--required", "1"]);
    daemon.stop();
    let lower = ["--offline", "policy", "set", "--required", "0"];
    let waits = house.verb(&lower);
    waits.refused(4, "0 of 1 consents", "consent sign");
    let id = request_in(&waits);
    let signed = as_bob(
        &house,
        &bob,
        &["--offline", "consent", "sign", &id, "--yes"],
    );
    assert_eq!(signed.code, 0, "{signed:?}");
    let done = house.verb(&lower);
    assert_eq!(done.code, 0, "{done:?}");
    // Whoever holds the old key goes on.
    let renewed = as_bob(&house, &bob, &["--offline", "renew", "operator"]);
    assert_eq!(renewed.code, 0, "{renewed:?}");
    let _daemon = house.serve();
    let listed = as_bob(&house, &bob, &["operator", "list", "--json"]).json();
    let names: Vec<&Value> = listed["operators"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["bob", "operator"]);
}

#[test]
fn a_revoked_operator_is_out_at_once() {
    let house = House::new();
    let _daemon = house.serve();
    let bob = bob(&house, &[]);
    let listed = as_bob(&house, &bob, &["operator", "list"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let gone = house.verb(&["operator", "revoke", "bob", "--reason", "key-compromise"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    let refused = as_bob(&house, &bob, &["operator", "list"]);
    refused.refused(1, "certificate may not do that", "certificate");
    let last = house.verb(&["operator", "revoke", "operator", "--reason", "unspecified"]);
    last.refused(1, "0 operators could sign", "Wait for those who are named");
}

/// A SoftHSM of Bob's own, as his card; where its configuration is.
fn card(house: &House) -> std::path::PathBuf {
    let (conf, tokens) = (house.scratch("card.conf"), house.scratch("card"));
    std::fs::create_dir(&tokens).unwrap();
    let line = format!("directories.tokendir = {}\n", tokens.display());
    std::fs::write(&conf, line).unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "bob"])
        .args(["--so-pin", "87654321", "--pin", "12345678"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .expect("these tests need softhsm2-util: apt-get install -y softhsm2");
    assert!(made.status.success(), "{made:?}");
    let pin = house.scratch("bob.pin");
    std::fs::write(&pin, "12345678\n").unwrap();
    private(&pin);
    conf
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).unwrap();
}

#[test]
fn a_key_in_an_hsm_token_opens_tls_signs_consents_and_is_renewed() {
    let house = House::new();
    let _daemon = house.serve();
    let conf = card(&house);
    let dir = house.scratch("");
    let pin = house.scratch("bob.pin");
    let module = "/usr/lib/softhsm/libsofthsm2.so";
    let request = [
        "operator",
        "request",
        "bob",
        "--dir",
        text(&dir),
        "--module",
        module,
        "--token-label",
        "bob",
        "--pin-file",
        text(&pin),
    ];
    let said = house.verb_with_softhsm(&conf, &request);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!dir.join("bob.key").exists(), "the key is on the card only");
    let (csr, pem) = (dir.join("bob.csr"), dir.join("bob.pem"));
    let add = [
        "operator",
        "add",
        "bob",
        "--request",
        text(&csr),
        "--certificate",
        text(&pem),
    ];
    assert_eq!(house.verb(&add).code, 0);
    let bob = text(&dir.join("bob.toml")).to_owned();
    house.verb(&["policy", "set", "--required", "1"]);
    let waits = house.verb(&["policy", "set", "--required", "0"]);
    let id = request_in(&waits);
    let signed = as_bob(&house, &bob, &["consent", "sign", &id, "--yes"]);
    assert_eq!(signed.code, 0, "{signed:?}");
    let before = std::fs::read_to_string(&pem).unwrap();
    let renewed = as_bob(&house, &bob, &["renew", "operator"]);
    assert_eq!(renewed.code, 0, "{renewed:?}");
    let after = std::fs::read_to_string(&pem).unwrap();
    assert_ne!(before, after);
    let done = house.verb(&["policy", "set", "--required", "0"]);
    assert_eq!(
        done.code, 0,
        "the consent under the earlier certificate counts: {done:?}"
    );
    std::fs::write(&pin, "00000000\n").unwrap();
    let locked_out = as_bob(&house, &bob, &["operator", "list"]);
    locked_out.refused(4, "PIN", "wrong PINs lock it");
}

#[test]
fn who_is_asked_for_is_an_operator_with_their_own_key() {
    let house = House::new();
    let _daemon = house.serve();
    let bob = bob(&house, &[]);
    let other_key = house.scratch("other.key");
    pki::SoftwareKey::generate()
        .unwrap()
        .save(&other_key)
        .unwrap();
    std::fs::copy(&other_key, house.scratch("bob.key")).unwrap();
    let mixed = as_bob(&house, &bob, &["operator", "list"]);
    mixed.refused(4, "the operator's key is another one", "belong together");
    let missing = as_bob(&house, "/nowhere.toml", &["operator", "list"]);
    missing.refused(4, "cannot be read", "operator request");
}
