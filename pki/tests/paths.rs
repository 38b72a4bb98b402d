//! Whose certificates are believed, and whom do they name?
#![allow(clippy::unwrap_used)]

mod common;

use common::{DAY, Forge, NOW, domain, issued, issuer_at, openssl_ok, terminal_id};
use pki::{
    BadCertificate, Certificate, Chain, IssueTo, Issuer, PkiError, SpiffeId, identity_of,
    verify_chain,
};
use proptest::prelude::*;

const CLIENT: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n";
const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";

fn own_uri() -> String {
    SpiffeId::Terminal(terminal_id()).uri(&domain())
}

async fn terminal_certificate() -> (Certificate, Chain) {
    let issuer = issuer_at(NOW).await;
    let issued = issued(&issuer, IssueTo::Terminal(terminal_id()), NOW).await;
    (Certificate::from_der(&issued.der).unwrap(), issuer.chain())
}

#[tokio::test]
async fn a_terminal_is_believed_through_any_order_of_intermediates() {
    let (leaf, chain) = terminal_certificate().await;
    // The same issuing key under another root: a way that looks right and ends nowhere.
    let (_, stranger) = terminal_certificate().await;
    let mut given = vec![
        stranger.issuing().clone(),
        chain.root().clone(),
        chain.issuing().clone(),
    ];
    for _ in 0..given.len() {
        let verified = verify_chain(&leaf, &given, chain.root(), NOW).unwrap();
        let peer = verified.identity(&domain()).unwrap();
        assert_eq!(peer.id, SpiffeId::Terminal(terminal_id()));
        assert_eq!(peer.not_after, NOW + 7 * DAY);
        assert_eq!(peer.spki_sha256, leaf.spki_sha256());
        assert_eq!(peer.serial, leaf.serial_hex());
        given.rotate_left(1);
    }
}

#[tokio::test]
async fn another_root_or_a_missing_issuing_certificate_is_refused() {
    let (leaf, chain) = terminal_certificate().await;
    let (_, other) = terminal_certificate().await;
    let issuing = [chain.issuing().clone()];
    let refused = verify_chain(&leaf, &issuing, other.root(), NOW);
    assert_eq!(refused, Err(BadCertificate::ForeignRoot));
    let refused = verify_chain(&leaf, &[], chain.root(), NOW);
    assert_eq!(refused, Err(BadCertificate::ForeignRoot));
    assert!(Chain::new(chain.issuing().clone(), other.root().clone()).is_err());
    assert!(Chain::new(leaf, chain.issuing().clone()).is_err());
}

#[test]
fn a_root_of_the_same_name_and_another_key_is_refused() {
    let forge = Forge::new();
    let leaf = forge.sign("issuing", "leaf", CLIENT);
    let name = openssl_root_name(&forge);
    let config = format!("[req]\ndistinguished_name=d\nx509_extensions=e\n[d]\n[e]\n{CA}");
    std::fs::write(forge.dir.path().join("c"), config).unwrap();
    let arguments = [
        "req",
        "-x509",
        "-config",
        "c",
        "-utf8",
        "-key",
        "today.key",
        "-subj",
        &name,
        "-out",
        "fake.pem",
    ];
    openssl_ok(forge.dir.path(), &arguments);
    let fake = std::fs::read_to_string(forge.dir.path().join("fake.pem")).unwrap();
    let fake = Certificate::from_pem(&fake).unwrap();
    let given = [forge.chain.issuing().clone()];
    assert!(verify_chain(&leaf, &given, forge.chain.root(), forge.now).is_ok());
    let refused = verify_chain(&leaf, &given, &fake, forge.now);
    assert_eq!(refused, Err(BadCertificate::ForeignRoot));
}

fn openssl_root_name(forge: &Forge) -> String {
    std::fs::write(forge.dir.path().join("root.pem"), forge.chain.root().pem()).unwrap();
    let arguments = [
        "x509", "-in", "root.pem", "-noout", "-subject", "-nameopt", "RFC2253",
    ];
    let said = openssl_ok(forge.dir.path(), &arguments);
    format!("/{}", said.trim().strip_prefix("subject=").unwrap())
}

#[tokio::test]
async fn the_last_second_is_valid_and_the_next_is_not() {
    let issuer = issuer_at(NOW).await;
    let leaf = issued(&issuer, IssueTo::Terminal(terminal_id()), NOW + DAY).await;
    let (leaf, chain) = (Certificate::from_der(&leaf.der).unwrap(), issuer.chain());
    let given = [chain.issuing().clone()];
    let at = |now: u64| verify_chain(&leaf, &given, chain.root(), now).map(|_| ());
    let (not_before, not_after) = (leaf.not_before(), leaf.not_after());
    assert_eq!(at(not_before), Ok(()));
    assert_eq!(at(not_after), Ok(()));
    assert_eq!(
        at(not_before - 1),
        Err(BadCertificate::NotYetValid { not_before })
    );
    assert_eq!(
        at(not_after + 1),
        Err(BadCertificate::Expired { not_after })
    );
}

#[tokio::test]
async fn an_expired_ca_is_not_mistaken_for_an_expired_terminal() {
    let (leaf, chain) = terminal_certificate().await;
    let given = [chain.issuing().clone()];
    for now in [
        chain.issuing().not_after() + 1,
        chain.root().not_after() + 1,
        0,
    ] {
        let refused = verify_chain(&leaf, &given, chain.root(), now);
        assert_eq!(refused, Err(BadCertificate::IssuerDates));
    }
}

