//! Which certificate requests are refused, and with which words?
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{NOW, domain, issuer_at, openssl_ok, terminal_id};
use der::{Decode, Encode};
use pki::csr::{self, CSR_MAX_BYTES};
use pki::{BadCsr, IssueRequest, IssueTo, Issuer, PkiError, SoftwareKey, SpiffeId};
use proptest::prelude::*;
use protocol::ids::TerminalId;
use x509_cert::request::CertReq;

/// A request by openssl: how its key is made, and what else `openssl req` is told.
fn made_by_openssl(dir: &Path, key: &[&str], more: &[&str]) -> Vec<u8> {
    let mut arguments = vec!["genpkey", "-out", "k.pem"];
    arguments.extend(key);
    openssl_ok(dir, &arguments);
    let mut arguments = vec![
        "req", "-new", "-key", "k.pem", "-subj", "/CN=x", "-outform", "DER",
    ];
    arguments.extend(["-out", "r.der"]);
    arguments.extend(more);
    openssl_ok(dir, &arguments);
    fs::read(dir.join("r.der")).unwrap()
}

const P256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn good() -> Vec<u8> {
    let key = SoftwareKey::generate().unwrap();
    csr::new(&key, &SpiffeId::Terminal(terminal_id()), &domain()).unwrap()
}

fn refusal(body: &[u8]) -> BadCsr {
    csr::check(body).unwrap_err()
}

#[test]
fn other_keys_and_other_hashes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    for key in [&p384[..], &rsa[..], &["-algorithm", "ED25519"][..]] {
        assert_eq!(
            refusal(&made_by_openssl(dir, key, &[])),
            BadCsr::Key,
            "{key:?}"
        );
    }
    let explicit = [&P256[..], &["-pkeyopt", "ec_param_enc:explicit"]].concat();
    assert_eq!(refusal(&made_by_openssl(dir, &explicit, &[])), BadCsr::Key);
    assert_eq!(
        refusal(&made_by_openssl(dir, &P256, &["-sha384"])),
        BadCsr::Algorithm
    );
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let read = |der: &[u8]| CertReq::from_der(der).unwrap();
    let mut mixed = read(&good());
    mixed.signature = read(&good()).signature;
    assert_eq!(refusal(&mixed.to_der().unwrap()), BadCsr::Signature);
}

#[test]
fn trailing_truncated_oversized_and_doubled_requests_are_refused() {
    let der = good();
    assert_eq!(refusal(&[&der[..], &[0]].concat()), BadCsr::Malformed);
    assert_eq!(refusal(&der[..der.len() - 1]), BadCsr::Malformed);
    assert_eq!(refusal(&[]), BadCsr::Malformed);
    let pem = csr::to_pem(&der);
    assert!(csr::check(pem.as_bytes()).is_ok());
    assert_eq!(refusal(format!("{pem}{pem}").as_bytes()), BadCsr::Malformed);
    assert_eq!(
        refusal(pem.replace("REQUEST", "").as_bytes()),
        BadCsr::Malformed
    );
    assert_eq!(refusal(&vec![b' '; CSR_MAX_BYTES + 1]), BadCsr::TooLarge);
}

#[test]
fn a_huge_extension_is_refused_by_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let huge = format!(
        "subjectAltName=DNS:{}",
        vec!["a.example"; 1000].join(",DNS:")
    );
    let request = made_by_openssl(dir.path(), &P256, &["-addext", &huge]);
    assert_eq!(refusal(&request), BadCsr::TooLarge);
}

#[tokio::test]
async fn nobody_gets_a_name_that_is_not_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    let own = SpiffeId::Terminal(terminal_id());
    let neighbour = SpiffeId::Terminal(TerminalId::from_number(7).unwrap()).uri(&domain());
    let names = [
        format!("URI:{neighbour}"),
        format!("URI:{},URI:{neighbour}", own.uri(&domain())),
        format!("URI:{}", own.uri(&"elsewhere.example".parse().unwrap())),
        "DNS:localhost".into(),
        "IP:127.0.0.1".into(),
        "email:x@m2key.example".into(),
        "dirName:sub\n[sub]\nCN=x".into(),
    ];
    for name in names {
        fs::write(
            dir.path().join("c"),
            format!("[req]\ndistinguished_name=d\n[d]\n[e]\nsubjectAltName={name}\n"),
        )
        .unwrap();
        let more = ["-config", "c", "-reqexts", "e"];
        let csr = csr::check(&made_by_openssl(dir.path(), &P256, &more)).unwrap();
        assert_eq!(
            csr.agrees_with(&own, &domain()),
            Err(BadCsr::ForeignName),
            "{name}"
        );
        let to = IssueTo::Terminal(terminal_id());
        let refused = issuer.issue(IssueRequest { csr, to, now: NOW }).await;
        assert_eq!(refused, Err(PkiError::Csr(BadCsr::ForeignName)), "{name}");
    }
}

#[tokio::test]
async fn an_extension_that_asks_for_ca_power_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let more = [
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=keyCertSign",
    ];
    let csr = csr::check(&made_by_openssl(dir.path(), &P256, &more)).unwrap();
    let to = IssueTo::Terminal(terminal_id());
    let issuer = issuer_at(NOW).await;
    let issued = issuer
        .issue(IssueRequest { csr, to, now: NOW })
        .await
        .unwrap();
    let peer = pki::identity_of(&issued.der, &domain()).unwrap();
    assert_eq!(peer.id, SpiffeId::Terminal(terminal_id()));
}

proptest! {
    #[test]
    fn no_bytes_make_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = csr::check(&bytes);
    }

    #[test]
    fn a_request_with_one_changed_byte_is_never_another_valid_one(at in 0usize..1000, change in 1u8..) {
        let mut der = good();
        let at = at % der.len();
        der[at] ^= change;
        prop_assert!(csr::check(&der).is_err());
    }
}

#[test]
fn a_request_that_is_signed_elsewhere_is_as_good_as_one_of_a_file_key() {
    use p256::ecdsa::signature::hazmat::PrehashSigner;
    use p256::ecdsa::{Signature, SigningKey};
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let point = key.verifying_key().to_sec1_point(false);
    let point: [u8; 65] = point.as_bytes().try_into().unwrap();
    let id = SpiffeId::Terminal(terminal_id());
    let request = || csr::UnsignedRequest::new(&point, &id, &domain()).unwrap();
    let sign = |digest: [u8; 32]| -> [u8; 64] {
        let signature: Signature = key.sign_prehash(&digest).unwrap();
        signature.to_bytes().into()
    };
    let good = request().assemble(&sign(request().digest())).unwrap();
    let checked = csr::check(&good).unwrap();
    assert_eq!(checked.public_point(), point);
    assert!(checked.agrees_with(&id, &domain()).is_ok());
    let of_something_else = request().assemble(&sign([9; 32])).unwrap();
    assert_eq!(refusal(&of_something_else), BadCsr::Signature);
}
