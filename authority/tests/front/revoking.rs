//! Is what was revoked refused at once, and do others learn of it from a list that openssl believes?

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use authority::clock::Stopwatch;
use authority::services::operators::{CertificateRevoke, TerminalBan, Verb};
use authority::services::readiness;
use authority::store::{Certificate, Identities, Revocations, Subject};
use pki::KeyState;
use pki::crl::Reason;

use crate::certificates::{Shown, operator};
use crate::enrolling::enrol;
use crate::house::{Daemon, House, Reply, openssl, text};
use crate::stage::{DAY_MS, Machine, Stage};

const HOUR_MS: i64 = 3_600_000;
/// Nothing here takes so long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

async fn revoke(stage: &Stage, serial: &str, reason: &str) {
    let verb = CertificateRevoke {
        serial: serial.into(),
        reason: reason.into(),
    };
    verb.run(&stage.app).await.unwrap();
}

fn issuing_key(stage: &Stage) -> String {
    stage.app.issuer.chain().issuing().key_id_hex().unwrap()
}

/// Makes the lists now; the one of the first issuing CA, as a file.
async fn list(stage: &Stage) -> std::path::PathBuf {
    let now = stage.app.clock.now();
    stage.journey.crls.publish_all(now).await.unwrap();
    let published = stage.journey.crls.get(&issuing_key(stage)).unwrap();
    let path = stage.dir.path().join("list.crl");
    std::fs::write(&path, &published.der).unwrap();
    path
}

