//! Does the one who asks for a certificate hold the key, and what name do they ask for?
//!
//! PKCS#10 (RFC 2986) in and out. [`check`] alone makes a [`CheckedCsr`], and only that is issued.

use std::str::FromStr;

use der::asn1::{BitString, Ia5String, SetOfVec};
use der::{Decode, Encode};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::attr::{Attribute, Attributes};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq};

use crate::certificate::{ECDSA_WITH_SHA256, p256_key, point, spki_sha256};
use crate::error::PkiError;
use crate::keys::SoftwareKey;
use crate::names::{Segment, SpiffeId, TrustDomain};
use crate::pem;

/// Largest request worth reading, in any of its forms. Ours have about 300 bytes.
pub const CSR_MAX_BYTES: usize = 8 * 1024;

const ISSUING_COMMON_NAME: &str = "M2Key issuing CA";
const CSR_LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];

/// A request whose sender holds the private key. The subject it asks for is not kept: what is issued
/// is decided by whoever issues, and [`agrees_with`](Self::agrees_with) compares the names asked for.
#[derive(Debug, Clone)]
pub struct CheckedCsr {
    der: Vec<u8>,
    key: VerifyingKey,
    names: Vec<GeneralName>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCsr {
    #[error("it is larger than {CSR_MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is neither PEM, base64 nor DER of exactly one PKCS#10 request")]
    Malformed,
    #[error("its key is not P-256")]
    Key,
    #[error("its signature is not ECDSA with SHA-256")]
    Algorithm,
    #[error("its signature does not fit its key")]
    Signature,
    #[error("it asks for a name that it will not get")]
    ForeignName,
}

impl BadCsr {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::TooLarge | Self::Malformed => "send one PKCS#10 request, base64 or PEM",
            Self::Key | Self::Algorithm => {
                "make the key with: openssl ecparam -name prime256v1 -genkey"
            }
            Self::Signature => "sign the request with the key that is in it",
            Self::ForeignName => {
                "leave the alternative names out, or ask for your own SPIFFE ID only"
            }
        }
    }
}

/// Reads a request from PEM, from base64 with or without line breaks (the body of EST), or from DER.
pub fn check(body: &[u8]) -> Result<CheckedCsr, BadCsr> {
    if body.len() > CSR_MAX_BYTES {
        return Err(BadCsr::TooLarge);
    }
    let der = unwrap(body)?;
    let request = CertReq::from_der(&der).map_err(|_| BadCsr::Malformed)?;
    // Re-encoding must give the same bytes, so that what is verified is what was read.
    if request.to_der().map_err(|_| BadCsr::Malformed)? != der {
        return Err(BadCsr::Malformed);
    }
    let key = p256_key(&request.info.public_key).ok_or(BadCsr::Key)?;
    check_signature(&request, &key)?;
    let names = names_asked(&request.info.attributes)?;
    Ok(CheckedCsr { der, key, names })
}

/// A request (DER) for the certificate of `id`, signed by `key`.
pub fn new(key: &SoftwareKey, id: &SpiffeId, domain: &TrustDomain) -> Result<Vec<u8>, PkiError> {
    let uri = Ia5String::new(&id.uri(domain)).map_err(PkiError::bug)?;
    let names = SubjectAltName(vec![GeneralName::UniformResourceIdentifier(uri)]);
    request(key, &id.name(), Some(names))
}

/// A request (DER) that leaves its name to the authority: an agent knows its terminal only after it
/// has enrolled.
pub fn new_unnamed(key: &SoftwareKey, common_name: &Segment) -> Result<Vec<u8>, PkiError> {
    request(key, common_name.as_str(), None)
}

/// A request for a key that is in an HSM: the digest goes there, the signature comes back.
pub struct UnsignedRequest {
    info: CertReqInfo,
    digest: [u8; 32],
}

impl UnsignedRequest {
    /// For the certificate of `id`; `point` is the public key, uncompressed SEC 1.
    pub fn new(point: &[u8; 65], id: &SpiffeId, domain: &TrustDomain) -> Result<Self, PkiError> {
        let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| BadCsr::Key)?;
        let uri = Ia5String::new(&id.uri(domain)).map_err(PkiError::bug)?;
        let names = SubjectAltName(vec![GeneralName::UniformResourceIdentifier(uri)]);
        let info = info(&key, &id.name(), Some(names))?;
        let digest = Sha256::digest(info.to_der().map_err(PkiError::bug)?).into();
        Ok(Self { info, digest })
    }

    /// For the certificate of an issuing CA: its name is for the root to choose.
    pub fn for_issuing(point: &[u8; 65]) -> Result<Self, PkiError> {
        let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| BadCsr::Key)?;
        let info = info(&key, ISSUING_COMMON_NAME, None)?;
        let digest = Sha256::digest(info.to_der().map_err(PkiError::bug)?).into();
        Ok(Self { info, digest })
    }

    /// What is to be signed.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The request (DER); `signature` is `r || s`. Whoever takes it verifies it.
    pub fn assemble(self, signature: &[u8; 64]) -> Result<Vec<u8>, PkiError> {
        let signature = Signature::from_slice(signature).map_err(PkiError::bug)?;
        signed(self.info, &signature.to_der()).map_err(PkiError::bug)
    }
}

/// The same as PEM.
pub fn to_pem(der: &[u8]) -> String {
    pem::armour(CSR_LABELS[0], der)
}

