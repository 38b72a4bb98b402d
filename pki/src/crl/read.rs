//! What does a signed list say, and did this CA sign it?

use std::path::Path;

use der::{Decode, Encode};
use p256::ecdsa::DerSignature;
use p256::ecdsa::signature::Verifier;
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{CrlNumber, CrlReason, KeyUsage};

use super::{CRL_LABEL, CRL_MAX_BYTES, Reason, Revoked};
use crate::certificate::{Certificate, ECDSA_WITH_SHA256, hex};
use crate::error::PkiError;
use crate::{files, pem};

/// A list whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    pub number: u64,
    /// Unix seconds.
    pub this_update: u64,
    /// Unix seconds.
    pub next_update: u64,
    pub revoked: Vec<Revoked>,
}

/// Why a list is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    #[error("it is larger than {CRL_MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is not a revocation list as M2Key writes them, or something follows it")]
    NotOurs,
    #[error("its issuer is another one")]
    ForeignIssuer,
    #[error("the signature of its issuer does not verify")]
    Signature,
}

impl BadList {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::TooLarge | Self::NotOurs => "check that this is the file you meant",
            Self::ForeignIssuer => "give the list of this CA",
            Self::Signature => "fetch the list again; if that does not help, it was tampered with",
        }
    }
}

impl RevocationList {
    /// The list in `der`, if `issuer` signed it. Whether it is still current is the caller's question.
    pub fn verified(der: &[u8], issuer: &Certificate) -> Result<Self, BadList> {
        let list = parse(der)?;
        check_signature(&list, issuer)?;
        Self::of(&list).ok_or(BadList::NotOurs)
    }

    fn of(list: &CertificateList) -> Option<Self> {
        let tbs = &list.tbs_cert_list;
        let entries = tbs.revoked_certificates.as_deref().unwrap_or_default();
        Some(Self {
            number: number(list)?,
            this_update: tbs.this_update.to_unix_duration().as_secs(),
            next_update: tbs.next_update?.to_unix_duration().as_secs(),
            revoked: entries.iter().map(entry).collect(),
        })
    }
}

/// The DER in a PEM or DER file.
pub fn from_file(path: &Path) -> Result<Vec<u8>, PkiError> {
    // PEM is a third larger than what is in it.
    let bytes = files::read_public_up_to(path, 2 * CRL_MAX_BYTES as u64)?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok(bytes);
    };
    let blocks = pem::blocks(text).map_err(|_| BadList::NotOurs)?;
    match blocks.as_slice() {
        [block] if block.label == CRL_LABEL => Ok(block.der().map_err(|_| BadList::NotOurs)?),
        _ => Err(BadList::NotOurs.into()),
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<CertificateList, BadList> {
    if der.len() > CRL_MAX_BYTES {
        return Err(BadList::TooLarge);
    }
    CertificateList::from_der(der).map_err(|_| BadList::NotOurs)
}

pub(crate) fn check_signature(list: &CertificateList, issuer: &Certificate) -> Result<(), BadList> {
    let ca = issuer.x509().tbs_certificate();
    if list.tbs_cert_list.issuer != *ca.subject() {
        return Err(BadList::ForeignIssuer);
    }
    let usage = ca.get_extension::<KeyUsage>().ok().flatten();
    let may = usage.is_some_and(|(_, usage)| usage.crl_sign());
    let algorithm = &list.signature_algorithm;
    if !may || algorithm.oid != ECDSA_WITH_SHA256 || *algorithm != list.tbs_cert_list.signature {
        return Err(BadList::Signature);
    }
    let signed = list.tbs_cert_list.to_der().map_err(|_| BadList::NotOurs)?;
    let raw = list.signature.as_bytes().ok_or(BadList::Signature)?;
    let signature = DerSignature::try_from(raw).map_err(|_| BadList::Signature)?;
    issuer
        .verifying_key()
        .verify(&signed, &signature)
        .map_err(|_| BadList::Signature)
}

pub(crate) fn entry(entry: &RevokedCert) -> Revoked {
    let bytes = entry.serial_number.as_bytes();
    Revoked {
        serial: hex(bytes.strip_prefix(&[0]).unwrap_or(bytes)),
        at: entry.revocation_date.to_unix_duration().as_secs(),
        reason: reason(extension(entry.crl_entry_extensions.as_deref())),
    }
}

/// The number of the list, if it has one that fits.
pub(crate) fn number(list: &CertificateList) -> Option<u64> {
    let number: CrlNumber = extension(list.tbs_cert_list.crl_extensions.as_deref())?;
    small(number.0.as_bytes())
}

/// Reasons that M2Key does not use are none that it could repeat.
fn reason(code: Option<CrlReason>) -> Reason {
    match code {
        Some(CrlReason::KeyCompromise) => Reason::KeyCompromise,
        Some(CrlReason::CaCompromise) => Reason::CaCompromise,
        Some(CrlReason::Superseded) => Reason::Superseded,
        Some(CrlReason::CessationOfOperation) => Reason::CessationOfOperation,
        Some(CrlReason::PrivilegeWithdrawn) => Reason::PrivilegeWithdrawn,
        _ => Reason::Unspecified,
    }
}

fn extension<T>(all: Option<&[Extension]>) -> Option<T>
where
    T: for<'a> Decode<'a> + der::oid::AssociatedOid,
{
    let found = all?.iter().find(|one| one.extn_id == T::OID)?;
    T::from_der(found.extn_value.as_bytes()).ok()
}

fn small(big_endian: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    let start = bytes.len().checked_sub(big_endian.len())?;
    bytes[start..].copy_from_slice(big_endian);
    Some(u64::from_be_bytes(bytes))
}
