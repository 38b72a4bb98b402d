//! What do the tests of this crate share?
#![allow(clippy::unwrap_used, dead_code)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use async_trait::async_trait;
use hsm::{
    Health, HealthState, Hsm, HsmError, KeyKind, KeyLabel, KeyReport, Mac, Priority, SealedSeed,
    SealingKeys,
};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use pki::{
    Certificate, Chain, HsmIssuer, IssueRequest, IssueTo, IssuedCertificate, Issuer, RootKey,
    SoftwareKey, TrustDomain,
};
use protocol::ids::TerminalId;

/// 2026-11-23, 12:00 UTC.
pub(crate) const NOW: u64 = 1_795_435_200;
pub(crate) const DAY: u64 = 24 * 60 * 60;

/// One P-256 key that signs, for everything here that needs an HSM. It can be told to fail.
pub(crate) struct OneKeyHsm {
    key: SigningKey,
    signs_with: SigningKey,
    pub(crate) fails: Option<HsmError>,
}

impl OneKeyHsm {
    pub(crate) fn new(secret: u8) -> Self {
        let key = SigningKey::from_slice(&[secret; 32]).unwrap();
        Self {
            signs_with: key.clone(),
            key,
            fails: None,
        }
    }

    /// The same, with a key that a test also has in software.
    pub(crate) fn holding(key: &SoftwareKey) -> Self {
        let pkcs8 = key.pkcs8_der().unwrap();
        let key = p256::pkcs8::DecodePrivateKey::from_pkcs8_der(&pkcs8).unwrap();
        Self {
            signs_with: SigningKey::clone(&key),
            key,
            fails: None,
        }
    }

    /// Shows one key and signs with another.
    pub(crate) fn signing_with(mut self, secret: u8) -> Self {
        self.signs_with = SigningKey::from_slice(&[secret; 32]).unwrap();
        self
    }

    pub(crate) fn point(&self) -> [u8; 65] {
        self.key
            .verifying_key()
            .to_sec1_point(false)
            .as_bytes()
            .try_into()
            .unwrap()
    }
}

fn only_signs<T>() -> Result<T, HsmError> {
    Err(HsmError::Unsupported {
        detail: "this one only signs".into(),
    })
}

#[async_trait]
impl Hsm for OneKeyHsm {
    async fn seal_new_seed(
        &self,
        _: &SealingKeys,
        _: Vec<u8>,
        _: Priority,
    ) -> Result<SealedSeed, HsmError> {
        only_signs()
    }
    async fn hmac_batch(
        &self,
        _: &SealingKeys,
        _: &SealedSeed,
        _: Vec<Vec<u8>>,
        _: Priority,
    ) -> Result<Vec<Mac>, HsmError> {
        only_signs()
    }
    async fn prove_binding(
        &self,
        _: &SealingKeys,
        _: &SealedSeed,
        _: Priority,
    ) -> Result<(), HsmError> {
        only_signs()
    }
    async fn sign(
        &self,
        _: &KeyLabel,
        digest: [u8; 32],
        _: Priority,
    ) -> Result<[u8; 64], HsmError> {
        if let Some(error) = &self.fails {
            return Err(error.clone());
        }
        let signature: Signature = self.signs_with.sign_prehash(&digest).unwrap();
        Ok(signature.to_bytes().into())
    }
    async fn cmac_batch(
        &self,
        _: &KeyLabel,
        _: Vec<Vec<u8>>,
        _: Priority,
    ) -> Result<Vec<hsm::Cmac>, HsmError> {
        only_signs()
    }
    async fn public_key(&self, _: &KeyLabel) -> Result<[u8; 65], HsmError> {
        Ok(self.point())
    }
    async fn random(&self, _: usize) -> Result<Vec<u8>, HsmError> {
        only_signs()
    }
    async fn generate_key(&self, _: KeyKind, _: &KeyLabel) -> Result<(), HsmError> {
        only_signs()
    }
    async fn destroy_key(&self, _: &KeyLabel) -> Result<(), HsmError> {
        only_signs()
    }
    async fn inventory(&self) -> Result<Vec<KeyReport>, HsmError> {
        only_signs()
    }
    fn health(&self) -> Health {
        Health::of_one(HealthState::Ready, (0, 1), None)
    }
}

pub(crate) fn label() -> KeyLabel {
    KeyLabel("m2key-issuing-1".into())
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::default()
}

pub(crate) fn terminal_id() -> TerminalId {
    TerminalId::from_number(1_234_567).unwrap()
}

/// A root and an issuing CA whose key is in `hsm`.
pub(crate) fn chain_for(hsm: &OneKeyHsm, now: u64) -> Chain {
    let root_key = RootKey::generate().unwrap();
    let root = root_key.certificate(now).unwrap();
    let issuing = root_key.sign_issuing(&root, &hsm.point(), now).unwrap();
    Chain::new(issuing, root).unwrap()
}