impl CheckedCsr {
    /// The request itself, for another process that checks it again.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Refuses a request that names anyone else; asking for no name at all is fine. Ask this before a
    /// join token is spent.
    pub fn agrees_with(&self, id: &SpiffeId, domain: &TrustDomain) -> Result<(), BadCsr> {
        let own = Ia5String::new(&id.uri(domain)).map_err(|_| BadCsr::ForeignName)?;
        self.asks_only_for(&[GeneralName::UniformResourceIdentifier(own)])
    }

    /// SHA-256 of the subject public key info: tells whether a key comes back.
    pub fn spki_sha256(&self) -> [u8; 32] {
        spki_sha256(&self.key)
    }

    /// The public key as an uncompressed SEC 1 point.
    pub fn public_point(&self) -> [u8; 65] {
        point(&self.key)
    }

    #[cfg(feature = "ca")]
    pub(crate) fn key(&self) -> &VerifyingKey {
        &self.key
    }

    pub(crate) fn asks_only_for(&self, granted: &[GeneralName]) -> Result<(), BadCsr> {
        if self.names.iter().all(|name| granted.contains(name)) {
            Ok(())
        } else {
            Err(BadCsr::ForeignName)
        }
    }
}

fn unwrap(body: &[u8]) -> Result<Vec<u8>, BadCsr> {
    const DER_SEQUENCE: u8 = 0x30;
    if body.first() == Some(&DER_SEQUENCE) {
        return Ok(body.to_vec());
    }
    let text = std::str::from_utf8(body).map_err(|_| BadCsr::Malformed)?;
    let blocks = pem::blocks(text).map_err(|_| BadCsr::Malformed)?;
    match blocks.as_slice() {
        [] => pem::unbase64(text).map_err(|_| BadCsr::Malformed),
        [only] if CSR_LABELS.contains(&only.label) => only.der().map_err(|_| BadCsr::Malformed),
        _ => Err(BadCsr::Malformed),
    }
}

fn check_signature(request: &CertReq, key: &VerifyingKey) -> Result<(), BadCsr> {
    let algorithm = &request.algorithm;
    if algorithm.oid != ECDSA_WITH_SHA256 || algorithm.parameters.is_some() {
        return Err(BadCsr::Algorithm);
    }
    let signed = request.info.to_der().map_err(|_| BadCsr::Malformed)?;
    let raw = request.signature.as_bytes().ok_or(BadCsr::Signature)?;
    let signature = DerSignature::try_from(raw).map_err(|_| BadCsr::Signature)?;
    key.verify(&signed, &signature)
        .map_err(|_| BadCsr::Signature)
}

/// Every alternative name asked for. Other extensions are not read: the profile decides them.
pub(crate) fn names_asked(attributes: &Attributes) -> Result<Vec<GeneralName>, BadCsr> {
    use der::oid::AssociatedOid;
    let mut names = Vec::new();
    for attribute in attributes.iter().filter(|a| a.oid == ExtensionReq::OID) {
        for value in attribute.values.iter() {
            let asked: Vec<Extension> = value.decode_as().map_err(|_| BadCsr::Malformed)?;
            for extension in asked.iter().filter(|e| e.extn_id == SubjectAltName::OID) {
                let alternative = SubjectAltName::from_der(extension.extn_value.as_bytes())
                    .map_err(|_| BadCsr::Malformed)?;
                names.extend(alternative.0);
            }
        }
    }
    Ok(names)
}

fn request(
    key: &SoftwareKey,
    common_name: &str,
    names: Option<SubjectAltName>,
) -> Result<Vec<u8>, PkiError> {
    let info = info(key.signing().verifying_key(), common_name, names)?;
    sign(info, key).map_err(PkiError::bug)
}

fn info(
    key: &VerifyingKey,
    common_name: &str,
    names: Option<SubjectAltName>,
) -> Result<CertReqInfo, PkiError> {
    let subject = Name::from_str(&format!("CN={common_name}")).map_err(PkiError::bug)?;
    let attributes = attributes(&subject, names).map_err(PkiError::bug)?;
    Ok(CertReqInfo {
        version: Default::default(),
        public_key: SubjectPublicKeyInfoOwned::from_key(key).map_err(PkiError::bug)?,
        subject,
        attributes,
    })
}

fn attributes(subject: &Name, names: Option<SubjectAltName>) -> der::Result<Attributes> {
    let mut attributes = SetOfVec::default();
    if let Some(names) = names {
        let extension = names.to_extension(subject, &[])?;
        attributes.insert(Attribute::try_from(ExtensionReq(vec![extension]))?)?;
    }
    Ok(attributes)
}

fn sign(info: CertReqInfo, key: &SoftwareKey) -> der::Result<Vec<u8>> {
    let signature: DerSignature = key.signing().sign(&info.to_der()?);
    signed(info, &signature)
}

fn signed(info: CertReqInfo, signature: &DerSignature) -> der::Result<Vec<u8>> {
    CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA256,
            parameters: None,
        },
        signature: BitString::from_bytes(signature.as_bytes())?,
    }
    .to_der()
}

/// SHA-256 of the subject public key info of a key that is in an HSM.
#[cfg(feature = "ca")]
pub(crate) fn point_spki_sha256(point: &[u8; 65]) -> Result<[u8; 32], PkiError> {
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| BadCsr::Key)?;
    Ok(spki_sha256(&key))
}
