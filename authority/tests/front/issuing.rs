//! What if the active issuing CA hangs on a root that nobody believes, or is believed no more?

use pki::trust::Change;
use pki::{Certificate, KeyState, RootKey};

use crate::certificates::{Shown, house_root, now};
use crate::enrolling::{certificates, enrol, request};
use crate::house::{Daemon, House, Reply, text};
use crate::signing::{install_signed, next_issuing_ca, until, warned};
use crate::stage::Stage;
use crate::trust::{Roots, Stream, install};

const UNBELIEVED: &str = "hangs on no root that is believed here";

/// Asks for the next certificate, for the key `next` of the test's own.
fn renew(house: &House, daemon: &Daemon, shown: &Shown, next: &str) -> Reply {
    let csr = house.scratch(&format!("{next}.p10"));
    if !csr.exists() {
        request(house, next);
    }
    let body = format!("@{}", text(&csr));
    let kind = ["-H", "content-type: application/pkcs10"];
    let mut arguments = vec!["--data-binary", &body];
    arguments.extend(kind.iter().chain(shown.curl().iter()));
    daemon.agents("/.well-known/est/simplereenroll", &arguments)
}

fn first_of(house: &House, reply: &Reply) -> Certificate {
    Certificate::from_pem(&certificates(house, reply)).unwrap()
}

/// How many certificates this authority was issued, and their last.
fn of_the_node(house: &House) -> usize {
    let listed = house.verb(&["certificate", "list", "--node", "authority-1", "--json"]);
    listed.json()["certificates"].as_array().unwrap().len()
}

#[test]
fn under_a_root_that_nobody_believes_nothing_is_issued_and_nobody_is_stuck() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let before = std::fs::read_to_string(house.dir().join("agents.pem")).unwrap();
    let issued_before = of_the_node(&house);
    // A wrong root among those that the signer takes.
    let key = RootKey::generate().unwrap();
    let root = key.certificate(now()).unwrap();
    let roots = house.signer_config().with_file_name("roots.pem");
    let both = std::fs::read_to_string(&roots).unwrap() + &root.pem();
    std::fs::write(&roots, both).unwrap();
    install_signed(&house, &["issuing", "prepare"], &(key, root));
    assert_eq!(house.pki(&["issuing", "activate"]).code, 0);
    warned(&daemon, UNBELIEVED);

    renew(&house, &daemon, &shown, "next").problem(503, "not-ready");
    let refused = house.verb(&["renew", "operator"]);
    refused.refused(4, UNBELIEVED, "");
    daemon.hang_up();
    let said = house.verb(&["renew", "agents"]);
    said.refused(4, UNBELIEVED, "");
    assert_eq!(of_the_node(&house), issued_before);
    let after = std::fs::read_to_string(house.dir().join("agents.pem")).unwrap();
    assert_eq!(before, after, "the listener's files are as they were");

    // The same key under the right root: all go on as if nothing had been.
    let again = ["issuing", "request", "m2key-issuing-2"];
    install_signed(&house, &again, &house_root(&house));
    until(
        || !daemon.loopback("/ready").body.contains(UNBELIEVED),
        "the right root to be seen",
    );
    let renewed = first_of(&house, &renew(&house, &daemon, &shown, "next"));
    assert_ne!(renewed.serial_hex(), shown.serial());
    assert_eq!(house.verb(&["renew", "operator"]).code, 0);
    until(
        || {
            let now = std::fs::read_to_string(house.dir().join("agents.pem")).unwrap();
            now != before && daemon.agents("/.well-known/est/cacerts", &[]).status == 200
        },
        "the listener to be renewed",
    );
}

