//! Is this a certificate of a kind that M2Key issues?
//!
//! X.509 allows far more than M2Key uses. Only what the profiles can produce becomes a
//! [`Certificate`]: version 3, P-256, ECDSA with SHA-256, canonical DER and nothing after it.

use std::fmt;
use std::path::Path;

use der::{Decode, Encode};
use p256::ecdsa::VerifyingKey;
use sha2::{Digest, Sha256};
use spki::{EncodePublicKey, SubjectPublicKeyInfoOwned};
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};
use x509_cert::time::Time;

use crate::chain::Fingerprint;
use crate::error::PkiError;
use crate::{files, pem};

/// Largest certificate worth reading. Ours have about 600 bytes.
pub const CERTIFICATE_MAX_BYTES: usize = 16 * 1024;

pub(crate) const CERTIFICATE_LABEL: &str = "CERTIFICATE";
pub(crate) const ECDSA_WITH_SHA256: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// One certificate, its bytes kept as they came.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    x509: x509_cert::Certificate,
    key: VerifyingKey,
}

/// Why a certificate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    #[error("it is larger than {CERTIFICATE_MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is not a DER certificate, or something follows it")]
    NotDer,
    #[error("there is no certificate in it, or the armour around it is broken")]
    NotPem,
    #[error("there is more than the one certificate expected")]
    NotOne,
    #[error("its key or signature is not ECDSA P-256 with SHA-256")]
    Algorithm,
    #[error("it holds a critical extension that is not understood, or an extension twice")]
    Extension,
    #[error("its issuer is not among the certificates given")]
    NoIssuer,
    #[error("the signature of its issuer does not verify")]
    Signature,
    #[error("its issuer is not allowed to issue it")]
    IssuerNotAllowed,
    #[error("the chain is longer than allowed")]
    ChainTooLong,
    #[error("it does not lead to the root that is trusted here")]
    ForeignRoot,
    #[error("its key, or that of the issuing CA above it, is denied by the list of trusted roots")]
    Denied,
    #[error("it is not valid yet (from {not_before}, Unix time)")]
    NotYetValid { not_before: u64 },
    #[error("it has expired (at {not_after}, Unix time)")]
    Expired { not_after: u64 },
    #[error("a CA certificate above it is not valid at this time")]
    IssuerDates,
    #[error("it is a CA certificate where that of a machine or an operator is expected")]
    IsCa,
    #[error("it does not hold exactly one name, and that a SPIFFE ID")]
    NotOneName,
    #[error("it names nobody of this trust domain ({0})")]
    Name(crate::names::BadName),
    #[error("its purpose does not fit its name")]
    Purpose,
    #[error("not a fingerprint of 64 hexadecimal digits")]
    Fingerprint,
}

impl BadCertificate {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::IssuerDates => {
                "compare the clocks; if they are right, the operator renews the CA"
            }
            Self::NotYetValid { .. } => "compare the clocks of both machines",
            Self::Expired { .. } => "renew the certificate; if it is fresh, compare the clocks",
            Self::ForeignRoot | Self::NoIssuer | Self::Signature => {
                "compare the root fingerprint with the one that the operator of the authority gave you"
            }
            Self::Denied => "get a certificate from the issuing CA that is active now",
            Self::TooLarge | Self::NotDer | Self::NotPem | Self::NotOne | Self::Algorithm => {
                "give a P-256 certificate as PEM or DER"
            }
            Self::Fingerprint => "copy the root fingerprint that init printed, all 64 digits",
            Self::Extension
            | Self::IssuerNotAllowed
            | Self::ChainTooLong
            | Self::IsCa
            | Self::NotOneName
            | Self::Name(_)
            | Self::Purpose => "use a certificate that this authority issued for this purpose",
        }
    }
}

impl Certificate {
    pub fn from_der(der: &[u8]) -> Result<Self, BadCertificate> {
        if der.len() > CERTIFICATE_MAX_BYTES {
            return Err(BadCertificate::TooLarge);
        }
        let x509 = x509_cert::Certificate::from_der(der).map_err(|_| BadCertificate::NotDer)?;
        if x509.to_der().map_err(|_| BadCertificate::NotDer)? != der {
            return Err(BadCertificate::NotDer);
        }
        let key = checked_key(&x509)?;
        Ok(Self {
            der: der.to_vec(),
            x509,
            key,
        })
    }

