//! Does a machine become a terminal with nothing but openssl and curl, and only with its own token?

use std::path::PathBuf;

use crate::certificates::Shown;
use crate::house::{Daemon, House, Reply, openssl, text};

/// A key and a request for it, made as the documentation says.
pub fn request(house: &House, name: &str) -> (PathBuf, PathBuf) {
    let (key, csr) = (
        house.scratch(&format!("{name}.key")),
        house.scratch(&format!("{name}.p10")),
    );
    openssl(&[
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        text(&key),
    ]);
    openssl(&[
        "req",
        "-new",
        "-key",
        text(&key),
        "-subj",
        "/CN=terminal",
        "-outform",
        "DER",
        "-out",
        text(&csr),
    ]);
    let base64 = openssl(&["base64", "-in", text(&csr)]);
    std::fs::write(&csr, base64).unwrap();
    (key, csr)
}

fn simpleenroll(daemon: &Daemon, user: &str, body: &std::path::Path) -> Reply {
    let data = format!("@{}", text(body));
    let mut arguments = vec![
        "-H",
        "content-type: application/pkcs10",
        "--data-binary",
        &data,
    ];
    if !user.is_empty() {
        arguments.extend(["-u", user]);
    }
    daemon.agents("/.well-known/est/simpleenroll", &arguments)
}

/// The certificates of a certs-only answer, as PEM.
pub fn certificates(house: &House, reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    let (encoded, der) = (house.scratch("est.b64"), house.scratch("est.p7"));
    std::fs::write(&encoded, &reply.body).unwrap();
    openssl(&["base64", "-d", "-in", text(&encoded), "-out", text(&der)]);
    openssl(&["pkcs7", "-inform", "DER", "-in", text(&der), "-print_certs"])
}

/// Enrols a fresh key of this terminal; its certificate and key.
pub fn enrol(house: &House, daemon: &Daemon, terminal: &str, token: &str) -> Shown {
    let (key, csr) = request(house, terminal);
    let reply = simpleenroll(daemon, &format!("{terminal}:{token}"), &csr);
    let certificate = house.scratch(&format!("{terminal}.pem"));
    let issuing = std::fs::read_to_string(house.dir().join("issuing.pem")).unwrap();
    std::fs::write(&certificate, certificates(house, &reply) + &issuing).unwrap();
    Shown::of(certificate, key)
}

/// Asks with a fresh key, whatever comes of it.
pub fn try_enrol(house: &House, daemon: &Daemon, terminal: &str, token: &str) -> Reply {
    let (_, csr) = request(house, &format!("{terminal}-again"));
    simpleenroll(daemon, &format!("{terminal}:{token}"), &csr)
}

#[test]
fn cacerts_holds_the_root_whose_fingerprint_init_printed() {
    let house = House::new();
    let daemon = house.serve();
    let shown = certificates(&house, &daemon.agents("/.well-known/est/cacerts", &[]));
    let root = std::fs::read_to_string(house.dir().join("root.pem")).unwrap();
    let body: String = root.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(shown.replace('\n', "").contains(&body), "{shown}");
    assert_eq!(shown.matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn a_terminal_enrols_with_openssl_and_curl() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let (_, csr) = request(&house, "pc");
    let reply = simpleenroll(&daemon, &format!("{terminal}:{token}"), &csr);
    let pem = certificates(&house, &reply);
    let leaf = house.scratch("pc.pem");
    std::fs::write(&leaf, &pem).unwrap();
    let (root, issuing) = (
        house.dir().join("root.pem"),
        house.dir().join("issuing.pem"),
    );
    openssl(&[
        "verify",
        "-x509_strict",
        "-purpose",
        "sslclient",
        "-CAfile",
        text(&root),
        "-untrusted",
        text(&issuing),
        text(&leaf),
    ]);
    let names = openssl(&[
        "x509",
        "-in",
        text(&leaf),
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    assert!(
        names.contains(&format!("URI:spiffe://m2key.example/terminal/{terminal}")),
        "{names}"
    );
    let week = (7 * 24 * 3600).to_string();
    let still_good = std::process::Command::new("openssl")
        .args(["x509", "-in", text(&leaf), "-noout", "-checkend", &week])
        .output()
        .unwrap();
    assert!(
        !still_good.status.success(),
        "a terminal's certificate lives 7 days"
    );
    let metrics = daemon.loopback("/metrics").body;
    assert!(metrics.contains("m2key_authority_enrolments_total{outcome=\"issued\"} 1"));
}

#[test]
fn a_join_token_is_good_for_one_key_and_that_key_may_ask_again() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let user = format!("{terminal}:{token}");
    let (_, csr) = request(&house, "first");
    assert_eq!(simpleenroll(&daemon, &user, &csr).status, 200);
    assert_eq!(
        simpleenroll(&daemon, &user, &csr).status,
        200,
        "a lost answer locks nobody out"
    );
    let (_, other) = request(&house, "second");
    simpleenroll(&daemon, &user, &other).problem(401, "join-token-refused");
}

#[test]
fn the_secret_part_of_the_join_token_is_enough() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let secret = token.rsplit('-').next().unwrap();
    let (_, csr) = request(&house, "pc");
    let reply = simpleenroll(&daemon, &format!("{terminal}:{secret}"), &csr);
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn a_join_token_of_another_terminal_is_refused() {
    let house = House::new();
    let daemon = house.serve();
    let ((terminal, _), (_, others_token)) = (house.terminal(), house.terminal());
    let (_, csr) = request(&house, "pc");
    let user = format!("{terminal}:{others_token}");
    simpleenroll(&daemon, &user, &csr).problem(401, "join-token-refused");
}

#[test]
fn without_a_join_token_nothing_is_issued() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let (_, csr) = request(&house, "pc");
    simpleenroll(&daemon, "", &csr).problem(401, "join-token-refused");
    let damaged = format!("{terminal}:{}", &token[..token.len() - 1]);
    simpleenroll(&daemon, &damaged, &csr).problem(401, "join-token-refused");
}

#[test]
fn a_bad_request_does_not_cost_the_join_token() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let user = format!("{terminal}:{token}");
    let junk = house.scratch("junk");
    std::fs::write(&junk, "this is no request").unwrap();
    simpleenroll(&daemon, &user, &junk).problem(400, "request-refused");
    std::fs::write(&junk, vec![b'A'; 100_000]).unwrap();
    simpleenroll(&daemon, &user, &junk).problem(413, "body-too-large");
    let (_, csr) = request(&house, "pc");
    assert_eq!(simpleenroll(&daemon, &user, &csr).status, 200);
}

