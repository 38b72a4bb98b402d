//! A signer in this process, over a memory HSM that can be taken away, and the root above it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use hsm::{
    Health, HealthState, Hsm, HsmError, KeyKind, KeyLabel, KeyReport, Mac, MemoryHsm, Priority,
    SealedSeed, SealingKeys,
};
use pki::crl::{CrlRequest, Revoked};
use pki::signer::{
    AdminAnswer, AdminAsk, AdminStep, ClientOptions, Clock, Doors, Entry, Signer, SignerClient,
    SignerConfig, SignerError, read_log,
};
use pki::{
    Certificate, IssueRequest, IssueTo, IssuedCertificate, PkiError, RootKey, SoftwareKey,
    TrustDomain, csr,
};
use protocol::ids::TerminalId;
use tokio::sync::watch;

/// 2026-11-23, 12:00 UTC.
pub const NOW: u64 = 1_795_435_200;
pub const DAY: u64 = 24 * 60 * 60;

/// The HSM of these tests: it can be gone after so many calls, and counts its signatures.
pub struct FlakyHsm {
    inner: MemoryHsm,
    /// Calls that are still answered; negative: all.
    left: AtomicI64,
    pub signatures: AtomicU64,
    pub findings: std::sync::Mutex<Vec<String>>,
}

impl FlakyHsm {
    fn new() -> Self {
        Self {
            inner: MemoryHsm::new(),
            left: AtomicI64::new(-1),
            signatures: AtomicU64::new(0),
            findings: Default::default(),
        }
    }

    /// Gone after `calls` more calls.
    pub fn gone_after(&self, calls: i64) {
        self.left.store(calls, Ordering::SeqCst);
    }

    /// Back again; whether it was missed.
    pub fn is_back(&self) -> bool {
        self.left.swap(-1, Ordering::SeqCst) == 0
    }

    fn answers(&self) -> Result<(), HsmError> {
        let count = |left: i64| match left {
            0 => None,
            left if left < 0 => Some(left),
            left => Some(left - 1),
        };
        let counted = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
        counted.map(drop).map_err(|_| HsmError::DeviceLost {
            detail: "pulled out".into(),
        })
    }
}

#[async_trait]
impl Hsm for FlakyHsm {
    async fn seal_new_seed(
        &self,
        keys: &SealingKeys,
        context: Vec<u8>,
        priority: Priority,
    ) -> Result<SealedSeed, HsmError> {
        self.inner.seal_new_seed(keys, context, priority).await
    }
    async fn hmac_batch(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<Mac>, HsmError> {
        self.inner.hmac_batch(keys, seed, messages, priority).await
    }
    async fn prove_binding(
        &self,
        keys: &SealingKeys,
        seed: &SealedSeed,
        priority: Priority,
    ) -> Result<(), HsmError> {
        self.inner.prove_binding(keys, seed, priority).await
    }
    async fn sign(
        &self,
        key: &KeyLabel,
        digest: [u8; 32],
        priority: Priority,
    ) -> Result<[u8; 64], HsmError> {
        self.answers()?;
        self.signatures.fetch_add(1, Ordering::SeqCst);
        self.inner.sign(key, digest, priority).await
    }
    async fn cmac_batch(
        &self,
        key: &KeyLabel,
        messages: Vec<Vec<u8>>,
        priority: Priority,
    ) -> Result<Vec<hsm::Cmac>, HsmError> {
        self.inner.cmac_batch(key, messages, priority).await
    }
    async fn public_key(&self, key: &KeyLabel) -> Result<[u8; 65], HsmError> {
        self.answers()?;
        self.inner.public_key(key).await
    }
    async fn random(&self, len: usize) -> Result<Vec<u8>, HsmError> {
        self.inner.random(len).await
    }
    async fn generate_key(&self, kind: KeyKind, label: &KeyLabel) -> Result<(), HsmError> {
        self.answers()?;
        self.inner.generate_key(kind, label).await
    }
    async fn destroy_key(&self, label: &KeyLabel) -> Result<(), HsmError> {
        self.answers()?;
        self.inner.destroy_key(label).await
    }
    async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError> {
        self.answers()?;
        let mut reports = self.inner.inventory().await?;
        for report in &mut reports {
            report
                .findings
                .extend(self.findings.lock().unwrap().clone());
        }
        Ok(reports)
    }
    fn health(&self) -> Health {
        let gone = self.left.load(Ordering::SeqCst) == 0;
        let state = if gone {
            HealthState::Down
        } else {
            HealthState::Ready
        };
        Health::of_one(state, (0, 1), gone.then(|| "pulled out".into()))
    }
}

/// The signer's own clock.
pub struct OwnClock(pub AtomicU64);

impl Clock for OwnClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub struct World {
    pub config: SignerConfig,
    pub hsm: Arc<FlakyHsm>,
    pub clock: Arc<OwnClock>,
    pub signer: Arc<Signer>,
    pub root_key: RootKey,
    pub root: Certificate,
    pub dir: tempfile::TempDir,
}

impl World {
    /// A signer that has no key yet.
    pub async fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = "trust_domain = \"m2key.example\"\n[hsm]\nmodule = \"none.so\"\n\
                    token_label = \"m2key-issuing\"\npin_file = \"pin\"\n";
        let config = SignerConfig::parse(text, &dir.path().join("signer.toml")).unwrap();
        let root_key = RootKey::generate().unwrap();
        let root = root_key.certificate(NOW).unwrap();
        std::fs::write(&config.roots, root.pem()).unwrap();
        let hsm = Arc::new(FlakyHsm::new());
        let clock = Arc::new(OwnClock(AtomicU64::new(NOW)));
        let signer = Signer::open(&config, hsm.clone(), clock.clone())
            .await
            .unwrap();
        Self {
            config,
            hsm,
            clock,
            signer: Arc::new(signer),
            root_key,
            root,
            dir,
        }
    }

