//! What if the active issuing CA hangs on a root that nobody believes, or is believed no more?

use pki::{Certificate, KeyState, RootKey};

use crate::certificates::{Shown, house_root, now};
use crate::enrolling::{certificates, enrol, request};
use crate::house::{Daemon, House, Reply, text};
use crate::signing::{install_signed, next_issuing_ca, until, warned};
use crate::stage::Stage;

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