    /// Exactly one PEM block.
    pub fn from_pem(text: &str) -> Result<Self, BadCertificate> {
        let mut all = crate::chain::certificates_from_pem(text)?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(BadCertificate::NotOne),
        }
    }

    /// The one certificate in a PEM or DER file.
    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let bytes = files::read_public(path)?;
        let certificate = match std::str::from_utf8(&bytes) {
            Ok(text) => Self::from_pem(text),
            Err(_) => Self::from_der(&bytes),
        };
        Ok(certificate?)
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub fn pem(&self) -> String {
        pem::armour(CERTIFICATE_LABEL, &self.der)
    }

    /// The serial number in lower-case hexadecimal, two digits per byte.
    pub fn serial_hex(&self) -> String {
        serial_hex(&self.x509)
    }

    /// Unix seconds.
    pub fn not_before(&self) -> u64 {
        unix(&self.x509.tbs_certificate().validity().not_before)
    }

    /// Unix seconds; the certificate is still good in this second.
    pub fn not_after(&self) -> u64 {
        unix(&self.x509.tbs_certificate().validity().not_after)
    }

    /// SHA-256 of the whole certificate: what people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// SHA-256 of the subject public key info: the same for every certificate of one key.
    pub fn spki_sha256(&self) -> [u8; 32] {
        spki_sha256(&self.key)
    }

    /// The key identifier of its own key (RFC 5280, 4.2.1.2), lower-case hexadecimal: names the key of
    /// a CA wherever people meet it.
    pub fn key_id_hex(&self) -> Option<String> {
        let found = self.x509.tbs_certificate().get_extension();
        let (_, id): (bool, SubjectKeyIdentifier) = found.ok()??;
        Some(hex(id.0.as_bytes()))
    }

    /// The key identifier of the key that signed it (RFC 5280, 4.2.1.1), lower-case hexadecimal.
    pub fn issuer_key_id_hex(&self) -> Option<String> {
        let found = self.x509.tbs_certificate().get_extension();
        let (_, id): (bool, AuthorityKeyIdentifier) = found.ok()??;
        id.key_identifier.map(|id| hex(id.as_bytes()))
    }

    /// The public key as an uncompressed SEC 1 point.
    pub fn public_point(&self) -> [u8; 65] {
        point(&self.key)
    }

    /// Whether `issuer` signed this end-entity certificate, and may.
    pub fn is_issued_by(&self, issuer: &Self) -> bool {
        crate::verify::check_link(self, issuer, 0).is_ok()
    }

    pub(crate) fn verifying_key(&self) -> &VerifyingKey {
        &self.key
    }

    pub(crate) fn x509(&self) -> &x509_cert::Certificate {
        &self.x509
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.x509.tbs_certificate().subject();
        write!(f, "Certificate({subject}, serial {})", self.serial_hex())
    }
}

/// From when to when any X.509 certificate is good, also one that M2Key does not issue: Unix seconds.
pub fn validity(der: &[u8]) -> Result<(u64, u64), BadCertificate> {
    let read = x509_cert::Certificate::from_der(der).map_err(|_| BadCertificate::NotDer)?;
    let validity = read.tbs_certificate().validity();
    Ok((unix(&validity.not_before), unix(&validity.not_after)))
}

pub(crate) fn serial_hex(x509: &x509_cert::Certificate) -> String {
    serial_text(x509.tbs_certificate().serial_number())
}

pub(crate) fn serial_text(serial: &x509_cert::serial_number::SerialNumber) -> String {
    let bytes = serial.as_bytes();
    hex(bytes.strip_prefix(&[0]).unwrap_or(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn spki_sha256(key: &VerifyingKey) -> [u8; 32] {
    Sha256::digest(spki_der(key)).into()
}

pub(crate) fn point(key: &VerifyingKey) -> [u8; 65] {
    let bytes = key.to_sec1_point(false);
    bytes
        .as_bytes()
        .try_into()
        .expect("an uncompressed P-256 point has 65 bytes")
}

/// The key inside, if it is P-256 and written in the one way that gives one key one hash.
pub(crate) fn p256_key(spki: &SubjectPublicKeyInfoOwned) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_sec1_bytes(spki.subject_public_key.as_bytes()?).ok()?;
    (spki.to_der().ok()? == spki_der(&key)).then_some(key)
}

fn spki_der(key: &VerifyingKey) -> Vec<u8> {
    key.to_public_key_der()
        .expect("a P-256 key always has an encoding")
        .into_vec()
}

fn checked_key(x509: &x509_cert::Certificate) -> Result<VerifyingKey, BadCertificate> {
    let tbs = x509.tbs_certificate();
    let algorithm = x509.signature_algorithm();
    let as_issued = tbs.version() == Version::V3
        && tbs.signature() == algorithm
        && algorithm.oid == ECDSA_WITH_SHA256
        && algorithm.parameters.is_none();
    if !as_issued {
        return Err(BadCertificate::Algorithm);
    }
    p256_key(tbs.subject_public_key_info()).ok_or(BadCertificate::Algorithm)
}

fn unix(time: &Time) -> u64 {
    time.to_unix_duration().as_secs()
}
