//! What does the issuer promise when all is well, and when its HSM, key or certificate is not?
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{DAY, NOW, OneKeyHsm, chain_for, domain, issued, issuer_at, label, terminal_id};
use hsm::HsmError;
use pki::profiles::{BACKDATE_SECONDS, HOSTS_MAX, ISSUING_LIFETIME_SECONDS};
use pki::{
    BadCertificate, BadFile, Certificate, Chain, HsmIssuer, IssueRequest, IssueTo, Issuer, Move,
    Passphrase, PkiError, RootKey, SoftwareKey, csr, est,
};

const PASSPHRASE: &str = "eleven words would be better";

fn terminal() -> IssueTo {
    IssueTo::Terminal(terminal_id())
}

fn request(to: IssueTo, now: u64) -> IssueRequest {
    let key = SoftwareKey::generate().unwrap();
    let body = csr::new_unnamed(&key, &"anything".parse().unwrap()).unwrap();
    let csr = csr::check(&body).unwrap();
    IssueRequest { csr, to, now }
}

#[tokio::test]
async fn serials_are_positive_long_and_never_the_same() {
    let issuer = issuer_at(NOW).await;
    let mut seen = HashSet::new();
    for _ in 0..64 {
        let issued = issued(&issuer, terminal(), NOW).await;
        assert!(
            (26..=32).contains(&issued.serial.len()),
            "{}",
            issued.serial
        );
        assert!(seen.insert(issued.serial));
    }
}

#[tokio::test]
async fn a_certificate_begins_a_little_early_and_never_outlives_its_issuer() {
    let issuer = issuer_at(NOW).await;
    let fresh = issued(&issuer, terminal(), NOW).await;
    assert_eq!(fresh.not_before, NOW - BACKDATE_SECONDS);
    assert_eq!(fresh.not_after, NOW + 7 * DAY);
    let end = NOW + ISSUING_LIFETIME_SECONDS;
    let late = issued(&issuer, terminal(), end - DAY).await;
    assert_eq!(late.not_after, end);
    for now in [end + 1, NOW - DAY, 0, u64::MAX] {
        let refused = issuer.issue(request(terminal(), now)).await;
        assert_eq!(refused, Err(PkiError::IssuerNotValid));
    }
}

#[tokio::test]
async fn a_busy_hsm_means_later_and_a_wrong_signature_means_nothing_is_issued() {
    let mut hsm = OneKeyHsm::new(7);
    let chain = chain_for(&hsm, NOW);
    let busy = HsmError::Busy {
        detail: "full".into(),
    };
    hsm.fails = Some(busy.clone());
    let issuer = HsmIssuer::open(Arc::new(hsm), label(), chain, domain())
        .await
        .unwrap();
    let refused = issuer.issue(request(terminal(), NOW)).await.unwrap_err();
    assert_eq!(refused, PkiError::Hsm(busy));
    assert_eq!(refused.whose_move(), Move::Later);

    let lying = OneKeyHsm::new(7).signing_with(8);
    let chain = chain_for(&lying, NOW);
    let issuer = HsmIssuer::open(Arc::new(lying), label(), chain, domain())
        .await
        .unwrap();
    let refused = issuer.issue(request(terminal(), NOW)).await.unwrap_err();
    assert_eq!(refused.whose_move(), Move::Ours);
}

#[tokio::test]
async fn an_issuer_whose_key_is_not_in_its_certificate_does_not_start() {
    let chain = chain_for(&OneKeyHsm::new(7), NOW);
    let other = Arc::new(OneKeyHsm::new(8));
    let refused = HsmIssuer::open(other, label(), chain, domain()).await.err();
    assert_eq!(
        refused,
        Some(PkiError::ForeignIssuingKey { label: label().0 })
    );
}