/// What openssl reads in a list, after it has verified it.
fn read(stage: &Stage, list: &std::path::Path) -> String {
    let issuing = stage.dir.path().join("issuing.pem");
    let show = [
        "crl",
        "-inform",
        "DER",
        "-in",
        text(list),
        "-noout",
        "-text",
    ];
    let ca = ["-CAfile", text(&issuing)];
    let output = Command::new("openssl")
        .args([&show[..], &ca[..]].concat())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("verify OK"), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn number_of(text: &str) -> u64 {
    let after = text.split("X509v3 CRL Number:").nth(1).unwrap();
    let number = after.trim_start().lines().next().unwrap().trim();
    match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => number.parse().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_refused_at_once_and_openssl_reads_why() {
    let stage = Stage::set().await;
    let (machine, shown) = stage.enrolled().await;
    assert_eq!(stage.ask(Some(&shown)).await.status, 200);
    let before = list(&stage).await;
    assert!(openssl_accepts(&stage, &machine, &before));

    revoke(&stage, &machine.serial("first"), "key-compromise").await;
    let reply = stage.ask(Some(&shown)).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("revoked (key-compromise)"), "{reply:?}");
    machine.request("next");
    let reply = stage.renew(&machine, &shown, "next").await;
    reply.problem(403, "certificate-refused");

    let after = list(&stage).await;
    let text = read(&stage, &after);
    let serial = machine.serial("first").to_ascii_uppercase();
    assert!(text.contains(&format!("Serial Number: {serial}")), "{text}");
    assert!(text.contains("Key Compromise"), "{text}");
    assert!(!openssl_accepts(&stage, &machine, &after));
}

fn openssl_accepts(stage: &Stage, machine: &Machine, list: &std::path::Path) -> bool {
    let dir = stage.dir.path();
    let pem = dir.join("list.pem");
    let convert = [
        "crl",
        "-inform",
        "DER",
        "-in",
        text(list),
        "-out",
        text(&pem),
    ];
    openssl(&convert);
    Command::new("openssl")
        .args(["verify", "-crl_check", "-CAfile"])
        .arg(dir.join("root.pem"))
        .args(["-untrusted", text(&dir.join("issuing.pem"))])
        .args(["-CRLfile", text(&pem)])
        .arg(machine.at("first", "pem"))
        .output()
        .unwrap()
        .status
        .success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_puts_every_certificate_of_the_terminal_on_the_list() {
    let stage = Stage::set().await;
    let (machine, old) = stage.enrolled().await;
    machine.request("next");
    let reply = stage.renew(&machine, &old, "next").await;
    machine.keep("next", &reply, &stage);
    let renewed = list(&stage).await;
    assert!(read(&stage, &renewed).contains("No Revoked Certificates"));
    let ban = TerminalBan {
        terminal: machine.terminal.parse().unwrap(),
        reason: "stolen".into(),
    };
    ban.run(&stage.app).await.unwrap();
    let banned = list(&stage).await;
    let text = read(&stage, &banned);
    for name in ["first", "next"] {
        let serial = machine.serial(name).to_ascii_uppercase();
        assert!(text.contains(&format!("Serial Number: {serial}")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_renewed_is_not_on_the_list() {
    let stage = Stage::set().await;
    let (machine, old) = stage.enrolled().await;
    machine.request("next");
    let reply = stage.renew(&machine, &old, "next").await;
    let new = machine.keep("next", &reply, &stage);
    assert_eq!(stage.ask(Some(&new)).await.status, 200);
    let list = list(&stage).await;
    assert!(read(&stage, &list).contains("No Revoked Certificates"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_never_goes_back_even_when_the_signer_has_seen_a_higher_one() {
    let stage = Stage::set().await;
    let mut last = 0;
    for _ in 0..2 {
        let now = number_of(&read(&stage, &list(&stage).await));
        assert!(now > last, "{now} after {last}");
        last = now;
    }
    // As after a restore of an older database.
    stage.issuer.highest_number.store(700, Ordering::SeqCst);
    assert_eq!(number_of(&read(&stage, &list(&stage).await)), 701);
    assert_eq!(number_of(&read(&stage, &list(&stage).await)), 702);
    stage.issuer.fails.store(true, Ordering::SeqCst);
    let now = stage.app.clock.now();
    assert!(stage.journey.crls.publish_all(now).await.is_err());
    let kept = stage.journey.crls.get(&issuing_key(&stage)).unwrap();
    assert_eq!(kept.number, 702, "the last list stays");
    let warned = async |hours: i64| {
        stage.clock.by(hours * HOUR_MS);
        let found = readiness::check(&stage.app).await;
        found.warnings.iter().any(|it| it.contains("not made anew"))
    };
    assert!(!warned(2).await && warned(4).await);
    stage.issuer.fails.store(false, Ordering::SeqCst);
    assert!(number_of(&read(&stage, &list(&stage).await)) > 702);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_certificate_leaves_the_list_one_list_after_its_end() {
    let stage = Stage::set().await;
    let now = stage.app.clock.now();
    let certificate = Certificate {
        serial: "0123456789abcdef0123456789abcdef".into(),
        subject: Subject::Operator("ops".into()),
        spki_sha256: [9; 32],
        not_before: now,
        not_after: now + DAY_MS,
        issuer_key: issuing_key(&stage),
        der: Vec::new(),
    };
    let serial = certificate.serial.clone();
    stage.store.add_certificate(certificate, now).await.unwrap();
    let revoked = stage
        .store
        .revoke_certificate(&serial, Reason::CessationOfOperation, now);
    revoked.await.unwrap().unwrap();
    let on_the_list = async |after_ms| {
        stage.clock.by(after_ms);
        let text = read(&stage, &list(&stage).await);
        text.contains(&serial.to_ascii_uppercase())
    };
    assert!(on_the_list(DAY_MS - HOUR_MS).await);
    assert!(on_the_list(DAY_MS + HOUR_MS / 2).await, "one past its end");
    assert!(!on_the_list(DAY_MS + 2 * HOUR_MS).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_issuing_ca_that_is_not_retired_has_its_own_list() {
    let stage = Stage::set().await;
    let now = stage.app.clock.now();
    assert_eq!(stage.journey.crls.publish_all(now).await.unwrap(), 1);
    let mut cas = stage.app.issuer.issuing_cas();
    cas[0].state = KeyState::Tainted;
    *stage.issuer.cas.lock().unwrap() = Some(cas.clone());
    assert_eq!(stage.journey.crls.publish_all(now).await.unwrap(), 1);
    cas[0].state = KeyState::Retired;
    *stage.issuer.cas.lock().unwrap() = Some(cas);
    assert_eq!(stage.journey.crls.publish_all(now).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_made_at_once_when_there_is_another_issuing_ca() {
    let stage = Stage::set().await;
    let (crls, key) = (stage.journey.crls.clone(), issuing_key(&stage));
    let running = tokio::spawn(async move { crls.run().await });
    let number_above = async |last| {
        let look = async || loop {
            match stage.journey.crls.get(&key) {
                Some(list) if list.number > last => return list.number,
                _ => tokio::task::yield_now().await,
            }
        };
        let made = tokio::time::timeout(PATIENCE, look()).await;
        made.expect("long before its hour")
    };
    let first = number_above(0).await;
    stage.supersede_issuing(KeyState::Superseded).await;
    number_above(first).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_sent_with_tags_and_not_sent_twice() {
    let stage = Stage::set().await;
    let path = format!("/crl/{}.crl", issuing_key(&stage));
    let reply = stage.curl(&path, None, &[]).await;
    reply.problem(503, "not-ready");
    let reply = stage.curl("/crl/00.crl", None, &[]).await;
    reply.problem(404, "not-found");
    list(&stage).await;
    let reply = stage.curl(&path, None, &["--head".into()]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.body.contains("application/pkix-crl"), "{reply:?}");
    let headers_only = ["-D", "-", "-o", "/dev/null"].map(String::from);
    let head = stage.curl(&path, None, &headers_only).await;
    let header = |name: &str| {
        let line = head.body.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{head:?}"))
            .split_once(": ")
            .unwrap()
            .1
            .trim()
            .to_owned()
    };
    assert_eq!(header("content-type"), "application/pkix-crl");
    assert_eq!(header("cache-control"), "public, max-age=300");
    let ask = async |condition: String| {
        let reply: Reply = stage.curl(&path, None, &["-H".into(), condition]).await;
        reply.status
    };
    let etag = header("etag");
    assert_eq!(ask(format!("if-none-match: {etag}")).await, 304);
    assert_eq!(ask(format!("if-none-match: \"x\", W/{etag}")).await, 304);
    let modified = header("last-modified");
    assert_eq!(ask(format!("if-modified-since: {modified}")).await, 304);
    assert_eq!(ask("if-none-match: \"x\"".into()).await, 200);
    let old = "if-modified-since: Thu, 01 Jan 2026 00:00:00 GMT";
    assert_eq!(ask(old.into()).await, 200);
    stage.clock.by(1_000);
    list(&stage).await;
    assert_eq!(
        ask(format!("if-none-match: {etag}")).await,
        200,
        "a new one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminals_of_an_issuing_ca_that_is_not_active_are_told_to_renew() {
    let stage = Stage::set().await;
    let (machine, shown) = stage.enrolled().await;
    let first_frame = async || {
        let quiet = ["--max-time", "3"].map(String::from);
        let reply = stage.curl("/v1/events", Some(&shown), &quiet).await;
        let data = reply.body.lines().find_map(|it| it.strip_prefix("data:"));
        let data = data.unwrap_or_else(|| panic!("{reply:?}"));
        serde_json::from_str::<serde_json::Value>(data).unwrap()
    };
    stage.journey.look_at_issuing().await.unwrap();
    let frame = first_frame().await;
    assert_eq!(frame["upkeep"]["renew_now"], false, "{frame}");
    stage.supersede_issuing(KeyState::Superseded).await;
    stage.journey.look_at_issuing().await.unwrap();
    let frame = first_frame().await;
    assert_eq!(frame["upkeep"]["renew_now"], true, "{frame}");
    assert_eq!(stage.ask(Some(&shown)).await.body, machine.terminal);
}

/// A connection over which one request was answered.
fn connect(address: &str, shown: &Shown) -> (Child, BufReader<std::process::ChildStdout>) {
    let curl = shown.curl();
    let mut connection = Command::new("openssl")
        .args(["s_client", "-connect", address, "-quiet"])
        .args(["-cert", curl[1], "-key", curl[3], "-cert_chain", curl[1]])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let get = b"GET /.well-known/est/cacerts HTTP/1.1\r\nhost: localhost\r\n\r\n";
    connection.stdin.as_mut().unwrap().write_all(get).unwrap();
    let mut answer = BufReader::new(connection.stdout.take().unwrap());
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.contains("200"), "{line}");
    (connection, answer)
}

#[test]
fn a_revocation_cuts_the_open_connections_of_that_certificate_and_no_other() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    let shown = enrol(&house, &daemon, &terminal, &token);
    let address = format!("localhost:{}", daemon.port("agents"));
    let (mut other, mut others_answer) = connect(&address, &operator(&house));
    let (mut connection, answer) = connect(&address, &shown);
    let listed = house.verb(&["certificate", "list", "--terminal", &terminal, "--json"]);
    let serial = &listed.json()["certificates"][0]["serial"];
    let serial = serial.as_str().unwrap().to_owned();
    let said = house.verb(&[
        "certificate",
        "revoke",
        &serial.to_ascii_uppercase(),
        "--reason",
        "key-compromise",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("key-compromise"), "{said:?}");
    answer.lines().for_each(drop);
    connection.wait().unwrap();
    let metrics = daemon.loopback("/metrics").body;
    let cut = "m2key_authority_connections_refused_total{listener=\"agents\",reason=\"revoked\"} 1";
    assert!(metrics.contains(cut), "{metrics}");
    let get = b"GET /.well-known/est/csrattrs HTTP/1.1\r\nhost: localhost\r\n\r\n";
    other.stdin.as_mut().unwrap().write_all(get).unwrap();
    let mut line = String::new();
    while !line.contains("csrattrs") {
        line.clear();
        assert_ne!(others_answer.read_line(&mut line).unwrap(), 0, "cut, too");
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

fn list_path(house: &House) -> String {
    let issuing = std::fs::read_to_string(house.dir().join("issuing.pem")).unwrap();
    let key = pki::Certificate::from_pem(&issuing).unwrap().key_id_hex();
    format!("/crl/{}.crl", key.unwrap())
}

/// The list that the daemon publishes, in words of openssl, once it is `wanted`.
pub fn fetched_list(house: &House, daemon: &Daemon, wanted: impl Fn(&str) -> bool) -> String {
    let file = house.scratch("fetched.crl");
    let (loopback, path) = (daemon.port("loopback"), list_path(house));
    let url = format!("http://127.0.0.1:{loopback}{path}");
    let show = ["crl", "-inform", "DER", "-noout", "-text", "-in"];
    let started = Stopwatch::start();
    loop {
        if crate::house::curl(&url, &["-o", text(&file)]).status == 200 {
            let list = openssl(&[&show[..], &[text(&file)]].concat());
            if wanted(&list) {
                return list;
            }
        }
        assert!(started.seconds() < 60.0, "no such list");
    }
}

#[test]
fn the_running_daemon_publishes_a_new_list_after_a_revocation() {
    let house = House::new();
    let daemon = house.serve();
    let (terminal, token) = house.terminal();
    enrol(&house, &daemon, &terminal, &token);
    let first = fetched_list(&house, &daemon, |_| true);
    assert!(first.contains("No Revoked Certificates"), "{first}");
    let ban = house.verb(&["terminal", "ban", &terminal, "--reason", "stolen"]);
    assert_eq!(ban.code, 0, "{ban:?}");
    let second = fetched_list(&house, &daemon, |list| list.contains("Privilege Withdrawn"));
    assert!(number_of(&second) > number_of(&first));
    let public = daemon.public(&list_path(&house), &["-o", "/dev/null"]);
    assert_eq!(public.status, 200, "{public:?}");
}
