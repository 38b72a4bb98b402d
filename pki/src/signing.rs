//! How does a profile become a signed certificate when the key is elsewhere?
//!
//! In two halves, so that the signature may be made by a file key, an HSM or another process:
//! [`Unsigned::digest`] goes out, the signature comes back to [`Unsigned::assemble`], which believes
//! it only after it verified it.

use der::Encode;
use der::asn1::BitString;
use p256::ecdsa::signature::Keypair;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, SubjectPublicKeyInfoOwned};
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Validity;

use crate::certificate::{Certificate, ECDSA_WITH_SHA256};
use crate::dates::to_x509;
use crate::error::PkiError;
use crate::profiles::{BACKDATE_SECONDS, Issued, Profile};

/// 128 random bits; as an unsigned integer they are always positive (RFC 5280, 4.1.2.2).
const SERIAL_BYTES: usize = 16;

/// A certificate that waits for its signature.
pub(crate) struct Unsigned {
    builder: CertificateBuilder<Issued>,
    issuer: IssuerKey,
    digest: [u8; 32],
}

/// From when to when, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl Period {
    /// From a little before `now` for the life of the profile, ending no later than its issuer.
    pub(crate) fn of(profile: &Profile, now: u64, issuer_ends: u64) -> Self {
        Self {
            not_before: now.saturating_sub(BACKDATE_SECONDS),
            not_after: now
                .saturating_add(profile.lifetime_seconds())
                .min(issuer_ends),
        }
    }
}

impl Unsigned {
    pub(crate) fn new(
        profile: Profile,
        issuer: Name,
        issuer_key: VerifyingKey,
        subject_key: &VerifyingKey,
        period: Period,
    ) -> Result<Self, PkiError> {
        let spki = SubjectPublicKeyInfoOwned::from_key(subject_key).map_err(PkiError::bug)?;
        let validity = Validity::new(to_x509(period.not_before)?, to_x509(period.not_after)?);
        let mut builder =
            CertificateBuilder::new(profile.issued_by(issuer), random_serial()?, validity, spki)
                .map_err(PkiError::bug)?;
        let issuer = IssuerKey(issuer_key);
        let tbs = builder.finalize(&issuer).map_err(PkiError::bug)?;
        Ok(Self {
            builder,
            issuer,
            digest: Sha256::digest(tbs).into(),
        })
    }

    /// What is to be signed.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The certificate, if `r || s` is the issuer's signature of it.
    pub(crate) fn assemble(self, signature: [u8; 64]) -> Result<Certificate, PkiError> {
        let signature = checked_signature(&self.issuer.0, &self.digest, signature)?;
        let bits = BitString::from_bytes(signature.to_der().as_bytes()).map_err(PkiError::bug)?;
        let signed = self
            .builder
            .assemble(bits, &self.issuer)
            .map_err(PkiError::bug)?;
        Certificate::from_der(&signed.to_der().map_err(PkiError::bug)?).map_err(PkiError::bug)
    }
}

/// `r || s` with low s, if it is `key`'s signature of `digest`.
pub(crate) fn checked_signature(
    key: &VerifyingKey,
    digest: &[u8; 32],
    signature: [u8; 64],
) -> Result<Signature, PkiError> {
    let signature = Signature::from_slice(&signature)
        .map_err(PkiError::bug)?
        .normalize_s();
    key.verify_prehash(digest, &signature)
        .map_err(|_| PkiError::bug("a signature just made does not verify"))?;
    Ok(signature)
}

/// The builder asks only for the public half and the algorithm.
struct IssuerKey(VerifyingKey);

impl Keypair for IssuerKey {
    type VerifyingKey = VerifyingKey;

    fn verifying_key(&self) -> VerifyingKey {
        self.0
    }
}

impl DynSignatureAlgorithmIdentifier for IssuerKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA256,
            parameters: None,
        })
    }
}

fn random_serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; SERIAL_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| PkiError::NoRandom)?;
    SerialNumber::new(&bytes).map_err(PkiError::bug)
}