#[tokio::test]
async fn an_authority_has_a_limited_number_of_hosts() {
    let issuer = issuer_at(NOW).await;
    let authority = |hosts: usize| IssueTo::Authority {
        node: "node-1".parse().unwrap(),
        dns: vec!["localhost".parse().unwrap(); hosts],
        addresses: Vec::new(),
    };
    assert!(
        issuer
            .issue(request(authority(HOSTS_MAX), NOW))
            .await
            .is_ok()
    );
    assert!(
        issuer
            .issue(request(authority(HOSTS_MAX + 1), NOW))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn an_agent_finds_its_own_certificate_in_the_answer() {
    let issuer = issuer_at(NOW).await;
    let own = issued(&issuer, terminal(), NOW).await;
    let own = Certificate::from_der(&own.der).unwrap();
    let chain = issuer.chain();
    let body = est::encode(&[chain.root(), &own, chain.issuing()]).unwrap();
    let found = est::decode(body.replace('\n', "\r\n").as_bytes()).unwrap();
    assert_eq!(est::certificate_for(&found, &own.spki_sha256()), Some(own));
    assert_eq!(est::certificate_for(&found, &[0; 32]), None);
}

#[tokio::test]
async fn an_agent_finds_the_chain_of_the_root_it_was_told_and_no_other() {
    let chain = issuer_at(NOW).await.chain();
    let other = chain_for(&OneKeyHsm::new(8), NOW);
    let mixed = [other.issuing(), other.root(), chain.issuing(), chain.root()].map(Clone::clone);
    let pinned = chain.root().fingerprint();
    assert_eq!(Chain::pinned(&mixed, &pinned), Ok(chain.clone()));
    let refused = Err(BadCertificate::ForeignRoot);
    assert_eq!(Chain::pinned(&mixed[..3], &pinned), refused);
    let rootless = [other.issuing().clone(), chain.root().clone()];
    assert_eq!(Chain::pinned(&rootless, &pinned), refused);
    let not_a_root = chain.issuing().fingerprint();
    assert_eq!(Chain::pinned(&mixed, &not_a_root), refused);
}

#[tokio::test]
async fn est_bodies_that_are_cut_empty_or_too_large_are_refused() {
    let chain = issuer_at(NOW).await.chain();
    let body = est::encode(&chain.certificates()).unwrap();
    let cut = &body[..body.len() / 2 / 4 * 4];
    assert!(est::decode(cut.as_bytes()).is_err());
    assert!(est::decode(est::encode(&[]).unwrap().as_bytes()).is_err());
    let many = vec![chain.root(); est::EST_CERTIFICATES_MAX + 1];
    assert!(est::decode(est::encode(&many).unwrap().as_bytes()).is_err());
    let large = vec![b'A'; est::EST_MAX_BYTES + 1];
    assert_eq!(est::decode(&large), Err(BadCertificate::TooLarge));
}

#[test]
fn a_root_key_opens_with_its_passphrase_only_and_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.key");
    let key = RootKey::generate().unwrap();
    let passphrase = passphrase_file(dir.path(), PASSPHRASE);
    let passphrase = Passphrase::from_file(&passphrase).unwrap();
    key.save(&path, &passphrase).unwrap();
    let root = key.certificate(NOW).unwrap();
    let back = RootKey::load(&path, &passphrase).unwrap();
    let point = SoftwareKey::generate().unwrap().public_point();
    assert!(back.sign_issuing(&root, &point, NOW).is_ok());

    let wrong = Passphrase::from_file(&passphrase_file(dir.path(), "not this passphrase")).unwrap();
    let refused = RootKey::load(&path, &wrong).unwrap_err();
    assert_eq!(problem(&refused), BadFile::WrongPassphrase);
    let refused = RootKey::generate()
        .unwrap()
        .save(&path, &passphrase)
        .unwrap_err();
    assert_eq!(problem(&refused), BadFile::Exists);
    fs::write(&path, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let refused = RootKey::load(&path, &passphrase).unwrap_err();
    assert_eq!(problem(&refused), BadFile::NotKey);
}

#[test]
fn a_root_key_signs_under_its_own_certificate_only() {
    let (one, two) = (RootKey::generate().unwrap(), RootKey::generate().unwrap());
    let root = one.certificate(NOW).unwrap();
    let point = SoftwareKey::generate().unwrap().public_point();
    let refused = two.sign_issuing(&root, &point, NOW);
    assert_eq!(refused, Err(PkiError::ForeignRootKey));
    assert_eq!(one.certificate(u64::MAX), Err(PkiError::ClockWrong));
}

#[test]
fn short_passphrases_are_refused_and_none_is_ever_shown() {
    let dir = tempfile::tempdir().unwrap();
    let short = passphrase_file(dir.path(), "eleven char");
    let refused = Passphrase::from_file(&short).unwrap_err();
    assert_eq!(problem(&refused), BadFile::PassphraseLength);
    let good = Passphrase::from_file(&passphrase_file(dir.path(), PASSPHRASE)).unwrap();
    let shown = format!(
        "{good:?} {refused:?} {refused} {:?}",
        RootKey::generate().unwrap()
    );
    assert!(!shown.contains("eleven"), "{shown}");
}

fn problem(error: &PkiError) -> BadFile {
    match error {
        PkiError::File { problem, .. } => *problem,
        other => panic!("{other}"),
    }
}

fn passphrase_file(dir: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("passphrase");
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}
