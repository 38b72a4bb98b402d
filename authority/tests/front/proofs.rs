//! Does a route that demands a terminal get one, and only a good one?
//!
//! The real listener and store in this process, with a clock that can be moved and the memory HSM.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use authority::app::{App, Parts};
use authority::clock::{Clock, SystemClock};
use authority::config::{CertificateFiles, Config};
use authority::http::{Private, Routes, extract};
use authority::listen::credentials::{Audience, Credentials};
use authority::listen::{self, Listening, PrivateTls};
use authority::metrics::Metrics;
use authority::services::enrolment::{enrol, record};
use authority::services::join::JoinToken;
use authority::services::keyring::KeyPurpose;
use authority::services::operators::{MerchantAdd, TerminalAdd, TerminalBan, Verb};
use authority::services::trust::Trust;
use authority::store::sqlite::{SqliteOptions, SqliteStore};
use authority::store::{KeyRecord, Subject, Terminals};
use hsm::{Hsm, KeyKind, KeyLabel, MemoryHsm};
use pki::{
    Certificate, Chain, HsmIssuer, IssueRequest, IssueTo, RootKey, SoftwareKey, SpiffeId, csr,
};
use protocol::ids::TerminalId;
use protocol::money::Currency;
use protocol::time::Timestamp;
use tempfile::TempDir;
use warp::Filter;

use crate::certificates::Shown;
use crate::house::{Reply, curl, text};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// The machine's clock, moved.
#[derive(Default)]
struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.0.load(Ordering::Relaxed)
    }
}

struct Stage {
    dir: TempDir,
    app: Arc<App>,
    clock: Arc<Moved>,
    port: u16,
}

impl Stage {
    async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Moved::default());
        let hsm = Arc::new(MemoryHsm::new());
        let issuer = issuing_ca(&dir, &hsm).await;
        let store = store(&dir, hsm.as_ref()).await;
        let sample =
            include_str!("../../../config/authority.toml").replace("pay.example", "m2key.example");
        let config = Config::parse(&sample, &dir.path().join("authority.toml")).unwrap();
        let root = Certificate::load(&dir.path().join("root.pem")).unwrap();
        let parts = Parts {
            config,
            clock: clock.clone(),
            hsm: hsm.clone(),
            store: Arc::new(store),
            issuer: Arc::new(issuer),
            metrics: Metrics::new(),
            trust: Trust::pinned(root),
        };
        let app = App::assemble(parts).await.unwrap();
        let port = listen(&dir, &app).await;
        Self {
            dir,
            app,
            clock,
            port,
        }
    }

    /// A terminal of a new merchant, enrolled: its id and what it shows.
    async fn terminal(&self) -> (TerminalId, Shown) {
        let merchant = MerchantAdd {
            name: "Shop".into(),
            currency: Currency::EUR,
            fixed_minor: None,
            open_cap_minor: None,
        };
        let merchant = merchant.run(&self.app).await.unwrap().merchant;
        let add = TerminalAdd {
            merchant,
            name: "Counter".into(),
        };
        let added = add.run(&self.app).await.unwrap();
        let key = SoftwareKey::generate().unwrap();
        let id = SpiffeId::Terminal(added.terminal);
        let request = csr::new(&key, &id, self.app.issuer.trust_domain()).unwrap();
        let token: JoinToken = added.join_token.parse().unwrap();
        let certificate = enrol(&self.app, &token, &request).await.unwrap();
        (added.terminal, self.shown(&certificate.pem(), &key))
    }

    fn shown(&self, pem: &str, key: &SoftwareKey) -> Shown {
        let at = |name: &str| self.dir.path().join(name);
        std::fs::write(
            at("shown.pem"),
            pem.to_owned() + &self.app.issuer.chain().issuing().pem(),
        )
        .unwrap();
        key.save(&at("shown.key")).unwrap();
        Shown::of(at("shown.pem"), at("shown.key"))
    }

    /// Asks the route that says who it was asked by.
    async fn ask(&self, shown: Option<Shown>) -> Reply {
        let root = self.dir.path().join("root.pem");
        let url = format!("https://localhost:{}/who", self.port);
        let asking = tokio::task::spawn_blocking(move || {
            let mut arguments = vec!["--cacert", text(&root)];
            arguments.extend(shown.iter().flat_map(Shown::curl));
            curl(&url, &arguments)
        });
        asking.await.unwrap()
    }
}

