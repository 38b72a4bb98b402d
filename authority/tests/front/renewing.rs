//! Does a terminal keep its name for years with nothing but openssl and curl, and nobody else with it?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use authority::services::enrolment::enrol;
use authority::services::join::JoinToken;
use authority::services::operators::{
    AlarmList, CertificateShow, CertificateView, TerminalBan, TerminalJoin, Verb,
};
use authority::services::renewal::{RENEWALS_MAX, renew};
use authority::store::{AlarmKind, Revocations};
use pki::{SoftwareKey, SpiffeId, csr};
use protocol::ids::TerminalId;

use crate::house::{openssl, text};
use crate::stage::{DAY_MS, Machine, Stage, certificates};

async fn certificate(stage: &Stage, serial: &str) -> CertificateView {
    let show = CertificateShow {
        serial: serial.into(),
    };
    show.run(&stage.app).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_renews_with_openssl_and_curl() {
    let stage = Stage::set().await;
    let (machine, old) = stage.enrolled().await;
    assert_eq!(stage.ask(Some(&old)).await.status, 200);
    machine.request("next");
    let reply = stage.renew(&machine, &old, "next").await;
    let new = machine.keep("next", &reply, &stage);
    let leaf = machine.at("next", "pem");
    let dir = stage.dir.path();
    let (root, issuing) = (dir.join("root.pem"), dir.join("issuing.pem"));
    let verify = ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"];
    let chain = [text(&root), "-untrusted", text(&issuing), text(&leaf)];
    openssl(&[&verify[..], &chain[..]].concat());
    let metrics = stage.app.metrics.text();
    assert!(metrics.contains("m2key_authority_renewals_total{outcome=\"issued\"} 1"));

    assert_eq!(stage.ask(Some(&old)).await.status, 200, "not used yet");
    let said = stage.ask(Some(&new)).await;
    assert_eq!((said.status, &said.body), (200, &machine.terminal));
    let reply = stage.ask(Some(&old)).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("a later certificate"), "{reply:?}");
    machine.request("late");
    let reply = stage.renew(&machine, &old, "late").await;
    reply.problem(403, "certificate-refused");
    let shown = certificate(&stage, &machine.serial("next")).await;
    assert_eq!(shown.state, "in force");
    assert_eq!(shown.renews, Some(machine.serial("first")));
    let shown = certificate(&stage, &machine.serial("first")).await;
    assert_eq!(shown.state, "superseded");

    let alarms = async || stage.store.alarms(None, 9).await.unwrap();
    assert_eq!(alarms().await, [], "it may have been under way");
    stage.clock.by(6 * 60_000);
    let reply = stage.ask(Some(&old)).await;
    reply.problem(403, "certificate-refused");
    let rung = &alarms().await[0].alarm;
    assert_eq!(rung.kind, AlarmKind::Superseded);
    assert_eq!(rung.certificate, machine.serial("first"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_comes_again_byte_for_byte() {
    let stage = Stage::set().await;
    let machine = stage.machine().await;
    machine.request("first");
    let lost = stage.enrol(&machine, "first").await;
    let again = stage.enrol(&machine, "first").await;
    assert_eq!((again.status, &again.body), (200, &lost.body));
    let old = machine.keep("first", &again, &stage);

    machine.request("next");
    let lost = stage.renew(&machine, &old, "next").await;
    let again = stage.renew(&machine, &old, "next").await;
    assert_eq!((again.status, &again.body), (200, &lost.body));
    let new = machine.keep("next", &again, &stage);
    assert_eq!(stage.ask(Some(&new)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_for_longer_than_it_was_good_locks_nobody_out() {
    let stage = Stage::set().await;
    stage.clock.by(-10 * DAY_MS);
    let (machine, old) = stage.enrolled().await;
    machine.request("next");
    let lost = stage.renew(&machine, &old, "next").await;
    stage.clock.by(0);
    let again = stage.renew(&machine, &old, "next").await;
    assert_ne!(again.body, lost.body, "that one has ended, too");
    let new = machine.keep("next", &again, &stage);
    assert_eq!(stage.ask(Some(&new)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_key_for_one_certificate_is_refused_and_rings_the_alarm() {
    let stage = Stage::set().await;
    let (machine, old) = stage.enrolled().await;
    machine.request("next");
    machine.request("stolen");
    assert_eq!(stage.renew(&machine, &old, "next").await.status, 200);
    for _ in 0..2 {
        let reply = stage.renew(&machine, &old, "stolen").await;
        reply.problem(409, "successor-exists");
    }
    let alarms = AlarmList {
        terminal: None,
        closed: false,
    }
    .run(&stage.app)
    .await
    .unwrap()
    .alarms;
    let [alarm] = alarms.as_slice() else {
        panic!("{alarms:?}")
    };
    assert_eq!(
        (alarm.terminal.to_string(), alarm.kind.as_str(), alarm.times),
        (machine.terminal.clone(), "second-key", 1),
        "the second one came within a minute"
    );
    assert_eq!(alarm.certificate, machine.serial("first"));
    assert_eq!(stage.app.metrics.clone_alarms.get(), 2);
    let again = stage.renew(&machine, &old, "next").await;
    assert_eq!(again.status, 200, "the first key is not punished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_certified_once() {
    let stage = Stage::set().await;
    let (machine, old) = stage.enrolled().await;
    let reply = stage.renew(&machine, &old, "first").await;
    reply.problem(409, "key-reused");
    let other = stage.machine().await;
    std::fs::copy(machine.at("first", "p10"), other.at("borrowed", "p10")).unwrap();
    let reply = stage.enrol(&other, "borrowed").await;
    reply.problem(409, "key-reused");
    other.request("own");
    let reply = stage.enrol(&other, "own").await;
    assert_eq!(reply.status, 200, "the join token was not spent: {reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_terminal_renews_within_the_grace_and_does_nothing_else() {
    let stage = Stage::set().await;
    stage.clock.by(-10 * DAY_MS);
    let (machine, expired) = stage.enrolled().await;
    stage.clock.by(0);
    let reply = stage.ask(Some(&expired)).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it has expired"), "{reply:?}");
    let reply = stage.curl("/v1/schedule", Some(&expired), &[]).await;
    reply.problem(403, "certificate-refused");
    machine.request("next");
    let reply = stage.renew(&machine, &expired, "next").await;
    let new = machine.keep("next", &reply, &stage);
    assert_eq!(stage.ask(Some(&new)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_ends() {
    let stage = Stage::set().await;
    stage.clock.by(-10 * DAY_MS);
    let (machine, expired) = stage.enrolled().await;
    machine.request("next");
    stage.clock.by(27 * DAY_MS + 60_000);
    let reply = stage.renew(&machine, &expired, "next").await;
    reply.problem(403, "renewal-too-late");
    stage.clock.by(27 * DAY_MS - 60_000);
    let reply = stage.renew(&machine, &expired, "next").await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_terminal_does_not_renew_in_time_or_late() {
    let stage = Stage::set().await;
    stage.clock.by(-10 * DAY_MS);
    let (late, expired) = stage.enrolled().await;
    stage.clock.by(0);
    let (early, current) = stage.enrolled().await;
    for machine in [&late, &early] {
        machine.request("next");
        let ban = TerminalBan {
            terminal: machine.terminal.parse().unwrap(),
            reason: "stolen".into(),
        };
        ban.run(&stage.app).await.unwrap();
    }
    let reply = stage.renew(&late, &expired, "next").await;
    reply.problem(403, "terminal-refused");
    let reply = stage.renew(&early, &current, "next").await;
    reply.problem(403, "terminal-refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_terminal_of_another_ca_does_not_get_through_tls() {
    let (stage, foreign) = (Stage::set().await, Stage::set().await);
    foreign.clock.by(-10 * DAY_MS);
    let (machine, expired) = foreign.enrolled().await;
    machine.request("next");
    let reply = stage.renew(&machine, &expired, "next").await;
    assert_eq!(reply.status, 0, "{reply:?}");
    assert!(reply.err.contains("unknown ca"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_nothing_is_renewed() {
    let stage = Stage::set().await;
    let (machine, _) = stage.enrolled().await;
    machine.request("next");
    let body = format!("@{}", text(&machine.at("next", "p10")));
    let user = format!("{}:{}", machine.terminal, machine.join_token);
    let own = ["-u", &user, "--data-binary", &body].map(String::from);
    let path = "/.well-known/est/simplereenroll";
    let reply = stage.curl(path, None, &own).await;
    reply.problem(401, "certificate-needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_issuing_ca_is_away_the_same_request_succeeds_later() {
    let stage = Stage::set().await;
    let machine = stage.machine().await;
    machine.request("first");
    stage.issuer.fails.store(true, Ordering::SeqCst);
    let reply = stage.enrol(&machine, "first").await;
    reply.problem(503, "not-ready");
    stage.issuer.fails.store(false, Ordering::SeqCst);
    let reply = stage.enrol(&machine, "first").await;
    let old = machine.keep("first", &reply, &stage);
    machine.request("next");
    stage.issuer.fails.store(true, Ordering::SeqCst);
    let reply = stage.renew(&machine, &old, "next").await;
    reply.problem(503, "not-ready");
    stage.issuer.fails.store(false, Ordering::SeqCst);
    let reply = stage.renew(&machine, &old, "next").await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_is_refused_and_costs_nothing() {
    let stage = Stage::set().await;
    let (machine, old) = stage.enrolled().await;
    machine.request("good");
    bad_requests(&machine);
    let refused = [
        ("rsa", "its key is not P-256"),
        ("p384", "its key is not P-256"),
        ("sha512", "not ECDSA with SHA-256"),
        ("forged", "its signature does not fit its key"),
        ("cut", "exactly one PKCS#10 request"),
        ("trailing", "exactly one PKCS#10 request"),
        ("operator", "a name that it will not get"),
        ("foreign", "a name that it will not get"),
        ("host", "a name that it will not get"),
    ];
    for (name, why) in refused {
        let reply = stage.renew(&machine, &old, name).await;
        reply.problem(400, "request-refused");
        assert!(reply.body.contains(why), "{name}: {reply:?}");
    }
    let reply = stage.renew(&machine, &old, "huge").await;
    reply.problem(413, "body-too-large");
    let reply = stage.renew(&machine, &old, "good").await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// Requests as openssl makes them, and damaged ones.
fn bad_requests(machine: &Machine) {
    let key = |name: &str, arguments: &[&str]| {
        let path = machine.at(name, "key");
        openssl(&[&["genpkey", "-out", text(&path)], arguments].concat());
        machine.request_of(name, &[]);
    };
    let bits = "rsa_keygen_bits:2048";
    key("rsa", &["-algorithm", "RSA", "-pkeyopt", bits]);
    let curve = "ec_paramgen_curve:P-384";
    key("p384", &["-algorithm", "EC", "-pkeyopt", curve]);
    let named = |name: &str, more: &[&str]| {
        std::fs::copy(machine.at("good", "key"), machine.at(name, "key")).unwrap();
        machine.request_of(name, more);
    };
    named("sha512", &["-sha512"]);
    let san = |uri: &str| format!("subjectAltName={uri}");
    for (name, uri) in [
        ("operator", "URI:spiffe://m2key.example/operator/root"),
        ("foreign", "URI:spiffe://m2key.example/terminal/00000000"),
        ("host", "DNS:localhost"),
    ] {
        named(name, &["-addext", &san(uri)]);
    }
    let comment = format!("nsComment={}", "x".repeat(8_000));
    named("huge", &["-addext", &comment]);
    let good = std::fs::read(machine.at("good", "der")).unwrap();
    let mut forged = good.clone();
    // Within the subject's name: what was signed is another.
    let place = forged.windows(8).position(|it| it == b"terminal").unwrap();
    forged[place] = b'T';
    let trailing = [&good[..], &[0]].concat();
    for (name, der) in [
        ("forged", &forged[..]),
        ("cut", &good[..good.len() - 1]),
        ("trailing", &trailing[..]),
    ] {
        let path = machine.at(name, "der");
        std::fs::write(&path, der).unwrap();
        let base64 = openssl(&["base64", "-in", text(&path)]);
        std::fs::write(machine.at(name, "p10"), base64).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csrattrs_says_what_a_request_must_be_like() {
    let stage = Stage::set().await;
    let reply = stage.curl("/.well-known/est/csrattrs", None, &[]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let (encoded, der) = (stage.dir.path().join("a.b64"), stage.dir.path().join("a"));
    std::fs::write(&encoded, &reply.body).unwrap();
    openssl(&["base64", "-d", "-in", text(&encoded), "-out", text(&der)]);
    let read = openssl(&["asn1parse", "-inform", "DER", "-in", text(&der)]);
    for name in ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"] {
        assert!(read.contains(name), "{read}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cacerts_shows_every_issuing_ca_that_is_believed() {
    let stage = Stage::set().await;
    stage.supersede_issuing(pki::KeyState::Superseded).await;
    let shown = |reply| certificates(stage.dir.path(), &reply);
    let path = "/.well-known/est/cacerts";
    let both = shown(stage.curl(path, None, &[]).await);
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 3, "{both}");
    for ca in stage.issuer.cas.lock().unwrap().iter_mut().flatten() {
        if ca.state == pki::KeyState::Superseded {
            ca.state = pki::KeyState::Tainted;
        }
    }
    let one = shown(stage.curl(path, None, &[]).await);
    assert_eq!(one.matches("BEGIN CERTIFICATE").count(), 2, "{one}");
}

/// A key and a request of this terminal, in memory.
fn csr_of(stage: &Stage, terminal: TerminalId) -> Vec<u8> {
    let key = SoftwareKey::generate().unwrap();
    let id = SpiffeId::Terminal(terminal);
    csr::new(&key, &id, stage.app.issuer.trust_domain()).unwrap()
}

/// Two at the same time; how many succeeded, and every refusal.
async fn race<F>(tasks: [F; 2]) -> (usize, Vec<String>)
where
    F: Future<Output = Result<pki::Certificate, authority::services::Failure>> + Send + 'static,
{
    let start = Arc::new(tokio::sync::Barrier::new(2));
    let running = tasks.map(|task| {
        let start = start.clone();
        tokio::spawn(async move {
            start.wait().await;
            task.await
        })
    });
    let (mut won, mut refusals) = (0, Vec::new());
    for done in running {
        match done.await.unwrap() {
            Ok(_) => won += 1,
            Err(failure) => {
                let problem = failure.into_problem().problem_type();
                refusals.push(problem.unwrap().slug().to_owned());
            }
        }
    }
    (won, refusals)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_machines_that_race_for_one_join_token_exactly_one_enrols() {
    const RACES: usize = 1_000;
    let stage = Stage::set().await;
    let terminal = stage.added().await.terminal;
    for number in 0..RACES {
        let join = TerminalJoin { terminal };
        let token = join.run(&stage.app).await.unwrap().join_token;
        let token: JoinToken = token.parse().unwrap();
        let enrolling = || {
            let (app, token) = (stage.app.clone(), token.clone());
            let request = csr_of(&stage, terminal);
            async move { enrol(&app, &token, &request).await }
        };
        let raced = race([enrolling(), enrolling()]).await;
        let one = (1, vec!["join-token-refused".to_owned()]);
        assert_eq!(raced, one, "race {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_keys_that_race_for_one_certificate_exactly_one_is_its_successor() {
    const RACES: usize = 100;
    let stage = Stage::set().await;
    for number in 0..RACES {
        let added = stage.added().await;
        let (terminal, app) = (added.terminal, &stage.app);
        let token: JoinToken = added.join_token.parse().unwrap();
        let first = enrol(app, &token, &csr_of(&stage, terminal)).await.unwrap();
        let renewing = || {
            let (app, serial) = (app.clone(), first.serial_hex());
            let request = csr_of(&stage, terminal);
            async move { renew(&app, terminal, &serial, &request).await }
        };
        let raced = race([renewing(), renewing()]).await;
        let one = (1, vec!["successor-exists".to_owned()]);
        assert_eq!(raced, one, "race {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_twice_at_once_gets_one_certificate() {
    let stage = Stage::set().await;
    let added = stage.added().await;
    let terminal = added.terminal;
    let token: JoinToken = added.join_token.parse().unwrap();
    let request = csr_of(&stage, terminal);
    let enrolling = || {
        let (app, token, request) = (stage.app.clone(), token.clone(), request.clone());
        async move { enrol(&app, &token, &request).await }
    };
    let (one, other) = tokio::join!(enrolling(), enrolling());
    let first = one.unwrap();
    assert_eq!(first, other.unwrap());
    let request = csr_of(&stage, terminal);
    let renewing = || {
        let (app, serial, request) = (stage.app.clone(), first.serial_hex(), request.clone());
        async move { renew(&app, terminal, &serial, &request).await }
    };
    let (one, other) = tokio::join!(renewing(), renewing());
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_renews_without_end_is_told_to_wait() {
    let stage = Stage::set().await;
    let added = stage.added().await;
    let (terminal, app) = (added.terminal, &stage.app);
    let token: JoinToken = added.join_token.parse().unwrap();
    let request = || csr_of(&stage, terminal);
    let mut last = enrol(app, &token, &request()).await.unwrap();
    for _ in 1..RENEWALS_MAX {
        let renewed = renew(app, terminal, &last.serial_hex(), &request()).await;
        last = renewed.unwrap();
    }
    let refused = renew(app, terminal, &last.serial_hex(), &request()).await;
    let problem = refused.unwrap_err().into_problem();
    assert_eq!(problem.problem_type().unwrap().slug(), "busy");
    assert_eq!(problem.retry_after_s, Some(3_600));
    stage.clock.by(DAY_MS + 60_000);
    let renewed = renew(app, terminal, &last.serial_hex(), &request()).await;
    assert!(renewed.is_ok(), "{renewed:?}");
}