#[test]
fn a_maze_of_cas_ends_in_a_refusal() {
    let forge = Forge::new();
    let leaf = forge.sign("issuing", "leaf", CLIENT);
    let issuing = forge.chain.issuing();
    // Many certificates of one key and name, each issued by all the others.
    let maze: Vec<Certificate> = (0..24)
        .map(|serial| forge.reissue(issuing, serial, CA))
        .collect();
    let refused = verify_chain(&leaf, &maze, forge.chain.root(), forge.now);
    assert_eq!(refused, Err(BadCertificate::ChainTooLong));
    let with_exit = [&maze[..3], std::slice::from_ref(issuing)].concat();
    assert!(verify_chain(&leaf, &with_exit, forge.chain.root(), forge.now).is_ok());
}

#[test]
fn only_cas_issue_and_only_as_deep_as_they_may() {
    let forge = Forge::new();
    let leaf = forge.sign("issuing", "leaf", CLIENT);
    let below_leaf = forge.sign("leaf", "below-leaf", CLIENT);
    let sub = forge.sign("issuing", "sub", CA);
    let below_sub = forge.sign("sub", "below-sub", CLIENT);
    let given = [forge.chain.issuing().clone(), leaf.clone(), sub.clone()];
    let verify = |leaf| verify_chain(leaf, &given, forge.chain.root(), forge.now).map(|_| ());
    assert_eq!(verify(&leaf), Ok(()));
    assert_eq!(verify(&below_leaf), Err(BadCertificate::IssuerNotAllowed));
    assert_eq!(verify(&below_sub), Err(BadCertificate::IssuerNotAllowed));
    assert_eq!(verify(&sub), Err(BadCertificate::IsCa));
    assert_eq!(verify(forge.chain.issuing()), Err(BadCertificate::IsCa));
}

#[test]
fn a_critical_extension_that_nobody_here_knows_is_refused() {
    let forge = Forge::new();
    let given = [forge.chain.issuing().clone()];
    for (mark, allowed) in [("critical,", false), ("", true)] {
        let extensions = format!("{CLIENT}1.2.3.4={mark}DER:0500\n");
        let leaf = forge.sign("issuing", "leaf", &extensions);
        let verified = verify_chain(&leaf, &given, forge.chain.root(), forge.now);
        assert_eq!(verified.is_ok(), allowed);
        assert!(allowed || verified == Err(BadCertificate::Extension));
    }
}

#[test]
fn a_certificate_names_exactly_one_machine_for_exactly_its_purpose() {
    let forge = Forge::new();
    let own = own_uri();
    let name = |names: &str| identity(&forge, &format!("{CLIENT}subjectAltName={names}\n"));
    assert!(name(&format!("URI:{own}")).is_ok());
    assert_eq!(
        name(&format!("URI:{own},URI:{own}")),
        Err(BadCertificate::NotOneName)
    );
    assert_eq!(
        name(&format!("URI:{own},DNS:localhost")),
        Err(BadCertificate::NotOneName)
    );
    assert_eq!(name("DNS:localhost"), Err(BadCertificate::NotOneName));
    assert_eq!(identity(&forge, CLIENT), Err(BadCertificate::NotOneName));
    let foreign = own.replace("m2key.example", "elsewhere.example");
    assert!(matches!(
        name(&format!("URI:{foreign}")),
        Err(BadCertificate::Name(_))
    ));
    let node = own.replace(&format!("terminal/{}", terminal_id()), "authority/node-1");
    assert_eq!(name(&format!("URI:{node}")), Err(BadCertificate::Purpose));
    let both = CLIENT.replace("clientAuth", "clientAuth,serverAuth");
    let both = format!("{both}subjectAltName=URI:{own}\n");
    assert_eq!(identity(&forge, &both), Err(BadCertificate::Purpose));
    let ca = format!("{CA}extendedKeyUsage=clientAuth\nsubjectAltName=URI:{own}\n");
    assert_eq!(identity(&forge, &ca), Err(BadCertificate::IsCa));
}

fn identity(forge: &Forge, extensions: &str) -> Result<SpiffeId, BadCertificate> {
    let leaf = forge.sign("issuing", "leaf", extensions);
    match identity_of(leaf.der(), &domain()) {
        Ok(peer) => Ok(peer.id),
        Err(PkiError::Certificate(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn no_certificate_with_one_changed_byte_is_believed() {
    let (leaf, chain) = terminal_certificate().await;
    let given = [chain.issuing().clone()];
    for at in 0..leaf.der().len() {
        let mut der = leaf.der().to_vec();
        der[at] ^= 1;
        let believed = Certificate::from_der(&der)
            .and_then(|changed| verify_chain(&changed, &given, chain.root(), NOW));
        assert!(believed.is_err(), "byte {at}");
    }
}

#[tokio::test]
async fn trailing_and_truncated_certificates_are_refused() {
    let (leaf, _) = terminal_certificate().await;
    let der = leaf.der();
    let longer = [der, &[0]].concat();
    for bytes in [&longer[..], &der[..der.len() - 1], &[]] {
        assert_eq!(Certificate::from_der(bytes), Err(BadCertificate::NotDer));
    }
    let large = vec![0; pki::CERTIFICATE_MAX_BYTES + 1];
    assert_eq!(Certificate::from_der(&large), Err(BadCertificate::TooLarge));
    assert_eq!(
        Certificate::from_pem(&(leaf.pem() + &leaf.pem())),
        Err(BadCertificate::NotOne)
    );
    assert_eq!(Certificate::from_pem("no"), Err(BadCertificate::NotPem));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Certificate::from_der(&bytes);
        let _ = identity_of(&bytes, &domain());
        let _ = pki::est::decode(&bytes);
    }

    #[test]
    fn no_base64_makes_the_est_parser_panic(text in "MI[A-Za-z0-9+/]{0,200}") {
        let _ = pki::est::decode(text.as_bytes());
    }
}
