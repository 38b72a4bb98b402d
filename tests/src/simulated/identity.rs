//! Who is a terminal that was never enrolled?

use pki::{Certificate, SoftwareKey};
use protocol::ids::TerminalId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm,
};
use reader_agent::identity::Identity;
use reader_agent::trust::Trust;

struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A certificate that outlasts every simulation, of a root that nobody else knows.
///
/// # Panics
/// If no key can be made.
pub fn enrolled(terminal: TerminalId) -> (Identity, Trust) {
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "Root");
    let root_der = root.self_signed(&key).unwrap();
    let own = SoftwareKey::generate().unwrap();
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name.push(DnType::CommonName, "x");
    let name = format!("spiffe://m2key.example/terminal/{terminal}");
    leaf.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let point = Point(own.public_point().to_vec());
    let leaf_der = leaf.signed_by(&point, &Issuer::new(root, key)).unwrap();
    let [leaf, root] =
        [leaf_der.der(), root_der.der()].map(|der| Certificate::from_der(der).unwrap());
    let identity = Identity::new(own, vec![leaf]).unwrap();
    (identity, Trust::pinned(root))
}