    /// With an active issuing CA.
    pub async fn new() -> Self {
        let world = Self::empty().await;
        world.next_ca().await.unwrap();
        world
    }

    /// As after a crash: everything in memory is lost.
    pub async fn restart(&mut self) {
        let (hsm, clock) = (self.hsm.clone(), self.clock.clone());
        self.signer = Arc::new(Signer::open(&self.config, hsm, clock).await.unwrap());
    }

    pub async fn ask(&self, ask: AdminAsk) -> Result<AdminAnswer, PkiError> {
        self.signer.administer(ask).await
    }

    /// The ceremony from beginning to end.
    pub async fn next_ca(&self) -> Result<(), PkiError> {
        let request = self.prepare().await?;
        self.install(self.sign(&request)).await?;
        self.activate(None).await
    }

    /// The request of the prepared key.
    pub async fn prepare(&self) -> Result<String, PkiError> {
        match self.ask(AdminStep::Prepare.into()).await? {
            AdminAnswer::Done {
                request: Some(request),
                ..
            } => Ok(request),
            other => panic!("{other:?}"),
        }
    }

    /// What the root makes of a request.
    pub fn sign(&self, request: &str) -> Certificate {
        let request = csr::check(request.as_bytes()).unwrap();
        let point = request.public_point();
        self.root_key.sign_issuing(&self.root, &point, NOW).unwrap()
    }

    pub async fn install(&self, certificate: Certificate) -> Result<(), PkiError> {
        let certificate = certificate.pem();
        self.step(AdminStep::Install { certificate }).await
    }

    pub async fn activate(&self, label: Option<&str>) -> Result<(), PkiError> {
        let label = label.map(str::to_owned);
        self.step(AdminStep::Activate { label }).await
    }

    pub async fn taint(&self, label: &str) -> Result<(), PkiError> {
        let label = label.to_owned();
        self.step(AdminStep::Taint { label }).await
    }

    pub async fn retire(&self, label: &str) -> Result<(), PkiError> {
        let label = label.to_owned();
        self.step(AdminStep::Retire { label }).await
    }

    async fn step(&self, step: AdminStep) -> Result<(), PkiError> {
        self.ask(step.into()).await.map(drop)
    }

    /// `label state` of every issuing key.
    pub async fn states(&self) -> Vec<String> {
        match self.ask(AdminAsk::List).await.unwrap() {
            AdminAnswer::Keys(keys) => keys
                .iter()
                .map(|key| format!("{} {}", key.label, key.state))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn issue(&self, number: u32) -> Result<IssuedCertificate, PkiError> {
        self.signer.issue(request(number, self.clock.now())).await
    }

    pub async fn crl(&self, ca: usize, number: u64) -> Result<u64, PkiError> {
        let request = self.crl_request(ca, number);
        Ok(self.signer.sign_crl(request).await?.number)
    }

    pub fn crl_request(&self, ca: usize, number: u64) -> CrlRequest {
        let now = self.clock.now();
        CrlRequest {
            issuer: self.signer.issuing_cas()[ca].chain.issuing().spki_sha256(),
            number,
            this_update: now,
            next_update: now + DAY,
            revoked: vec![Revoked {
                serial: "0a".into(),
                at: now,
                reason: pki::crl::Reason::KeyCompromise,
            }],
        }
    }

    /// Every line of the log, which must be whole.
    pub fn log(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        read_log(&self.config, |line| entries.push(line.entry.clone())).unwrap();
        entries
    }

    /// The newest file of the log.
    pub fn log_file(&self) -> PathBuf {
        self.config.state_dir.join("log/signed-000001.jsonl")
    }

    pub fn state_file(&self) -> PathBuf {
        self.config.state_dir.join("issuing-keys.json")
    }

    /// Answers at the sockets until the sender is dropped or sends true.
    pub fn serve(&self) -> watch::Sender<bool> {
        let doors = Doors::bind(&self.config).unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(doors.serve(self.signer.clone(), stopped));
        stop
    }

    pub fn client_options(&self) -> ClientOptions {
        ClientOptions {
            socket: self.config.socket(),
            deadline: std::time::Duration::from_secs(30),
            queue_max: 1024,
            domain: TrustDomain::default(),
            known: self.dir.path().join("issuing.pem"),
            roots: vec![Certificate::load(&self.config.roots).unwrap()],
        }
    }

    pub async fn client(&self) -> SignerClient {
        SignerClient::open(self.client_options()).await.unwrap()
    }
}

pub fn terminal(number: u32) -> IssueTo {
    IssueTo::Terminal(TerminalId::from_number(number).unwrap())
}

pub fn request(number: u32, now: u64) -> IssueRequest {
    let to = terminal(number);
    let key = SoftwareKey::generate().unwrap();
    let request = csr::new(&key, &to.spiffe_id(), &TrustDomain::default()).unwrap();
    let csr = csr::check(&request).unwrap();
    IssueRequest { csr, to, now }
}

/// What the signer said, in its own process or told by another.
#[track_caller]
pub fn signer_error<T: std::fmt::Debug>(outcome: Result<T, PkiError>) -> SignerError {
    match outcome {
        Err(PkiError::Signer(error)) => error,
        other => panic!("{other:?}"),
    }
}
