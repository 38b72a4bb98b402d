//! Does a machine come back that was switched off for longer than its certificate lasted?
//!
//! The real agent at the real authority. A certificate that has ended cannot be waited for: it is made under
//! the root, and recorded as if it had been issued then.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use harness::terminal::Terminal;
use harness::wait;
use hsm::{Hsm, KeyKind, KeyLabel, MemoryHsm};
use pki::{
    Certificate, Chain, HsmIssuer, IssueRequest, IssueTo, IssuedCertificate, Issuer, Passphrase,
    RootKey, SoftwareKey, SpiffeId, TrustDomain, csr,
};
use serde_json::Value;

use crate::fleet::Fleet;

const DAY_S: u64 = 24 * 3_600;
/// A certificate lasts a week, so this one ended a day ago.
const ISSUED_DAYS_AGO: u64 = 8;

/// The machine has been off since it enrolled so long ago.
async fn was_off(fleet: &Fleet, terminal: &Terminal) {
    let issued = long_ago(fleet, terminal).await;
    let store = fleet.world.authority.file("store.sqlite");
    let store = rusqlite::Connection::open(store).unwrap();
    store.pragma_update(None, "foreign_keys", false).unwrap();
    let ms = |seconds: u64| i64::try_from(seconds).unwrap() * 1_000;
    let changed = store.execute(
        "UPDATE certificates SET serial = ?1, spki_sha256 = ?2, not_before_ms = ?3, not_after_ms = ?4,
             issued_at_ms = ?3, issuer_key = '' WHERE subject = ?5",
        rusqlite::params![
            issued.serial,
            issued.spki_sha256,
            ms(issued.not_before),
            ms(issued.not_after),
            terminal.id().to_string(),
        ],
    );
    assert_eq!(changed.unwrap(), 1);
    store.execute("DELETE FROM certificate_bytes", []).unwrap();
}

/// Puts key and certificate into the agent's folder.
async fn long_ago(fleet: &Fleet, terminal: &Terminal) -> IssuedCertificate {
    let authority = &fleet.world.authority;
    let passphrase = Passphrase::from_file(&authority.file("root/passphrase")).unwrap();
    let root_key = RootKey::load(&authority.file("root/root.key"), &passphrase).unwrap();
    let root = Certificate::load(&authority.root()).unwrap();
    let at = now_s() - ISSUED_DAYS_AGO * DAY_S;
    let (hsm, label): (Arc<dyn Hsm>, _) = (Arc::new(MemoryHsm::new()), KeyLabel("then".into()));
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let point = hsm.public_key(&label).await.unwrap();
    let issuing = root_key.sign_issuing(&root, &point, at).unwrap();
    let chain = Chain::new(issuing.clone(), root).unwrap();
    let domain = TrustDomain::default();
    let issuer = HsmIssuer::open(hsm, label, chain, domain.clone())
        .await
        .unwrap();
    let (key, id) = (
        SoftwareKey::generate().unwrap(),
        SpiffeId::Terminal(terminal.id()),
    );
    let csr = csr::check(&csr::new(&key, &id, &domain).unwrap()).unwrap();
    let to = IssueTo::Terminal(terminal.id());
    let issued = issuer
        .issue(IssueRequest { csr, to, now: at })
        .await
        .unwrap();
    std::fs::write(
        terminal.file("agent.pem"),
        issued.pem.clone() + &issuing.pem(),
    )
    .unwrap();
    std::fs::remove_file(terminal.file("agent.key")).unwrap();
    key.save(&terminal.file("agent.key")).unwrap();
    issued
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_certificate_has_ended_renews_within_the_grace_and_goes_on() {
    let mut fleet = Fleet::of(1).await.unwrap();
    fleet.world.terminals[0].kill_agent();
    fleet.world.authority.stop().await.unwrap();
    was_off(&fleet, &fleet.world.terminals[0]).await;

    // Without any grace it stays outside, and says whom to ask.
    let config = fleet.world.authority.config();
    let before = std::fs::read_to_string(&config).unwrap();
    let strict = format!("{before}\n[enrolment]\nrenewal_grace_days = 0\n");
    std::fs::write(&config, strict).unwrap();
    fleet.world.authority.serve().await.unwrap();
    fleet.world.terminals[0].start().await.unwrap();
    let kiosk = fleet.world.terminals[0].kiosk();
    kiosk.shows("out-of-service").await.unwrap();
    fleet.world.terminals[0].kill_agent();
    fleet.world.authority.stop().await.unwrap();

    std::fs::write(&config, before).unwrap();
    fleet.world.authority.serve().await.unwrap();
    fleet.world.terminals[0].run().await.unwrap();
    fleet.pays_again(0).await.unwrap();
    let desk = fleet.desk();
    let line = format!("certificate list --terminal {}", fleet.id(0));
    let renewed = async || {
        let listed = desk.ok(&line)["certificates"].clone();
        (listed[0]["state"] == "in force" && listed[1]["serial"].is_string()).then_some(listed)
    };
    let listed = wait::until("the new certificate to be used", renewed)
        .await
        .unwrap();
    assert_eq!(listed[0]["renews"], listed[1]["serial"], "{listed}");
    assert_eq!(listed[1]["state"], "superseded", "{listed}");
    assert_eq!(desk.ok("alarm list")["alarms"][0], Value::Null);
}