#[test]
fn a_successor_that_was_never_used_is_replaced_when_its_issuing_ca_is_tainted() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let lost = first_of(&house, &renew(&house, &daemon, &shown, "next"));
    let same = first_of(&house, &renew(&house, &daemon, &shown, "next"));
    assert_eq!(lost, same);
    next_issuing_ca(&house);
    assert_eq!(house.pki(&["issuing", "activate"]).code, 0);
    assert_eq!(house.pki(&["issuing", "taint", "m2key-issuing-1"]).code, 0);
    let mut next = None;
    until(
        || {
            let answer = first_of(&house, &renew(&house, &daemon, &shown, "next"));
            next = Some(answer).filter(|answer| *answer != lost);
            next.is_some()
        },
        "another certificate for the same key",
    );
    let next = next.unwrap();
    assert_eq!(next.spki_sha256(), lost.spki_sha256());
    let again = first_of(&house, &renew(&house, &daemon, &shown, "next"));
    assert_eq!(next, again, "asked again, it is the same");
    // Another key is a clone alarm as ever.
    renew(&house, &daemon, &shown, "stranger").problem(409, "successor-exists");
    let listed = house.verb(&["certificate", "list", "--terminal", &terminal]);
    assert!(listed.out.contains(&lost.serial_hex()), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_to_renew_under_a_root_that_nobody_believes() {
    let stage = Stage::set().await;
    let (_, shown) = stage.enrolled().await;
    let renew_now = async || {
        stage.journey.look_at_issuing().await.unwrap();
        let quiet = ["--max-time", "3"].map(String::from);
        let reply = stage.curl("/v1/events", Some(&shown), &quiet).await;
        let data = reply.body.lines().find_map(|it| it.strip_prefix("data:"));
        let data = data.unwrap_or_else(|| panic!("{reply:?}"));
        let state: serde_json::Value = serde_json::from_str(data).unwrap();
        state["upkeep"]["renew_now"].as_bool().unwrap()
    };
    let key = RootKey::generate().unwrap();
    let foreign = key.certificate(now()).unwrap();
    let chain = stage.issuing_under(&key, foreign).await;
    stage.supersede_by(chain, KeyState::Superseded);
    assert!(!renew_now().await);
    *stage.issuer.cas.lock().unwrap() = None;
    assert!(!renew_now().await);
}

/// The next issuing CA is active, and the daemon has seen it.
pub fn rotated(house: &House) {
    next_issuing_ca(house);
    assert_eq!(house.pki(&["issuing", "activate"]).code, 0);
    both_are_seen(house);
}

fn both_are_seen(house: &House) {
    let kept = || std::fs::read_to_string(house.dir().join("issuing.pem")).unwrap();
    until(|| kept().matches("BEGIN").count() == 2, "both issuing CAs");
}

/// The next issuing CA hangs on the new root, which is active; the first one on the old root only. Answers
/// the list in which that one is tainted.
fn moved_on<'a>(house: &'a House, daemon: &Daemon, asleep: &Shown) -> (Roots<'a>, String) {
    let mut roots = Roots::of(house);
    install(house, &roots.prepare());
    let mut stream = Stream::open(house, daemon, asleep, 1);
    assert_eq!(stream.next_sequence(), 1);
    drop(stream);
    let trusted = house.signer_config().with_file_name("roots.pem");
    std::fs::write(trusted, roots.old.pem() + &roots.new.pem()).unwrap();
    let new = (roots.new_key(), roots.new.clone());
    install_signed(house, &["issuing", "prepare"], &new);
    assert_eq!(house.pki(&["issuing", "activate"]).code, 0);
    both_are_seen(house);
    install(
        house,
        &roots.list(&Change::Activate(roots.new.fingerprint())),
    );
    let taint = roots.list(&Change::Taint(roots.old.fingerprint()));
    (roots, taint)
}

#[test]
fn a_root_is_not_tainted_while_somebody_holds_certificates_that_lead_to_it_alone() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let asleep = enrol(&house, &daemon, &terminal, &token);
    let (roots, taint) = moved_on(&house, &daemon, &asleep);
    let named = house.verb(&["operator", "list", "--json"]).json();
    let operator = named["operators"][0]["name"].as_str().unwrap().to_owned();
    for how in ["--now", "--dry-run"] {
        let refused = house.verb(&["trust", "install", &taint, how]);
        refused.refused(1, &format!("of the operators {operator}"), "");
    }
    assert_eq!(house.verb(&["renew", "operator"]).code, 0);
    assert_eq!(house.verb(&["renew", "agents"]).code, 0);
    let dry = house.verb(&["trust", "install", &taint, "--dry-run"]);
    let told = format!("1 terminal(s) have to be enrolled again: {terminal}");
    assert!(dry.code == 0 && dry.out.contains(&told), "{dry:?}");
    let refused = house.verb(&["trust", "install", &taint]);
    refused.refused(1, "enrolled again; they renew when they connect", "");
    assert!(refused.err.contains(&terminal), "{refused:?}");

    // The first issuing key under the root that stays: nobody is cut off.
    let again = ["issuing", "request", "m2key-issuing-1"];
    install_signed(&house, &again, &(roots.new_key(), roots.new.clone()));
    until(
        || house.verb(&["trust", "install", &taint]).code == 0,
        "both issuing CAs to hang on the new root",
    );
    let new = house.scratch("new.pem");
    std::fs::write(&new, roots.new.pem()).unwrap();
    let mut stream = Stream::under(&new, &daemon, &asleep, 3);
    assert_eq!(stream.next_sequence(), 3);
    assert_eq!(house.verb(&["terminal", "list"]).code, 0);
}

#[test]
fn in_an_emergency_terminals_are_cut_off_by_name_and_operators_are_not() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let asleep = enrol(&house, &daemon, &terminal, &token);
    let (_, taint) = moved_on(&house, &daemon, &asleep);
    assert_eq!(house.verb(&["renew", "operator"]).code, 0);
    assert_eq!(house.verb(&["renew", "agents"]).code, 0);
    let said = house.verb(&["trust", "install", &taint, "--now"]);
    assert!(said.code == 0 && said.out.contains(&terminal), "{said:?}");
    assert_eq!(house.verb(&["terminal", "list"]).code, 0);
    let listed = house.verb(&["trust", "show"]);
    assert!(listed.out.contains("tainted"), "{listed:?}");
}
