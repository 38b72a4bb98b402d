//! Certificates that an honest authority would not issue: expired, foreign, never recorded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hsm::{Hsm, KeyKind, KeyLabel, MemoryHsm};
use pki::{
    Chain, HsmIssuer, IssueRequest, IssueTo, Issuer, Passphrase, RootKey, SoftwareKey, TrustDomain,
    csr,
};

use crate::house::{House, text};

const YEAR_S: u64 = 365 * 24 * 3600;

/// A certificate and its key, as curl wants them.
pub struct Shown {
    certificate: PathBuf,
    key: PathBuf,
}

impl Shown {
    pub fn of(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key }
    }

    pub fn curl(&self) -> [&str; 4] {
        ["--cert", text(&self.certificate), "--key", text(&self.key)]
    }

    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    pub fn key(&self) -> &Path {
        &self.key
    }

    /// As the verbs take it.
    pub fn serial(&self) -> String {
        let pem = std::fs::read_to_string(&self.certificate).unwrap();
        let all = pki::chain::certificates_from_pem(&pem).unwrap();
        all[0].serial_hex()
    }

    /// Makes it the certificate that the verbs of this house use.
    pub fn use_for_verbs(&self, house: &House) {
        std::fs::copy(&self.certificate, house.dir().join("operator.pem")).unwrap();
        std::fs::copy(&self.key, house.dir().join("operator.key")).unwrap();
    }
}

/// The house's own operator.
pub fn operator(house: &House) -> Shown {
    Shown::of(
        house.dir().join("operator.pem"),
        house.dir().join("operator.key"),
    )
}

/// A certificate under the house's root whose time was over a year ago.
pub fn expired(house: &House, to: IssueTo) -> Shown {
    issue(house, &house_root(house), to, now() - YEAR_S)
}

/// A valid certificate under the house's root that its store has never seen.
pub fn unrecorded(house: &House, to: IssueTo) -> Shown {
    issue(house, &house_root(house), to, now())
}

/// A valid certificate of somebody else's root.
pub fn foreign(house: &House, to: IssueTo) -> Shown {
    let key = RootKey::generate().unwrap();
    let root = key.certificate(now()).unwrap();
    issue(house, &(key, root), to, now())
}

pub fn operator_named(name: &str) -> IssueTo {
    IssueTo::Operator(name.parse().unwrap())
}

type Root = (RootKey, pki::Certificate);

pub fn house_root(house: &House) -> Root {
    let passphrase = Passphrase::from_file(&house.dir().join("root/passphrase")).unwrap();
    let key = RootKey::load(&house.dir().join("root/root.key"), &passphrase).unwrap();
    let pem = std::fs::read_to_string(house.dir().join("root.pem")).unwrap();
    (key, pki::Certificate::from_pem(&pem).unwrap())
}

fn issue(house: &House, (root_key, root): &Root, to: IssueTo, at: u64) -> Shown {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (leaf, issuing, key) = runtime.block_on(async {
        let hsm: Arc<dyn Hsm> = Arc::new(MemoryHsm::new());
        let label = KeyLabel("issuing".into());
        hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
        let point = hsm.public_key(&label).await.unwrap();
        let issuing = root_key.sign_issuing(root, &point, at).unwrap();
        let chain = Chain::new(issuing.clone(), root.clone()).unwrap();
        let domain = TrustDomain::default();
        let issuer = HsmIssuer::open(hsm, label, chain, domain.clone())
            .await
            .unwrap();
        let key = SoftwareKey::generate().unwrap();
        let request = csr::new(&key, &to.spiffe_id(), &domain).unwrap();
        let csr = csr::check(&request).unwrap();
        (
            issuer
                .issue(IssueRequest { csr, to, now: at })
                .await
                .unwrap(),
            issuing,
            key,
        )
    });
    let shown = Shown::of(house.scratch("odd.pem"), house.scratch("odd.key"));
    std::fs::write(&shown.certificate, leaf.pem + &issuing.pem()).unwrap();
    key.save(&shown.key).unwrap();
    shown
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates of this test are dated now"
)]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
