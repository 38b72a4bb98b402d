//! Who may operate, and what do the verbs answer?

use crate::certificates::{Shown, expired, foreign, operator, operator_named, unrecorded};
use crate::enrolling::enrol;
use crate::house::{Daemon, House, Reply};

const LIST: &str = "/v1/operator/terminal-list";

fn post(daemon: &Daemon, path: &str, shown: Option<&Shown>, body: &str) -> Reply {
    let mut arguments = vec![
        "-H",
        "content-type: application/json",
        "--data-binary",
        body,
    ];
    if let Some(shown) = shown {
        arguments.extend(shown.curl());
    }
    daemon.agents(path, &arguments)
}

#[test]
fn a_verb_without_a_certificate_is_refused() {
    let house = House::new();
    let daemon = house.serve();
    post(&daemon, LIST, None, "{}").problem(401, "certificate-needed");
}

#[test]
fn a_terminals_certificate_does_not_operate() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let reply = post(&daemon, LIST, Some(&shown), "{}");
    reply.problem(403, "certificate-refused");
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains(&format!("the terminal {terminal}")),
        "{detail}"
    );
}

#[test]
fn a_certificate_that_was_never_recorded_does_not_operate() {
    let house = House::new();
    let daemon = house.serve();
    let shown = unrecorded(&house, operator_named("operator"));
    let reply = post(&daemon, LIST, Some(&shown), "{}");
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it was not issued here"), "{reply:?}");
}

#[test]
fn a_certificate_recorded_with_another_key_does_not_operate() {
    let house = House::new();
    let store = rusqlite::Connection::open(house.dir().join("store.sqlite")).unwrap();
    let sql = "UPDATE certificates SET spki_sha256 = zeroblob(32) WHERE subject_kind = 'operator'";
    assert_eq!(store.execute(sql, []), Ok(1));
    drop(store);
    let daemon = house.serve();
    let reply = post(&daemon, LIST, Some(&operator(&house)), "{}");
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it was not issued here"), "{reply:?}");
}

#[test]
fn an_expired_certificate_is_refused_by_tls_and_by_name_in_the_verb() {
    let house = House::new();
    let daemon = house.serve();
    let shown = expired(&house, operator_named("operator"));
    let reply = post(&daemon, LIST, Some(&shown), "{}");
    assert!(reply.err.contains("certificate expired"), "{reply:?}");
    shown.use_for_verbs(&house);
    let said = house.verb(&["terminal", "list"]);
    said.refused(
        4,
        "this operator's certificate has expired",
        "--offline renew operator",
    );
}

#[test]
fn a_certificate_of_a_foreign_ca_is_refused_by_tls_and_by_name_in_the_verb() {
    let house = House::new();
    let daemon = house.serve();
    let shown = foreign(&house, operator_named("operator"));
    let reply = post(&daemon, LIST, Some(&shown), "{}");
    assert!(reply.err.contains("unknown ca"), "{reply:?}");
    shown.use_for_verbs(&house);
    let said = house.verb(&["terminal", "list"]);
    said.refused(4, "not good here", "[operator] and [trust]");
}

#[test]
fn malformed_and_oversized_bodies_are_refused() {
    let house = House::new();
    let daemon = house.serve();
    let shown = operator(&house);
    post(&daemon, LIST, Some(&shown), "{").problem(400, "malformed-request");
    post(&daemon, LIST, Some(&shown), "{\"no_such_key\":1}").problem(400, "malformed-request");
    let large = format!("{{\"after\":\"{}\"}}", "0".repeat(20_000));
    post(&daemon, LIST, Some(&shown), &large).problem(413, "body-too-large");
    let mut form = vec!["--data-binary", "{}"];
    form.extend(shown.curl());
    daemon.agents(LIST, &form).problem(400, "malformed-request");
    post(&daemon, "/v1/operator/no-such-verb", Some(&shown), "{}").problem(404, "not-found");
}

