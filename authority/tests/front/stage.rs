//! An authority inside the test: real listener, real store, real curl and openssl; the clock can be
//! moved, the HSM is the one in memory, and the issuing CA can be told to fail.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use authority::app::{App, Parts};
use authority::clock::{Clock, SystemClock, unix_seconds};
use authority::config::{CertificateFiles, Config};
use authority::http::{Private, Routes, agents, crls, enrolment, extract, operators};
use authority::listen::credentials::{Audience, Credentials};
use authority::listen::{self, Listening, PrivateTls};
use authority::metrics::Metrics;
use authority::services::journey::Journey;
use authority::services::keyring::KeyPurpose;
use authority::services::operators::{JoinView, MerchantAdd, TerminalAdd, Verb};
use authority::services::trust::Trust;
use authority::store::SqlStore;
use authority::store::sqlite::{self, SqliteOptions};
use authority::store::{KeyRecord, Terminals};
use hsm::{Hsm, HsmError, KeyKind, KeyLabel, MemoryHsm};
use pki::crl::{BadCrl, CrlRequest, SignedCrl};
use pki::{
    Certificate, Chain, HsmIssuer, IssueRequest, IssueTo, IssuedCertificate, Issuer, IssuerHealth,
    IssuingCa, KeyState, Passphrase, PkiError, RootKey, SoftwareKey, TrustDomain, csr,
};
use protocol::money::Currency;
use protocol::time::Timestamp;
use protocol::wire::push::EVENTS_PATH;
use tempfile::TempDir;
use tokio::sync::oneshot;
use warp::{Filter, Rejection};

use crate::certificates::Shown;
use crate::house::{Reply, curl, openssl, text};

pub const DAY_MS: i64 = 24 * 3600 * 1000;
const YEAR_S: u64 = 365 * 24 * 3600;
const DOMAIN: &str = "m2key.example";

/// The machine's clock, moved.
#[derive(Default)]
pub struct Moved(AtomicI64);

impl Moved {
    /// So far from the machine's clock.
    pub fn by(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.0.load(Ordering::Relaxed)
    }
}

/// The issuing CA as the signer process shows it: it keeps the highest number of its lists, its key may
/// have been superseded, and it can fail.
pub struct StageIssuer {
    inner: HsmIssuer,
    pub highest_number: AtomicU64,
    pub fails: AtomicBool,
    /// Issuing CAs beside the one that issues, with their states; the first active one counts.
    pub cas: Mutex<Option<Vec<IssuingCa>>>,
    held: Mutex<Option<Held>>,
}

/// Tells that what is held is reached, and waits.
type Held = (oneshot::Sender<()>, oneshot::Receiver<()>);

#[async_trait]
impl Issuer for StageIssuer {
    async fn issue(&self, request: IssueRequest) -> Result<IssuedCertificate, PkiError> {
        self.may_fail()?;
        let held = self.held.lock().unwrap().take();
        if let Some((reached, goes_on)) = held {
            reached.send(()).unwrap();
            goes_on.await.unwrap();
        }
        self.inner.issue(request).await
    }

    async fn sign_crl(&self, request: CrlRequest) -> Result<SignedCrl, PkiError> {
        self.may_fail()?;
        let last = self
            .highest_number
            .fetch_max(request.number, Ordering::SeqCst);
        if request.number <= last {
            return Err(BadCrl::NumberGoesBack { last }.into());
        }
        self.inner.sign_crl(request).await
    }

    fn chain(&self) -> Chain {
        let mut all = self.issuing_cas().into_iter();
        let active = all.find(|ca| ca.state == KeyState::Active);
        active.map_or_else(|| self.inner.chain(), |ca| ca.chain)
    }

    fn issuing_cas(&self) -> Vec<IssuingCa> {
        let shown = self.cas.lock().unwrap().clone();
        shown.unwrap_or_else(|| self.inner.issuing_cas())
    }

    fn health(&self) -> IssuerHealth {
        self.inner.health()
    }

    fn trust_domain(&self) -> &TrustDomain {
        self.inner.trust_domain()
    }
}

impl StageIssuer {
    /// Holds the next certificate: tells when it is asked for, and signs once it is told to go on.
    pub fn hold_once(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached, is_reached) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel();
        *self.held.lock().unwrap() = Some((reached, goes_on));
        (is_reached, go_on)
    }

    fn may_fail(&self) -> Result<(), PkiError> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(HsmError::DeviceLost {
                detail: "the test took it away".into(),
            }
            .into()),
            false => Ok(()),
        }
    }
}

