//! How does a list get its bytes and its signature when the key is elsewhere?

use der::asn1::{AnyRef, BitStringRef, OctetString};
use der::oid::AssociatedOid;
use der::{Decode, Encode, Sequence};
use p256::ecdsa::VerifyingKey;
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::Version;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::{RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason};
use x509_cert::serial_number::SerialNumber;

use super::{
    BadCrl, CRL_LIFETIME_MAX_SECONDS, CrlRequest, REVOKED_MAX, Reason, Revoked, SignedCrl,
};
use crate::certificate::{Certificate, ECDSA_WITH_SHA256};
use crate::dates::to_x509;
use crate::error::PkiError;
use crate::signing::checked_signature;

/// Longest serial number (RFC 5280, 4.1.2.2).
const SERIAL_MAX_BYTES: usize = 20;

/// A list that waits for its signature.
pub struct Unsigned {
    tbs: Vec<u8>,
    digest: [u8; 32],
    number: u64,
    issuer_key: VerifyingKey,
}

impl Unsigned {
    /// The list that `issuer` will sign. Whether its number is above the last one is for whoever keeps
    /// that number.
    pub fn new(issuer: &Certificate, request: &CrlRequest) -> Result<Self, PkiError> {
        check(issuer, request)?;
        let tbs = body(issuer, request)?.to_der().map_err(PkiError::bug)?;
        Ok(Self {
            digest: Sha256::digest(&tbs).into(),
            tbs,
            number: request.number,
            issuer_key: *issuer.verifying_key(),
        })
    }

    /// What is to be signed.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The list, if `r || s` is the issuer's signature of it.
    pub fn assemble(self, signature: [u8; 64]) -> Result<SignedCrl, PkiError> {
        let signature = checked_signature(&self.issuer_key, &self.digest, signature)?;
        let signature = signature.to_der();
        let signed = Signed {
            tbs: AnyRef::from_der(&self.tbs).map_err(PkiError::bug)?,
            algorithm: algorithm(),
            signature: BitStringRef::from_bytes(signature.as_bytes()).map_err(PkiError::bug)?,
        };
        Ok(SignedCrl {
            der: signed.to_der().map_err(PkiError::bug)?,
            number: self.number,
        })
    }
}

/// The outer frame, around a body whose bytes are what was signed.
#[derive(Sequence)]
struct Signed<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitStringRef<'a>,
}

fn check(issuer: &Certificate, request: &CrlRequest) -> Result<(), BadCrl> {
    if issuer.spki_sha256() != request.issuer {
        return Err(BadCrl::ForeignIssuer);
    }
    if request.revoked.len() > REVOKED_MAX {
        return Err(BadCrl::TooMany);
    }
    let lifetime = request.next_update.checked_sub(request.this_update);
    match lifetime {
        Some(1..=CRL_LIFETIME_MAX_SECONDS) => Ok(()),
        _ => Err(BadCrl::Dates),
    }
}

fn body(issuer: &Certificate, request: &CrlRequest) -> Result<TbsCertList, PkiError> {
    let entries = entries(&request.revoked)?;
    Ok(TbsCertList {
        version: Version::V2,
        signature: algorithm(),
        issuer: issuer.x509().tbs_certificate().subject().clone(),
        this_update: to_x509(request.this_update)?,
        next_update: Some(to_x509(request.next_update)?),
        // An empty list must not be there at all (RFC 5280, 5.1.2.6).
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(extensions(issuer.verifying_key(), request.number)?),
    })
}

/// Which key signs, because a CA's name outlives its keys, and which list of it this is.
fn extensions(key: &VerifyingKey, number: u64) -> Result<Vec<Extension>, PkiError> {
    let spki = SubjectPublicKeyInfoOwned::from_key(key).map_err(PkiError::bug)?;
    let spki = spki.to_der().map_err(PkiError::bug)?;
    let spki = spki::SubjectPublicKeyInfoRef::from_der(&spki).map_err(PkiError::bug)?;
    let authority = AuthorityKeyIdentifier::try_from(spki).map_err(PkiError::bug)?;
    let number = der::asn1::Uint::new(&number.to_be_bytes()).map_err(PkiError::bug)?;
    Ok(vec![plain(&authority)?, plain(&CrlNumber(number))?])
}

/// Sorted by serial number, so that one state of affairs has one list.
fn entries(revoked: &[Revoked]) -> Result<Vec<RevokedCert>, PkiError> {
    let mut sorted = revoked
        .iter()
        .map(|entry| serial_bytes(&entry.serial).map(|serial| (serial, entry)))
        .collect::<Result<Vec<_>, BadCrl>>()?;
    sorted.sort_unstable_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(BadCrl::Twice.into());
    }
    let reasons = Reasons::new()?;
    sorted
        .into_iter()
        .map(|(serial, entry)| {
            Ok(RevokedCert {
                serial_number: SerialNumber::<Rfc5280>::new(&serial).map_err(|_| BadCrl::Serial)?,
                revocation_date: to_x509(entry.at)?,
                crl_entry_extensions: reasons.of(entry.reason),
            })
        })
        .collect()
}

/// `unspecified` is said by saying nothing (RFC 5280, 5.3.1).
struct Reasons(Vec<(Reason, Vec<Extension>)>);

impl Reasons {
    fn new() -> Result<Self, PkiError> {
        let said = Reason::ALL
            .into_iter()
            .filter_map(|reason| Some((reason, code(reason)?)));
        let encoded = said.map(|(reason, code)| Ok((reason, vec![plain(&code)?])));
        encoded.collect::<Result<_, PkiError>>().map(Self)
    }

    fn of(&self, reason: Reason) -> Option<Vec<Extension>> {
        let found = self.0.iter().find(|(known, _)| *known == reason);
        found.map(|(_, extensions)| extensions.clone())
    }
}

fn code(reason: Reason) -> Option<CrlReason> {
    match reason {
        Reason::Unspecified => None,
        Reason::KeyCompromise => Some(CrlReason::KeyCompromise),
        Reason::CaCompromise => Some(CrlReason::CaCompromise),
        Reason::Superseded => Some(CrlReason::Superseded),
        Reason::CessationOfOperation => Some(CrlReason::CessationOfOperation),
        Reason::PrivilegeWithdrawn => Some(CrlReason::PrivilegeWithdrawn),
    }
}

/// None of these is critical (RFC 5280, 5.2.1, 5.2.3, 5.3.1).
fn plain<E: AssociatedOid + Encode>(value: &E) -> Result<Extension, PkiError> {
    let bytes = value.to_der().map_err(PkiError::bug)?;
    Ok(Extension {
        extn_id: E::OID,
        critical: false,
        extn_value: OctetString::new(bytes).map_err(PkiError::bug)?,
    })
}

fn algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: ECDSA_WITH_SHA256,
        parameters: None,
    }
}

/// The serial number as [`Certificate::serial_hex`] writes it, and in no other way.
fn serial_bytes(hexadecimal: &str) -> Result<Vec<u8>, BadCrl> {
    let digits = hexadecimal.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 2 * SERIAL_MAX_BYTES {
        return Err(BadCrl::Serial);
    }
    let byte = |pair: &[u8]| Some((nibble(pair[0])? << 4) | nibble(pair[1])?);
    let bytes: Option<Vec<u8>> = digits.chunks_exact(2).map(byte).collect();
    bytes
        .filter(|bytes| bytes.first().is_some_and(|first| *first != 0))
        .ok_or(BadCrl::Serial)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