#[test]
fn a_terminal_is_added_listed_shown_and_banned() {
    let house = House::new();
    let _daemon = house.serve();
    let (terminal, token) = house.terminal();
    assert!(token.starts_with(&format!("m2j-{terminal}-")), "{token}");
    let listed = house.verb(&["terminal", "list"]);
    assert!(
        listed.out.starts_with(&format!("{terminal}  active")),
        "{listed:?}"
    );
    house.verb(&["terminal", "ban", &terminal, "--reason", "stolen"]);
    let shown = house
        .verb(&["terminal", "show", &terminal, "--json"])
        .json();
    assert_eq!(shown["ban_reason"], "stolen");
    let again = house.verb(&["terminal", "ban", &terminal, "--reason", "twice", "--json"]);
    assert_eq!(again.json()["ban_reason"], "stolen", "the first ban stays");
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let house = House::new();
    let _daemon = house.serve();
    let nobody = "00000000-0000-7000-8000-000000000000";
    let said = house.verb(&["terminal", "add", "--merchant", nobody]);
    said.refused(1, &format!("no merchant {nobody}"), "List what there is");
    let said = house.verb(&["terminal", "show", "00000000"]);
    said.refused(1, "no terminal 00000000", "List what there is");
    let said = house.verb(&[
        "account",
        "credit",
        "--account",
        nobody,
        "--amount-minor",
        "1",
        "--reference",
        "r",
    ]);
    said.refused(1, &format!("no account {nobody}"), "List what there is");
}

#[test]
fn a_slip_in_a_terminal_id_is_a_usage_error() {
    let house = House::new();
    let said = house.verb(&["terminal", "show", "00000001"]);
    assert_eq!(said.code, 2);
    assert!(
        said.err.contains("its check digit does not fit"),
        "{said:?}"
    );
}

#[test]
fn the_join_token_goes_to_its_file_and_not_to_the_screen() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let _daemon = house.serve();
    let said = house.verb(&[
        "merchant",
        "add",
        "--name",
        "Shop",
        "--currency",
        "EUR",
        "--json",
    ]);
    let merchant = said.json()["merchant"].as_str().unwrap().to_owned();
    let file = house.scratch("join");
    let path = file.to_str().unwrap();
    let add = [
        "terminal",
        "add",
        "--merchant",
        &merchant,
        "--join-token-file",
        path,
    ];
    let said = house.verb(&add);
    assert_eq!(said.code, 0, "{said:?}");
    let token = std::fs::read_to_string(&file).unwrap();
    assert!(
        token.starts_with("m2j-") && !said.out.contains(token.trim()),
        "{said:?}"
    );
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    house
        .verb(&add)
        .refused(4, "exists", "who may read and write there");
}

/// The HSM's environment is set by starting the program once more: no file may be there before.
#[test]
fn verbs_that_write_a_file_work_on_a_stopped_authority() {
    let house = House::new();
    let config = std::fs::read_to_string(house.config()).unwrap();
    assert!(config.contains("[hsm.environment]"), "{config}");
    let shop = ["merchant", "add", "--name", "Shop", "--currency", "EUR"];
    let said = house.verb(&[&["--offline", "--json"], &shop[..]].concat());
    let merchant = said.json()["merchant"].as_str().unwrap().to_owned();
    let offline = |verb: &[&str], file: &str| {
        let file = house.scratch(file);
        let all = [&["--offline"], verb, &[file.to_str().unwrap()]].concat();
        let said = house.verb(&all);
        assert_eq!(said.code, 0, "{said:?}");
        std::fs::read_to_string(file).unwrap()
    };
    let token = "--join-token-file";
    let add = ["terminal", "add", "--merchant", &merchant, token];
    let added = offline(&add, "add");
    let terminal = &added[4..12];
    for (verb, more) in [
        ("join", &[][..]),
        ("ban", &["--reason", "lost"]),
        ("unban", &["--reason", "found"]),
    ] {
        let verb = [&["terminal", verb, terminal], more].concat();
        match verb[1] {
            "ban" => assert_eq!(house.verb(&[&["--offline"], &verb[..]].concat()).code, 0),
            made => assert!(offline(&[&verb[..], &[token]].concat(), made).starts_with("m2j-")),
        }
    }
    let dir = house.scratch("");
    let request = ["operator", "request", "bob", "--dir", dir.to_str().unwrap()];
    assert_eq!(house.verb(&request).code, 0);
    let csr = house.scratch("bob.csr");
    let csr = csr.to_str().unwrap();
    let add = ["operator", "add", "bob", "--request", csr, "--certificate"];
    assert!(offline(&add, "bob.pem").contains("BEGIN CERTIFICATE"));
    // What is refused leaves no file.
    let refused = house.scratch("zoe.pem");
    let add = ["--offline", "operator", "add", "zoe", "--request", csr];
    let to = ["--certificate", refused.to_str().unwrap()];
    let said = house.verb(&[&add[..], &to].concat());
    said.refused(1, "a name that it will not get", "");
    assert!(!refused.exists());
}