#[test]
fn a_request_for_another_name_is_refused() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let (key, _) = request(&house, "pc");
    let csr = house.scratch("named.pem");
    let name = "subjectAltName=URI:spiffe://m2key.example/operator/root";
    openssl(&[
        "req",
        "-new",
        "-key",
        text(&key),
        "-subj",
        "/CN=x",
        "-addext",
        name,
        "-out",
        text(&csr),
    ]);
    let reply = simpleenroll(&daemon, &format!("{terminal}:{token}"), &csr);
    reply.problem(400, "request-refused");
    assert!(
        reply.body.contains("a name that it will not get"),
        "{reply:?}"
    );
}

#[test]
fn a_banned_terminal_does_not_enrol() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    assert_eq!(
        house
            .verb(&["terminal", "ban", &terminal, "--reason", "stolen"])
            .code,
        0
    );
    let (_, csr) = request(&house, "pc");
    let reply = simpleenroll(&daemon, &format!("{terminal}:{token}"), &csr);
    reply.problem(403, "terminal-refused");
    let said = house.verb(&["terminal", "join", &terminal]);
    said.refused(1, "or it is banned", "List what there is");
}

#[test]
fn a_ban_cuts_the_open_connection_of_that_terminal() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let address = format!("localhost:{}", daemon.port("agents"));
    let curl = shown.curl();
    let mut connection = std::process::Command::new("openssl")
        .args([
            "s_client", "-connect", &address, "-quiet", "-cert", curl[1], "-key", curl[3],
        ])
        .args(["-cert_chain", curl[1]])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // One request through it, so that the authority knows whose connection it is.
    use std::io::{BufRead, BufReader, Write};
    let get = b"GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n";
    connection.stdin.as_mut().unwrap().write_all(get).unwrap();
    let mut answer = BufReader::new(connection.stdout.take().unwrap());
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.contains("200"), "{line}");
    assert_eq!(
        house
            .verb(&["terminal", "ban", &terminal, "--reason", "stolen"])
            .code,
        0
    );
    answer.lines().for_each(drop);
    connection.wait().unwrap();
    let metrics = daemon.loopback("/metrics").body;
    let cut = "m2key_authority_connections_refused_total{listener=\"agents\",reason=\"banned\"} 1";
    assert!(metrics.contains(cut), "{metrics}");
}

#[test]
fn join_tokens_are_listed_and_taken_back() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    assert_eq!(house.verb(&["terminal", "join", &terminal]).code, 0);
    let list = |more: &[&str]| {
        let verb = [
            "terminal",
            "join",
            "list",
            "--terminal",
            &terminal,
            "--json",
        ];
        let said = house.verb(&[&verb[..], more].concat()).json();
        said["join_tokens"].as_array().unwrap().clone()
    };
    let (_, csr) = request(&house, "pc");
    let user = format!("{terminal}:{token}");
    assert_eq!(simpleenroll(&daemon, &user, &csr).status, 200);
    let open = list(&[]);
    assert_eq!(open.len(), 1, "the used one is not open: {open:?}");
    let states: Vec<_> = list(&["--all"])
        .iter()
        .map(|it| it["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states, ["open", "used"]);

    let id = open[0]["id"].as_str().unwrap();
    let said = house.verb(&["terminal", "join", "revoke", id]);
    assert!(said.out.contains("revoked"), "{said:?}");
    assert!(list(&[]).is_empty());
    let used = list(&["--all"])[1]["id"].as_str().unwrap().to_owned();
    assert_eq!(house.verb(&["terminal", "join", "revoke", &used]).code, 0);
    simpleenroll(&daemon, &user, &csr).problem(401, "join-token-refused");
    let said = house.verb(&["terminal", "join", "revoke", "0000000000000000"]);
    said.refused(1, "no join token 0000000000000000", "List what there is");
    let said = house.verb(&["terminal", "join", "revoke", "short"]);
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn a_join_token_that_was_taken_back_enrols_nobody() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let listed = house.verb(&["terminal", "join", "list"]);
    let id = listed.out.split_whitespace().next().unwrap().to_owned();
    assert_eq!(house.verb(&["terminal", "join", "revoke", &id]).code, 0);
    let (_, csr) = request(&house, "pc");
    let reply = simpleenroll(&daemon, &format!("{terminal}:{token}"), &csr);
    reply.problem(401, "join-token-refused");
}