pub(crate) async fn issuer_at(now: u64) -> HsmIssuer {
    let hsm = OneKeyHsm::new(7);
    let chain = chain_for(&hsm, now);
    HsmIssuer::open(Arc::new(hsm), label(), chain, domain())
        .await
        .unwrap()
}

/// A certificate for a new key that asks for no name.
pub(crate) async fn issued(issuer: &HsmIssuer, to: IssueTo, now: u64) -> IssuedCertificate {
    let key = SoftwareKey::generate().unwrap();
    let csr = pki::csr::new(&key, &to.spiffe_id(), &domain()).unwrap();
    let csr = pki::csr::check(&csr).unwrap();
    issuer.issue(IssueRequest { csr, to, now }).await.unwrap()
}

/// Runs the openssl command line, the judge from outside.
pub(crate) fn openssl(dir: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl")
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("these tests need the openssl command: apt-get install -y openssl")
}

/// The same, when it has to succeed: what it printed.
pub(crate) fn openssl_ok(dir: &Path, arguments: &[&str]) -> String {
    let output = openssl(dir, arguments);
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

/// An issuing CA whose key lies in a file, so that openssl can misuse it.
pub(crate) struct Forge {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) chain: Chain,
    /// Some time after openssl has dated its certificates, while they are good.
    pub(crate) now: u64,
}

impl Forge {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = today(dir.path());
        let key = SoftwareKey::generate().unwrap();
        key.save(&dir.path().join("issuing.key")).unwrap();
        let root_key = RootKey::generate().unwrap();
        let root = root_key.certificate(now).unwrap();
        let issuing = root_key
            .sign_issuing(&root, &key.public_point(), now)
            .unwrap();
        std::fs::write(dir.path().join("issuing.pem"), issuing.pem()).unwrap();
        let chain = Chain::new(issuing, root).unwrap();
        let now = now + DAY;
        Self { dir, chain, now }
    }

    /// A certificate with these extensions (openssl's notation), signed by the certificate and key
    /// called `by`; it is kept as `name`.
    pub(crate) fn sign(&self, by: &str, name: &str, extensions: &str) -> Certificate {
        let dir = self.dir.path();
        std::fs::write(dir.join("extensions"), extensions).unwrap();
        let file = |name: &str, end: &str| format!("{name}.{end}");
        let (key, csr, pem) = (file(name, "key"), file(name, "csr"), file(name, "pem"));
        SoftwareKey::generate()
            .unwrap()
            .save(&dir.join(&key))
            .unwrap();
        let subject = format!("/CN={name}");
        openssl_ok(
            dir,
            &["req", "-new", "-key", &key, "-subj", &subject, "-out", &csr],
        );
        let (ca, ca_key) = (file(by, "pem"), file(by, "key"));
        let arguments = [
            "x509",
            "-req",
            "-sha256",
            "-in",
            &csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-set_serial",
            "5",
            "-days",
            "7",
            "-extfile",
            "extensions",
            "-out",
            &pem,
        ];
        openssl_ok(dir, &arguments);
        Certificate::from_pem(&std::fs::read_to_string(dir.join(pem)).unwrap()).unwrap()
    }
}

impl Forge {
    /// Another certificate for the key and name of `issuing`, signed by itself.
    pub(crate) fn reissue(
        &self,
        issuing: &Certificate,
        serial: u8,
        extensions: &str,
    ) -> Certificate {
        let dir = self.dir.path();
        std::fs::write(dir.join("again.pem"), issuing.pem()).unwrap();
        std::fs::write(dir.join("extensions"), extensions).unwrap();
        let serial = serial.to_string();
        let arguments = [
            "x509",
            "-in",
            "again.pem",
            "-signkey",
            "issuing.key",
            "-clrext",
            "-sha256",
            "-set_serial",
            &serial,
            "-days",
            "7",
            "-extfile",
            "extensions",
            "-out",
            "self.pem",
        ];
        openssl_ok(dir, &arguments);
        let own = Certificate::from_pem(&std::fs::read_to_string(dir.join("self.pem")).unwrap());
        own.unwrap()
    }
}

/// What the clock of this machine says, by way of openssl.
pub(crate) fn today(dir: &Path) -> u64 {
    SoftwareKey::generate()
        .unwrap()
        .save(&dir.join("today.key"))
        .unwrap();
    let arguments = [
        "req",
        "-x509",
        "-key",
        "today.key",
        "-subj",
        "/CN=today",
        "-out",
        "today.pem",
    ];
    openssl_ok(dir, &arguments);
    let pem = std::fs::read_to_string(dir.join("today.pem")).unwrap();
    Certificate::from_pem(&pem).unwrap().not_before()
}
