//! Is a stolen issuing key worth nothing once the list of roots denies it?

use pki::{Certificate, IssueTo, KeyId};

use crate::certificates::{Shown, operator, unrecorded};
use crate::enrolling::{enrol, try_enrol};
use crate::house::{Daemon, House, Reply, text};
use crate::issuing::rotated;

const SCHEDULE: &str = "/v1/schedule";

/// The list that denies this key, drafted and signed as the documentation says.
pub fn denying(house: &House, key: &str) -> String {
    let (root, dir) = (house.dir().join("root.pem"), house.dir().join("root"));
    std::fs::copy(&root, dir.join("root.pem")).unwrap();
    let list = house.scratch("deny.json");
    let draft = ["root", "trust", "deny", key, "--first", text(&root)];
    let said = house.pki_alone(&[&draft[..], &["--out", text(&list)]].concat());
    assert!(
        said.code == 0 && said.out.contains("denied key"),
        "{said:?}"
    );
    let passphrase = dir.join("passphrase");
    let sign = ["root", "trust", "sign", text(&list), "--dir", text(&dir)];
    let how = ["--passphrase-file", text(&passphrase), "--yes"];
    let said = house.pki_alone(&[&sign[..], &how[..]].concat());
    assert!(said.out.contains("signed by everyone"), "{said:?}");
    text(&list).to_owned()
}

/// The issuing certificate that somebody comes with.
fn issuing_of(shown: &Shown) -> Certificate {
    let pem = std::fs::read_to_string(shown.certificate()).unwrap();
    pki::chain::certificates_from_pem(&pem).unwrap().remove(1)
}

fn ask(daemon: &Daemon, shown: &Shown) -> Reply {
    daemon.agents(SCHEDULE, &shown.curl())
}

#[track_caller]
fn cut_at_the_door(reply: &Reply) {
    assert_eq!(reply.status, 0, "{reply:?}");
    assert!(reply.err.contains("unknown ca"), "{reply:?}");
}

#[test]
fn who_comes_by_a_denied_key_is_refused_in_the_handshake_and_nobody_else_is() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let forged = unrecorded(&house, IssueTo::Terminal(terminal.parse().unwrap()));
    // The root signed its issuing certificate: only the store knows better.
    ask(&daemon, &forged).problem(403, "certificate-refused");
    let stolen = issuing_of(&forged);
    let key = KeyId::of(&stolen).to_string();
    let list = denying(&house, &key);
    let said = house.verb(&["trust", "install", &list]);
    let told = format!("key {key}: nothing it signed is believed any more");
    assert!(said.code == 0 && said.out.contains(&told), "{said:?}");
    let again = house.verb(&["trust", "install", &list]);
    assert!(again.out.contains("in force already"), "{again:?}");
    crate::signing::until(
        || ask(&daemon, &forged).status == 0,
        "the listener to follow the list",
    );
    cut_at_the_door(&ask(&daemon, &forged));
    assert_eq!(ask(&daemon, &shown).status, 200);
    assert!(house.verb(&["trust", "show"]).out.contains(&key));
    daemon.stop();
    let daemon = house.serve();
    cut_at_the_door(&ask(&daemon, &forged));
    assert_eq!(ask(&daemon, &shown).status, 200);
}

#[test]
fn the_drill_for_a_stolen_issuing_key_names_whom_it_cuts_off() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let asleep = enrol(&house, &daemon, &terminal, &token);
    let stolen = house.scratch("stolen.pem");
    std::fs::copy(house.dir().join("issuing.pem"), &stolen).unwrap();
    let list = denying(&house, text(&stolen));
    let early = house.verb(&["trust", "install", &list, "--now"]);
    early.refused(1, "the active issuing CA would be denied", "");

    rotated(&house);
    let refused = house.verb(&["trust", "install", &list, "--now"]);
    refused.refused(1, "of the operators", "");
    assert_eq!(house.verb(&["renew", "operator"]).code, 0);
    assert_eq!(house.verb(&["renew", "agents"]).code, 0);
    let refused = house.verb(&["trust", "install", &list]);
    refused.refused(1, &terminal, "");
    let said = house.verb(&["trust", "install", &list, "--now"]);
    assert!(said.code == 0 && said.out.contains(&terminal), "{said:?}");
    crate::signing::until(
        || ask(&daemon, &asleep).status == 0,
        "the listener to follow the list",
    );
    cut_at_the_door(&ask(&daemon, &asleep));
    let chain = daemon.agents("/.well-known/est/cacerts", &[]);
    let chain = pki::est::decode(chain.body.as_bytes()).unwrap();
    assert!(!chain.contains(&Certificate::load(&stolen).unwrap()));

    let said = house.verb(&["terminal", "join", &terminal, "--json"]);
    let token = said.json()["join_token"].as_str().unwrap().to_owned();
    assert_eq!(try_enrol(&house, &daemon, &terminal, &token).status, 200);
    assert_eq!(
        daemon.agents(SCHEDULE, &operator(&house).curl()).status,
        403
    );
}