pub struct Stage {
    pub dir: TempDir,
    pub app: Arc<App>,
    pub clock: Arc<Moved>,
    pub hsm: Arc<MemoryHsm>,
    pub issuer: Arc<StageIssuer>,
    pub store: Arc<SqlStore>,
    pub journey: Arc<Journey>,
    root_key: RootKey,
    held: HeldRequest,
    port: u16,
}

/// The next who wants to listen, held before any route takes the request.
type HeldRequest = Arc<Mutex<Option<Held>>>;

/// A machine with files of its own: key, request, and what it was issued.
pub struct Machine {
    pub terminal: String,
    pub join_token: String,
    dir: PathBuf,
}

impl Stage {
    /// Its certificates begin a year ago, so that a test may begin in the past.
    pub async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Moved::default());
        let hsm = Arc::new(MemoryHsm::new());
        let root_key = RootKey::generate().unwrap();
        let issuer = Arc::new(issuing_ca(&dir, &hsm, &root_key).await);
        let store = Arc::new(store(&dir, hsm.as_ref()).await);
        let sample = include_str!("../../../config/authority.toml").replace("pay.example", DOMAIN);
        let root = Certificate::load(&dir.path().join("root.pem")).unwrap();
        let parts = Parts {
            config: Config::parse(&sample, &dir.path().join("authority.toml")).unwrap(),
            clock: clock.clone(),
            hsm: hsm.clone(),
            store: store.clone(),
            issuer: issuer.clone(),
            metrics: Metrics::new(),
            trust: Trust::pinned(root),
        };
        let app = App::assemble(parts).await.unwrap();
        let journey = Journey::new(&app).unwrap();
        let held = HeldRequest::default();
        let port = listen(&dir, &app, &journey, &held).await;
        Self {
            dir,
            app,
            clock,
            hsm,
            issuer,
            store,
            journey,
            root_key,
            held,
            port,
        }
    }

    /// Adds a terminal of a new merchant.
    pub async fn added(&self) -> JoinView {
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
        add.run(&self.app).await.unwrap()
    }

    /// A machine for a new terminal, with nothing but its join token.
    pub async fn machine(&self) -> Machine {
        let added = self.added().await;
        let dir = self.dir.path().join(added.terminal.to_string());
        std::fs::create_dir(&dir).unwrap();
        Machine {
            terminal: added.terminal.to_string(),
            join_token: added.join_token,
            dir,
        }
    }

    /// A machine that has enrolled with the key `first`.
    pub async fn enrolled(&self) -> (Machine, Shown) {
        let machine = self.machine().await;
        machine.request("first");
        let reply = self.enrol(&machine, "first").await;
        let shown = machine.keep("first", &reply, self);
        (machine, shown)
    }

    pub async fn enrol(&self, machine: &Machine, key: &str) -> Reply {
        let body = format!("@{}", text(&machine.at(key, "p10")));
        let user = format!("{}:{}", machine.terminal, machine.join_token);
        let path = "/.well-known/est/simpleenroll";
        let own = ["-u", &user, "--data-binary", &body].map(String::from);
        self.curl(path, None, &own).await
    }

    /// Asks for the next certificate, of the key `next`, under the one that is shown.
    pub async fn renew(&self, machine: &Machine, shown: &Shown, next: &str) -> Reply {
        let body = format!("@{}", text(&machine.at(next, "p10")));
        let path = "/.well-known/est/simplereenroll";
        let own = ["--data-binary", &body].map(String::from);
        self.curl(path, Some(shown), &own).await
    }

    /// Asks the route that says who it was asked by.
    pub async fn ask(&self, shown: Option<&Shown>) -> Reply {
        self.curl("/who", shown, &[]).await
    }

    /// Holds the next who wants to listen: tells when they have come, and lets the routes have them once it is told to.
    pub fn hold_request(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached, is_reached) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel();
        *self.held.lock().unwrap() = Some((reached, goes_on));
        (is_reached, go_on)
    }

    pub async fn curl(&self, path: &str, shown: Option<&Shown>, more: &[String]) -> Reply {
        let root = self.dir.path().join("root.pem");
        let url = format!("https://localhost:{}{path}", self.port);
        let mut arguments = vec!["--cacert".to_owned(), text(&root).to_owned()];
        if !more.iter().any(|it| it.starts_with("content-type:")) {
            arguments.extend(["-H".into(), "content-type: application/pkcs10".into()]);
        }
        arguments.extend(shown.iter().flat_map(|it| it.curl()).map(String::from));
        arguments.extend_from_slice(more);
        let asking = tokio::task::spawn_blocking(move || {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            curl(&url, &arguments)
        });
        asking.await.unwrap()
    }

    pub fn shown(&self, pem: &str, key: &SoftwareKey) -> Shown {
        let at = |name: &str| self.dir.path().join(name);
        std::fs::write(at("shown.pem"), pem.to_owned() + &self.issuing_pem()).unwrap();
        key.save(&at("shown.key")).unwrap();
        Shown::of(at("shown.pem"), at("shown.key"))
    }

    pub fn issuing_pem(&self) -> String {
        self.app.issuer.chain().issuing().pem()
    }

    /// The root's key, as whoever holds it would load it.
    pub fn root_key(&self) -> RootKey {
        let (path, passphrase) = (
            self.dir.path().join("copy.key"),
            self.dir.path().join("word"),
        );
        let _ = std::fs::remove_file(&path);
        std::fs::write(&passphrase, "correct horse battery").unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&passphrase, owner_only).unwrap();
        let passphrase = Passphrase::from_file(&passphrase).unwrap();
        self.root_key.save(&path, &passphrase).unwrap();
        RootKey::load(&path, &passphrase).unwrap()
    }

    /// Another issuing CA under the same root, as a rotation prepares it.
    pub async fn another_issuing(&self) -> Chain {
        let root = self.app.trust().active().clone();
        self.issuing_under(&self.root_key, root).await
    }

    pub async fn issuing_under(&self, root_key: &RootKey, root: Certificate) -> Chain {
        let label = KeyLabel("issuing-2".into());
        self.hsm
            .generate_key(KeyKind::Signing, &label)
            .await
            .unwrap();
        let point = self.hsm.public_key(&label).await.unwrap();
        let now = unix_seconds(SystemClock.now());
        let issuing = root_key.sign_issuing(&root, &point, now).unwrap();
        Chain::new(issuing, root).unwrap()
    }

    /// Shows the first CA in this state, and another one as the active one.
    pub async fn supersede_issuing(&self, state: KeyState) {
        let chain = self.another_issuing().await;
        self.supersede_by(chain, state);
    }

    pub fn supersede_by(&self, chain: Chain, state: KeyState) {
        let mut cas = self.issuer.inner.issuing_cas();
        cas[0].state = state;
        let active = IssuingCa {
            chain,
            state: KeyState::Active,
        };
        cas.insert(0, active);
        *self.issuer.cas.lock().unwrap() = Some(cas);
    }
}