#[test]
fn money_comes_in_once_per_reference() {
    let house = House::new();
    let _daemon = house.serve();
    let open = [
        "account",
        "open",
        "--issuer",
        "https://id.example",
        "--subject",
        "s1",
        "--currency",
        "EUR",
    ];
    let mut json = open.to_vec();
    json.push("--json");
    let account = house.verb(&json).json()["account"]
        .as_str()
        .unwrap()
        .to_owned();
    house
        .verb(&open)
        .refused(1, "has an account in EUR already", "");
    let credit = |minor: &str| {
        house.verb(&[
            "account",
            "credit",
            "--account",
            &account,
            "--amount-minor",
            minor,
            "--reference",
            "wire 1",
            "--json",
        ])
    };
    assert_eq!(credit("1000").json()["balance_minor"], 1000);
    assert_eq!(credit("1000").json()["balance_minor"], 1000);
    credit("2000").refused(1, "belongs to another credit", "");
    let view = house.verb(&["account", "check", "--json"]).json();
    assert_eq!(view["balanced"], true, "{view}");
}

#[test]
fn verbs_without_a_daemon_say_that_none_runs() {
    let house = House::new();
    house
        .verb(&["terminal", "list"])
        .refused(4, "the daemon does not run", "--offline");
}

#[test]
fn verbs_work_on_a_stopped_authority_with_offline() {
    let house = House::new();
    let said = house.verb(&[
        "--offline",
        "merchant",
        "add",
        "--name",
        "Shop",
        "--currency",
        "EUR",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    let listed = house.verb(&["merchant", "list", "--offline"]);
    assert!(listed.out.contains("Shop"), "{listed:?}");
}

#[test]
fn a_changed_audit_row_is_found() {
    let house = House::new();
    house.verb(&[
        "--offline",
        "merchant",
        "add",
        "--name",
        "Shop",
        "--currency",
        "EUR",
    ]);
    let said = house.verb(&["--offline", "audit", "verify"]);
    assert!(said.out.starts_with("the audit chain holds"), "{said:?}");
    let store = rusqlite::Connection::open(house.dir().join("store.sqlite")).unwrap();
    let changed = store.execute(
        "UPDATE audit_rows SET body = replace(body, 'Shop', 'Show')",
        [],
    );
    assert!(changed.unwrap() > 0);
    drop(store);
    let said = house.verb(&["--offline", "audit", "verify"]);
    said.refused(
        4,
        "the audit chain does not hold",
        "compare it with a backup",
    );
    assert!(
        said.out.contains("was changed after it was recorded"),
        "{said:?}"
    );
}

#[test]
fn a_forged_receipt_is_not_genuine() {
    let house = House::empty();
    let (receipt, jwks) = (house.scratch("r.jws"), house.scratch("jwks.json"));
    std::fs::write(&receipt, "e30.e30.e30").unwrap();
    let verify = [
        "receipt",
        "verify",
        receipt.to_str().unwrap(),
        "--jwks",
        jwks.to_str().unwrap(),
    ];
    house
        .command(&verify)
        .refused(4, "jwks.json", "check the path");
    std::fs::write(&jwks, "[]").unwrap();
    house
        .command(&verify)
        .refused(1, "not a JWK set", "/.well-known/jwks.json");
    std::fs::write(&jwks, "{\"keys\":[]}").unwrap();
    house
        .command(&verify)
        .refused(1, "this receipt is not genuine", "do not rely on it");
}

#[test]
fn an_expired_certificate_that_was_never_recorded_is_not_renewed_by_the_stopped_authority() {
    let house = House::new();
    expired(&house, operator_named("operator")).use_for_verbs(&house);
    let said = house.verb(&["--offline", "renew", "operator"]);
    said.refused(1, "one of the operator operator", "Compare");
}

#[test]
fn a_renewed_listener_certificate_serves_also_after_a_restart() {
    let house = House::new();
    let daemon = house.serve();
    let before = std::fs::read(house.dir().join("agents.pem")).unwrap();
    for what in ["agents", "public"] {
        assert_eq!(house.verb(&["renew", what]).code, 0, "{what}");
    }
    let renewed = std::fs::read(house.dir().join("agents.pem")).unwrap();
    assert_ne!(renewed, before);
    daemon.stop();
    for what in ["agents", "public"] {
        let said = house.verb(&["--offline", "renew", what]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let again = std::fs::read(house.dir().join("agents.pem")).unwrap();
    assert_ne!(again, renewed);
    let _daemon = house.serve();
    assert_eq!(house.verb(&["terminal", "list"]).code, 0);
}

/// Whoever held it could show terminals key sets and receipts of their own.
#[test]
fn an_operator_gets_no_certificate_of_this_node_for_a_key_of_theirs() {
    let house = House::new();
    let daemon = house.serve();
    let ours = operator(&house);
    let key = pki::SoftwareKey::generate().unwrap();
    let node = pki::SpiffeId::Authority("authority-1".parse().unwrap());
    let domain = pki::TrustDomain::default();
    let request = pki::csr::to_pem(&pki::csr::new(&key, &node, &domain).unwrap());
    let issue = "/v1/operator/certificate-issue";
    for body in [
        serde_json::json!({ "request": request, "holder": "node" }),
        serde_json::json!({ "request": request, "operator": "authority-1" }),
        serde_json::json!({ "request": request, "operator": "operator" }),
    ] {
        let reply = post(&daemon, issue, Some(&ours), &body.to_string());
        assert!([400, 403].contains(&reply.status), "{body}: {reply:?}");
    }
    // What may be asked for is that the node makes its own.
    let with_request = serde_json::json!({ "listener": "agents", "request": request });
    let renew = "/v1/operator/node-renew";
    let reply = post(&daemon, renew, Some(&ours), &with_request.to_string());
    reply.problem(400, "malformed-request");
    let live = rusqlite::Connection::open(house.dir().join("store.sqlite")).unwrap();
    let of_this_key = "SELECT count(*) FROM certificates WHERE spki_sha256 = ?1";
    let issued: i64 = live
        .query_row(of_this_key, [key.spki_sha256()], |row| row.get(0))
        .unwrap();
    assert_eq!(issued, 0);
    let agents = house.dir().join("agents.pem");
    let before = std::fs::read(&agents).unwrap();
    let reply = post(&daemon, renew, Some(&ours), r#"{"listener":"agents"}"#);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(!reply.body.contains("BEGIN"), "{reply:?}");
    assert_ne!(std::fs::read(&agents).unwrap(), before);
}

#[test]
fn a_certificate_of_another_ca_is_not_renewed_here() {
    let house = House::new();
    foreign(&house, operator_named("operator")).use_for_verbs(&house);
    let said = house.verb(&["--offline", "renew", "operator"]);
    said.refused(1, "operator.pem", "others at their CA");
}