async fn issuing_ca(dir: &TempDir, hsm: &Arc<MemoryHsm>) -> HsmIssuer {
    let now = authority::clock::unix_seconds(SystemClock.now());
    let label = KeyLabel("issuing".into());
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let root_key = RootKey::generate().unwrap();
    let root = root_key.certificate(now).unwrap();
    let point = hsm.public_key(&label).await.unwrap();
    let issuing = root_key.sign_issuing(&root, &point, now).unwrap();
    std::fs::write(dir.path().join("root.pem"), root.pem()).unwrap();
    let chain = Chain::new(issuing, root).unwrap();
    HsmIssuer::open(hsm.clone(), label, chain, "m2key.example".parse().unwrap())
        .await
        .unwrap()
}

async fn store(dir: &TempDir, hsm: &MemoryHsm) -> SqliteStore {
    let store = SqliteStore::open(
        dir.path().join("store.sqlite"),
        SqliteOptions::new("authority-1"),
    )
    .unwrap();
    for purpose in KeyPurpose::ALL {
        let label = purpose.label(1);
        hsm.generate_key(purpose.kind(), &label).await.unwrap();
        let key = KeyRecord {
            kid: label.0.clone(),
            purpose: purpose.name().into(),
            state: "active".into(),
            public_point: hsm.public_key(&label).await.ok(),
            label,
            made_at: SystemClock.now(),
        };
        assert!(store.add_key(key).await.unwrap());
    }
    store
}

/// A private listener with one route; its port.
async fn listen(dir: &TempDir, app: &Arc<App>) -> u16 {
    let key = SoftwareKey::generate().unwrap();
    let domain = app.issuer.trust_domain().clone();
    let to = IssueTo::Authority {
        node: "authority-1".parse().unwrap(),
        dns: vec!["localhost".parse().unwrap()],
        addresses: vec![],
    };
    let request = csr::new(&key, &to.spiffe_id(), &domain).unwrap();
    let csr = csr::check(&request).unwrap();
    let now = authority::clock::unix_seconds(SystemClock.now());
    let issued = app
        .issuer
        .issue(IssueRequest { csr, to, now })
        .await
        .unwrap();
    let files = CertificateFiles {
        certificate: dir.path().join("server.pem"),
        key: dir.path().join("server.key"),
    };
    std::fs::write(
        &files.certificate,
        issued.pem + &app.issuer.chain().issuing().pem(),
    )
    .unwrap();
    key.save(&files.key).unwrap();
    let tls = PrivateTls {
        shows: Credentials::open(app, "agents listener", &files, Audience::OurOwn).unwrap(),
        domain,
    };
    let who = warp::path!("who")
        .and(extract::terminal(app))
        .map(|terminal: extract::AuthenticatedTerminal| terminal.id().to_string());
    let listening = Listening::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let port = listening.address().port();
    let listener = listen::private(listening, Routes::<Private>::new("who", who)).over(tls);
    tokio::spawn(listener.run(app.clone()));
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_in_its_time_is_known_by_its_certificate() {
    let stage = Stage::set().await;
    let (id, shown) = stage.terminal().await;
    let reply = stage.ask(Some(shown)).await;
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
    let (terminal, shown) = stage.terminal().await;
    let ban = TerminalBan {
        terminal,
        reason: "stolen".into(),
    };
    ban.run(&stage.app).await.unwrap();
    stage
        .ask(Some(shown))
        .await
        .problem(403, "terminal-refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expires_while_connected_is_refused() {
    let stage = Stage::set().await;
    let (_, shown) = stage.terminal().await;
    stage.clock.0.store(8 * DAY_MS, Ordering::Relaxed);
    let reply = stage.ask(Some(shown)).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it has expired"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_recorded_for_another_terminal_is_refused() {
    let stage = Stage::set().await;
    let (terminal, _) = stage.terminal().await;
    let (other, _) = stage.terminal().await;
    let key = SoftwareKey::generate().unwrap();
    let request = csr::new(
        &key,
        &SpiffeId::Terminal(terminal),
        stage.app.issuer.trust_domain(),
    );
    let csr = csr::check(&request.unwrap()).unwrap();
    let now = authority::clock::unix_seconds(SystemClock.now());
    let to = IssueTo::Terminal(terminal);
    let issued = stage
        .app
        .issuer
        .issue(IssueRequest { csr, to, now })
        .await
        .unwrap();
    let row = record(&issued, Subject::Terminal(other));
    stage
        .app
        .store
        .add_certificate(row, SystemClock.now())
        .await
        .unwrap();
    let reply = stage.ask(Some(stage.shown(&issued.pem, &key))).await;
    reply.problem(403, "certificate-refused");
    assert!(reply.body.contains("it was not issued here"), "{reply:?}");
}