impl Machine {
    pub fn at(&self, name: &str, ending: &str) -> PathBuf {
        self.dir.join(format!("{name}.{ending}"))
    }

    /// A P-256 key and a request for it, as the documentation says.
    pub fn request(&self, name: &str) {
        let key = self.at(name, "key");
        let curve = ["ecparam", "-name", "prime256v1", "-genkey", "-noout"];
        openssl(&[&curve[..], &["-out", text(&key)]].concat());
        self.request_of(name, &[]);
    }

    /// A request for a key that is there, with more arguments of `openssl req`.
    pub fn request_of(&self, name: &str, more: &[&str]) {
        let (key, der) = (self.at(name, "key"), self.at(name, "der"));
        let request = ["req", "-new", "-key", text(&key), "-subj", "/CN=terminal"];
        let form = ["-outform", "DER", "-out", text(&der)];
        openssl(&[&request[..], more, &form[..]].concat());
        let base64 = openssl(&["base64", "-in", text(&der)]);
        std::fs::write(self.at(name, "p10"), base64).unwrap();
    }

    /// Keeps the certificate of a certs-only answer beside its key.
    #[track_caller]
    pub fn keep(&self, name: &str, reply: &Reply, stage: &Stage) -> Shown {
        let pem = certificates(&self.dir, reply);
        let path = self.at(name, "pem");
        std::fs::write(&path, pem + &stage.issuing_pem()).unwrap();
        Shown::of(path, self.at(name, "key"))
    }

    /// Serial number of a certificate it keeps, lower-case hex.
    pub fn serial(&self, name: &str) -> String {
        let path = self.at(name, "pem");
        let said = openssl(&["x509", "-in", text(&path), "-noout", "-serial"]);
        let serial = said.trim().strip_prefix("serial=").unwrap();
        serial.to_ascii_lowercase()
    }
}

