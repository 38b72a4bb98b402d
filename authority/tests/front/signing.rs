//! What can an authority do with its signer, and without?

use pki::{Certificate, RootKey};

use crate::certificates::house_root;
use crate::house::{House, openssl, text};

/// Waits, looking again, until the daemon's readiness warns of this.
pub fn warned(daemon: &crate::house::Daemon, of: &str) {
    until(|| daemon.loopback("/ready").body.contains(of), of);
}

#[expect(clippy::disallowed_methods, reason = "it waits with a deadline")]
pub fn until(mut seen: impl FnMut() -> bool, what: &str) {
    use std::time::{Duration, Instant};
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// The issuing certificate under which the operator's new certificate hangs.
fn issuer_of_a_new_operator_certificate(house: &House) -> String {
    let said = house.verb(&["renew", "operator"]);
    assert_eq!(said.code, 0, "{said:?}");
    let operator = house.dir().join("operator.pem");
    openssl(&["x509", "-in", text(&operator), "-noout", "-issuer"])
}

#[test]
fn the_authority_names_no_hsm_token_but_its_own() {
    let house = House::without_signer();
    let config = std::fs::read_to_string(house.config()).unwrap();
    assert!(!config.contains("m2key-issuing"), "{config}");
    assert_eq!(house.verb(&["check-hsm"]).code, 0);
}

#[test]
fn without_its_signer_an_authority_serves_and_says_that_nobody_enrols() {
    let house = House::without_signer();
    let daemon = house.serve();
    let ready = daemon.loopback("/ready");
    assert_eq!(ready.status, 200, "{ready:?}");
    assert!(
        ready.body.contains("the issuing CA does not answer"),
        "{ready:?}"
    );
    let said = house.verb(&["renew", "operator"]);
    said.refused(3, "the signer does not answer", "Try again");
    house.start_signer();
    until(
        || !daemon.loopback("/ready").body.contains("does not answer"),
        "the signer to be seen",
    );
    assert_eq!(house.verb(&["renew", "operator"]).code, 0);
}

#[test]
fn an_authority_that_never_saw_its_signer_does_not_start_without_it() {
    let house = House::without_signer();
    std::fs::remove_file(house.dir().join("issuing.pem")).unwrap();
    let said = house.verb(&["serve"]);
    said.refused(3, "the signer does not answer", "m2key-pki signer");
}

#[test]
fn a_signer_that_is_killed_and_comes_back_is_found_again_by_the_running_daemon() {
    let mut house = House::new();
    let daemon = house.serve();
    house.kill_signer();
    warned(&daemon, "the issuing CA does not answer");
    house.start_signer();
    until(
        || house.verb(&["renew", "operator"]).code == 0,
        "the signer to be found",
    );
}

#[test]
fn a_new_issuing_ca_is_taken_up_while_the_daemon_runs() {
    let house = House::new();
    let daemon = house.serve();
    let before = issuer_of_a_new_operator_certificate(&house);
    next_issuing_ca(&house);
    let said = house.pki(&["issuing", "activate"]);
    assert_eq!(said.code, 0, "{said:?}");
    let kept = house.dir().join("issuing.pem");
    let count = || {
        std::fs::read_to_string(&kept)
            .unwrap()
            .matches("BEGIN")
            .count()
    };
    until(|| count() == 2, "both issuing certificates to be kept");
    let after = issuer_of_a_new_operator_certificate(&house);
    assert_ne!(before, after);
    // The operator's certificates of both are good at the same daemon.
    assert_eq!(house.verb(&["merchant", "list"]).code, 0);
    drop(daemon);
}

/// Prepared, signed by the root and installed; not active yet.
pub fn next_issuing_ca(house: &House) {
    install_signed(house, &["issuing", "prepare"], &house_root(house));
}

/// Signs what this verb requests, and installs the certificate.
pub fn install_signed(house: &House, request: &[&str], (key, root): &(RootKey, Certificate)) {
    let asked = house.pki(request);
    assert_eq!(asked.code, 0, "{asked:?}");
    let request = pki::csr::check(asked.out.as_bytes()).unwrap();
    let now = crate::certificates::now();
    let issuing = key
        .sign_issuing(root, &request.public_point(), now)
        .unwrap();
    let file = house.scratch("next-issuing.pem");
    std::fs::write(&file, issuing.pem()).unwrap();
    let said = house.pki(&["issuing", "install", text(&file)]);
    assert_eq!(said.code, 0, "{said:?}");
}
