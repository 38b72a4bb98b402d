//! How do certificates travel in EST?
//!
//! As a CMS SignedData that signs nothing (RFC 7030, 4.1.3; RFC 5652, 5.1), in base64:
//!
//! ```text
//! ContentInfo { signedData, [0] SignedData {
//!     version 1, digestAlgorithms {}, encapContentInfo { data }, certificates [0] { … }, signerInfos {} } }
//! ```

use der::asn1::{Any, ObjectIdentifier, SetOfVec};
use der::{Decode, Encode, Sequence};

use crate::certificate::{BadCertificate, Certificate, ECDSA_WITH_SHA256};
use crate::error::PkiError;
use crate::pem;

/// Largest body worth reading: a handful of certificates.
pub const EST_MAX_BYTES: usize = 64 * 1024;
/// Most certificates in one body: all roots, and twice as many issuing CAs.
pub const EST_CERTIFICATES_MAX: usize = 24;
/// The media type of the body.
pub const EST_CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";

/// The media type of what a request must be like.
pub const EST_CSR_ATTRIBUTES: &str = "application/csrattrs";

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");

#[derive(Sequence)]
struct ContentInfo {
    content_type: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: SignedData,
}

#[derive(Sequence)]
struct SignedData {
    version: u8,
    digest_algorithms: SetOfVec<Any>,
    content: EncapsulatedContent,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    certificates: Option<SetOfVec<Any>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    crls: Option<SetOfVec<Any>>,
    signers: SetOfVec<Any>,
}

#[derive(Sequence)]
struct Attribute {
    oid: ObjectIdentifier,
    values: SetOfVec<Any>,
}

#[derive(Sequence)]
struct EncapsulatedContent {
    content_type: ObjectIdentifier,
}

/// The body of /cacerts and of /simpleenroll. A SET has no order: whoever reads it must look at the
/// certificates, not at their places.
pub fn encode(certificates: &[&Certificate]) -> Result<String, PkiError> {
    let set = certificates
        .iter()
        .map(|certificate| Any::from_der(certificate.der()))
        .collect::<der::Result<Vec<_>>>()
        .and_then(SetOfVec::try_from)
        .map_err(PkiError::bug)?;
    let der = ContentInfo {
        content_type: SIGNED_DATA,
        content: SignedData {
            version: 1,
            digest_algorithms: SetOfVec::new(),
            content: EncapsulatedContent { content_type: DATA },
            certificates: Some(set),
            crls: None,
            signers: SetOfVec::new(),
        },
    }
    .to_der()
    .map_err(PkiError::bug)?;
    Ok(pem::base64_lines(&der))
}

/// The body of /csrattrs (RFC 7030, 4.5.2): a P-256 key, and ECDSA with SHA-256 over the request.
pub fn csr_attributes() -> Result<String, PkiError> {
    let attributes = || -> der::Result<Vec<u8>> {
        let key = Attribute {
            oid: EC_PUBLIC_KEY,
            values: SetOfVec::try_from(vec![Any::encode_from(&P_256)?])?,
        };
        let all = [
            Any::encode_from(&key)?,
            Any::encode_from(&ECDSA_WITH_SHA256)?,
        ];
        all.to_vec().to_der()
    };
    let der = attributes().map_err(PkiError::bug)?;
    Ok(pem::base64_lines(&der))
}

/// Reads such a body back; at least one certificate, no signer.
pub fn decode(body: &[u8]) -> Result<Vec<Certificate>, BadCertificate> {
    if body.len() > EST_MAX_BYTES {
        return Err(BadCertificate::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| BadCertificate::NotPem)?;
    let der = pem::unbase64(text).map_err(|_| BadCertificate::NotPem)?;
    let info = ContentInfo::from_der(&der).map_err(|_| BadCertificate::NotDer)?;
    let signed = info.content;
    let certs_only = info.content_type == SIGNED_DATA
        && signed.content.content_type == DATA
        && signed.signers.is_empty();
    let found = signed.certificates.unwrap_or_default();
    if !certs_only || found.is_empty() || found.len() > EST_CERTIFICATES_MAX {
        return Err(BadCertificate::NotDer);
    }
    found.iter().map(read).collect()
}

/// The certificates (DER) of a PKCS#7 file, whoever wrote it.
pub(crate) fn certificates_in(der: &[u8]) -> Option<Vec<Vec<u8>>> {
    let info = ContentInfo::from_der(der).ok()?;
    let found = info.content.certificates.unwrap_or_default();
    let all: der::Result<Vec<_>> = found
        .iter()
        .take(EST_CERTIFICATES_MAX)
        .map(Any::to_der)
        .collect();
    all.ok().filter(|_| info.content_type == SIGNED_DATA)
}

/// The one certificate of a /simpleenroll answer that belongs to this key.
pub fn certificate_for(
    certificates: &[Certificate],
    spki_sha256: &[u8; 32],
) -> Option<Certificate> {
    let mut own = certificates
        .iter()
        .filter(|c| c.spki_sha256() == *spki_sha256);
    own.next().cloned()
}

fn read(certificate: &Any) -> Result<Certificate, BadCertificate> {
    let der = certificate.to_der().map_err(|_| BadCertificate::NotDer)?;
    Certificate::from_der(&der)
}