/// The certificates of a certs-only answer, as PEM.
#[track_caller]
pub fn certificates(dir: &Path, reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    let (encoded, der) = (dir.join("est.b64"), dir.join("est.p7"));
    std::fs::write(&encoded, &reply.body).unwrap();
    openssl(&["base64", "-d", "-in", text(&encoded), "-out", text(&der)]);
    openssl(&["pkcs7", "-inform", "DER", "-in", text(&der), "-print_certs"])
}

async fn issuing_ca(dir: &TempDir, hsm: &Arc<MemoryHsm>, root_key: &RootKey) -> StageIssuer {
    let a_year_ago = unix_seconds(SystemClock.now()) - YEAR_S;
    let label = KeyLabel("issuing".into());
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let root = root_key.certificate(a_year_ago).unwrap();
    let point = hsm.public_key(&label).await.unwrap();
    let issuing = root_key.sign_issuing(&root, &point, a_year_ago).unwrap();
    std::fs::write(dir.path().join("root.pem"), root.pem()).unwrap();
    std::fs::write(dir.path().join("issuing.pem"), issuing.pem()).unwrap();
    let chain = Chain::new(issuing, root).unwrap();
    let opened = HsmIssuer::open(hsm.clone(), label, chain, DOMAIN.parse().unwrap());
    StageIssuer {
        inner: opened.await.unwrap(),
        highest_number: AtomicU64::default(),
        fails: AtomicBool::default(),
        cas: Mutex::default(),
        held: Mutex::default(),
    }
}

async fn store(dir: &TempDir, hsm: &MemoryHsm) -> SqlStore {
    let store = sqlite::open(
        dir.path().join("store.sqlite"),
        SqliteOptions::new("authority-1"),
    )
    .unwrap();
    for purpose in KeyPurpose::ALL {
        let label = purpose.label(1);
        hsm.generate_key(purpose.kind(), &label).await.unwrap();
        let point = hsm.public_key(&label).await.ok();
        let key = KeyRecord::new(purpose, KeyState::Active, label, point, SystemClock.now());
        assert!(store.add_key(key).await.unwrap());
    }
    store
}

/// A private listener with everything that terminals and operators ask, and two routes of the test's
/// own: who asks, and the revocation lists; its port.
async fn listen(dir: &TempDir, app: &Arc<App>, journey: &Arc<Journey>, held: &HeldRequest) -> u16 {
    let files = server(dir, app).await;
    let domain = app.issuer.trust_domain().clone();
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
    let routes = Routes::<Private>::new("held", holding(held))
        .at(EVENTS_PATH)
        .or(Routes::new("who", who))
        .or(enrolment::routes(app))
        .or(agents::routes(journey))
        .or(operators::routes(app))
        .or(crls::routes(&journey.crls));
    tokio::spawn(
        listen::private(listening, routes)
            .over(tls)
            .run(app.clone()),
    );
    port
}

/// Takes no request; whoever wants to listen while one is to be held waits here on the way to the routes.
fn holding(
    held: &HeldRequest,
) -> impl Filter<Extract = (String,), Error = Rejection> + Clone + use<> {
    let held = held.clone();
    warp::any().and_then(move || {
        let held = held.lock().unwrap().take();
        async move {
            if let Some((reached, goes_on)) = held {
                reached.send(()).unwrap();
                goes_on.await.unwrap();
            }
            Err(warp::reject::not_found())
        }
    })
}

async fn server(dir: &TempDir, app: &Arc<App>) -> CertificateFiles {
    let key = SoftwareKey::generate().unwrap();
    let domain = app.issuer.trust_domain().clone();
    let to = IssueTo::Authority {
        node: "authority-1".parse().unwrap(),
        dns: vec!["localhost".parse().unwrap()],
        addresses: vec![],
    };
    let request = csr::new(&key, &to.spiffe_id(), &domain).unwrap();
    let csr = csr::check(&request).unwrap();
    let now = unix_seconds(SystemClock.now());
    let issued = app.issuer.issue(IssueRequest { csr, to, now });
    let files = CertificateFiles {
        certificate: dir.path().join("server.pem"),
        key: dir.path().join("server.key"),
    };
    let chain = issued.await.unwrap().pem + &app.issuer.chain().issuing().pem();
    std::fs::write(&files.certificate, chain).unwrap();
    key.save(&files.key).unwrap();
    files
}
