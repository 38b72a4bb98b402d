//! Does a route that demands a terminal get one, and only a good one?
//!
//! The real listener and store in this process, with a clock that can be moved and the memory HSM.

use authority::clock::{Clock, SystemClock};
use authority::services::enrolment::{enrol, record};
use authority::services::join::JoinToken;
use authority::services::operators::{TerminalBan, Verb};
use authority::store::{Certificate, Subject};
use pki::{IssueRequest, IssueTo, SoftwareKey, SpiffeId, csr};
use protocol::ids::TerminalId;

use crate::certificates::Shown;
use crate::stage::{DAY_MS, Stage};

/// A terminal, enrolled: its id and what it shows.
async fn enrolled(stage: &Stage) -> (TerminalId, Shown) {
    let added = stage.added().await;
    let key = SoftwareKey::generate().unwrap();
    let id = SpiffeId::Terminal(added.terminal);
    let request = csr::new(&key, &id, stage.app.issuer.trust_domain()).unwrap();
    let token: JoinToken = added.join_token.parse().unwrap();
    let certificate = enrol(&stage.app, &token, &request).await.unwrap();
    (added.terminal, stage.shown(&certificate.pem(), &key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_in_its_time_is_known_by_its_certificate() {
    let stage = Stage::set().await;
    let (id, shown) = enrolled(&stage).await;
    let reply = stage.ask(Some(&shown)).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (200, id.to_string().as_str()),
        "{reply:?}"
    );
    stage.ask(None).await.problem(401, "certificate-needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_terminal_is_refused_from_the_commit_on() {
    let stage = Stage::set().await;
    let (terminal, shown) = enrolled(&stage).await;
    let ban = TerminalBan {
        terminal,
        reason: "stolen".into(),
    };
    ban.run(&stage.app).await.unwrap();
    stage
        .ask(Some(&shown))
        .await
        .problem(403, "terminal-refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expires_while_connected_is_refused() {
    let stage = Stage::set().await;
    let (_, shown) = enrolled(&stage).await;
    stage.clock.by(8 * DAY_MS);
    let reply = stage.ask(Some(&shown)).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it has expired"), "{reply:?}");
}

/// What our issuing CA made out to the terminal, recorded as `row` says.
async fn recorded(
    stage: &Stage,
    terminal: TerminalId,
    row: impl FnOnce(Certificate) -> Certificate,
) -> Shown {
    let key = SoftwareKey::generate().unwrap();
    let id = SpiffeId::Terminal(terminal);
    let request = csr::new(&key, &id, stage.app.issuer.trust_domain()).unwrap();
    let csr = csr::check(&request).unwrap();
    let now = authority::clock::unix_seconds(SystemClock.now());
    let to = IssueTo::Terminal(terminal);
    let issued = stage.app.issuer.issue(IssueRequest { csr, to, now });
    let issued = issued.await.unwrap();
    let row = row(record(&issued, Subject::Terminal(terminal)));
    let store = &stage.app.store;
    store.add_certificate(row, SystemClock.now()).await.unwrap();
    stage.shown(&issued.pem, &key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_recorded_for_another_terminal_is_refused() {
    let stage = Stage::set().await;
    let (terminal, _) = enrolled(&stage).await;
    let (other, _) = enrolled(&stage).await;
    let of_other = |row| Certificate {
        subject: Subject::Terminal(other),
        ..row
    };
    let shown = recorded(&stage, terminal, of_other).await;
    let reply = stage.ask(Some(&shown)).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it was not issued here"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_recorded_with_another_key_is_refused() {
    let stage = Stage::set().await;
    let (terminal, _) = enrolled(&stage).await;
    let of_other_key = |row| Certificate {
        spki_sha256: [7; 32],
        ..row
    };
    let shown = recorded(&stage, terminal, of_other_key).await;
    let reply = stage.ask(Some(&shown)).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it was not issued here"), "{reply:?}");
}
