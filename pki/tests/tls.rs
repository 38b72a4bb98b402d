//! Does the TLS library of both daemons take these certificates and keys, each for its purpose only?
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{DAY, NOW, OneKeyHsm, chain_for, issued, issuer_at, terminal_id};
use pki::{Chain, IssueTo, IssuedCertificate, Issuer, SoftwareKey};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;

fn roots(chain: &Chain) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(chain.root().der())).unwrap();
    Arc::new(roots)
}

fn at(now: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now))
}

fn is_client(chain: &Chain, leaf: &IssuedCertificate, now: u64) -> bool {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(chain), provider)
        .build()
        .unwrap();
    let (leaf, issuing) = (
        CertificateDer::from(&leaf.der[..]),
        CertificateDer::from(chain.issuing().der()),
    );
    verifier
        .verify_client_cert(&leaf, &[issuing], at(now))
        .is_ok()
}

fn is_server(chain: &Chain, leaf: &IssuedCertificate, host: &str) -> bool {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(chain), provider)
        .build()
        .unwrap();
    let (leaf, issuing) = (
        CertificateDer::from(&leaf.der[..]),
        CertificateDer::from(chain.issuing().der()),
    );
    let host = ServerName::try_from(host).unwrap();
    verifier
        .verify_server_cert(&leaf, &[issuing], &host, &[], at(NOW))
        .is_ok()
}

#[tokio::test]
async fn terminals_and_operators_are_clients_and_no_servers() {
    let issuer = issuer_at(NOW).await;
    let chain = issuer.chain();
    for to in [
        IssueTo::Terminal(terminal_id()),
        IssueTo::Operator("first".parse().unwrap()),
    ] {
        let leaf = issued(&issuer, to, NOW).await;
        assert!(is_client(&chain, &leaf, NOW));
        assert!(!is_client(&chain, &leaf, NOW + 100 * DAY));
        assert!(!is_client(&chain_for(&OneKeyHsm::new(8), NOW), &leaf, NOW));
        assert!(!is_server(&chain, &leaf, "localhost"));
    }
}

#[tokio::test]
async fn an_authority_is_a_server_under_its_hosts_only_and_no_client() {
    let issuer = issuer_at(NOW).await;
    let chain = issuer.chain();
    let to = IssueTo::Authority {
        node: "node-1".parse().unwrap(),
        dns: vec!["localhost".parse().unwrap()],
        addresses: vec!["127.0.0.1".parse().unwrap()],
    };
    let leaf = issued(&issuer, to, NOW).await;
    assert!(is_server(&chain, &leaf, "localhost"));
    assert!(is_server(&chain, &leaf, "127.0.0.1"));
    assert!(!is_server(&chain, &leaf, "127.0.0.2"));
    assert!(!is_server(&chain, &leaf, "m2key.example"));
    assert!(!is_client(&chain, &leaf, NOW));
}

#[test]
fn a_software_key_signs_handshakes() {
    let der = SoftwareKey::generate().unwrap().pkcs8_der().unwrap();
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(&der[..]));
    assert!(ring::sign::any_ecdsa_type(&der).is_ok());
}
