//! Does this certificate lead to the root that is trusted here, and whom does it name?
//!
//! Path validation as RFC 5280, 6.1 has it, for the paths that M2Key makes: issuer and subject match,
//! signatures verify, dates hold, CAs are CAs with room below them, and no critical extension is
//! unknown. TLS handshakes are rustls's matter; this serves what travels outside of them.

use der::asn1::ObjectIdentifier;
use der::oid::AssociatedOid;
use p256::ecdsa::DerSignature;
use p256::ecdsa::signature::Verifier;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
    SubjectKeyIdentifier,
};

use crate::certificate::{BadCertificate, Certificate};
use crate::error::PkiError;
use crate::names::{SpiffeId, TrustDomain};
use crate::profiles::{CLIENT_AUTH, DOCUMENT_SIGNING, SERVER_AUTH};

/// Most CA certificates between an end entity and the root.
pub const INTERMEDIATES_MAX: usize = 4;

/// Most links looked at in search of a way to the root.
const SIGNATURES_MAX: usize = 256;

const UNDERSTOOD: [ObjectIdentifier; 6] = [
    AuthorityKeyIdentifier::OID,
    SubjectKeyIdentifier::OID,
    BasicConstraints::OID,
    KeyUsage::OID,
    ExtendedKeyUsage::OID,
    SubjectAltName::OID,
];

/// An end-entity certificate that leads to the root it was verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCertificate(Certificate);

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: SpiffeId,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Unix seconds. The caller decides what an expired identity may still do.
    pub not_after: u64,
    pub spki_sha256: [u8; 32],
}

/// Follows `leaf` through `intermediates` (any order, unused ones allowed) to exactly `root`.
///
/// [`BadCertificate::Expired`] and [`BadCertificate::NotYetValid`] are about the leaf and come last:
/// whoever gets them knows that everything else was in order. `now` is in Unix seconds.
pub fn verify_chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    root: &Certificate,
    now: u64,
) -> Result<VerifiedCertificate, BadCertificate> {
    check_root(root)?;
    check_issuer_dates(root, now)?;
    check_extensions(leaf)?;
    if is_ca(leaf) {
        return Err(BadCertificate::IsCa);
    }
    let mut climb = Climb {
        candidates: intermediates,
        root,
        now,
        signatures_left: SIGNATURES_MAX,
    };
    climb.from(leaf, 0)?;
    check_dates(leaf, now)?;
    Ok(VerifiedCertificate(leaf.clone()))
}

/// The same for any certificate, also for that of a CA, and whatever it may be used for.
pub(crate) fn leads_to(
    certificate: &Certificate,
    intermediates: &[Certificate],
    root: &Certificate,
    now: u64,
) -> Result<(), BadCertificate> {
    check_root(root)?;
    check_issuer_dates(root, now)?;
    check_extensions(certificate)?;
    let mut climb = Climb {
        candidates: intermediates,
        root,
        now,
        signatures_left: SIGNATURES_MAX,
    };
    climb.from(certificate, usize::from(is_ca(certificate)))?;
    check_dates(certificate, now)
}

/// Reads the identity from an end-entity certificate that TLS has verified already.
pub fn identity_of(der: &[u8], domain: &TrustDomain) -> Result<Peer, PkiError> {
    Ok(peer(&Certificate::from_der(der)?, domain)?)
}

impl VerifiedCertificate {
    pub fn certificate(&self) -> &Certificate {
        &self.0
    }

    pub fn identity(&self, domain: &TrustDomain) -> Result<Peer, BadCertificate> {
        peer(&self.0, domain)
    }
}

/// A root signs itself, and may.
pub(crate) fn check_root(root: &Certificate) -> Result<(), BadCertificate> {
    check_link(root, root, 0)
}

/// Whether `issuer` issued `child`, with `below` CA certificates between `issuer` and the end entity.
pub(crate) fn check_link(
    child: &Certificate,
    issuer: &Certificate,
    below: usize,
) -> Result<(), BadCertificate> {
    let (child, parent) = (child.x509(), issuer.x509().tbs_certificate());
    if child.tbs_certificate().issuer() != parent.subject() {
        return Err(BadCertificate::NoIssuer);
    }
    check_ca(issuer, below)?;
    let signed =
        der::Encode::to_der(child.tbs_certificate()).map_err(|_| BadCertificate::NotDer)?;
    let raw = child
        .signature()
        .as_bytes()
        .ok_or(BadCertificate::Signature)?;
    let signature = DerSignature::try_from(raw).map_err(|_| BadCertificate::Signature)?;
    issuer
        .verifying_key()
        .verify(&signed, &signature)
        .map_err(|_| BadCertificate::Signature)
}

/// Whether this may sign certificates, with `below` CA certificates under it.
pub(crate) fn check_ca(certificate: &Certificate, below: usize) -> Result<(), BadCertificate> {
    check_extensions(certificate)?;
    let may_sign = extension::<KeyUsage>(certificate)?.is_some_and(|usage| usage.key_cert_sign());
    let has_room = extension::<BasicConstraints>(certificate)?.is_some_and(|constraints| {
        constraints.ca
            && constraints
                .path_len_constraint
                .is_none_or(|limit| below <= usize::from(limit))
    });
    if may_sign && has_room {
        Ok(())
    } else {
        Err(BadCertificate::IssuerNotAllowed)
    }
}

/// The search for a way up. One key may have several certificates (a renewed CA, a second root), so a
/// way that ends nowhere is not the last one; what a stranger can make us try is limited.
struct Climb<'a> {
    candidates: &'a [Certificate],
    root: &'a Certificate,
    now: u64,
    signatures_left: usize,
}

impl Climb<'_> {
    fn from(&mut self, child: &Certificate, below: usize) -> Result<(), BadCertificate> {
        let mut refusal = match self.link(child, self.root, below) {
            Ok(()) => return Ok(()),
            Err(BadCertificate::NoIssuer | BadCertificate::Signature) => {
                BadCertificate::ForeignRoot
            }
            Err(error) => error,
        };
        if below == INTERMEDIATES_MAX {
            return Err(BadCertificate::ChainTooLong);
        }
        for candidate in self
            .candidates
            .iter()
            .filter(|candidate| *candidate != child)
        {
            match self.through(child, candidate, below) {
                Ok(()) => return Ok(()),
                Err(BadCertificate::NoIssuer) => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn through(
        &mut self,
        child: &Certificate,
        issuer: &Certificate,
        below: usize,
    ) -> Result<(), BadCertificate> {
        self.link(child, issuer, below)?;
        check_issuer_dates(issuer, self.now)?;
        self.from(issuer, below + 1)
    }

    fn link(
        &mut self,
        child: &Certificate,
        issuer: &Certificate,
        below: usize,
    ) -> Result<(), BadCertificate> {
        let left = self.signatures_left.checked_sub(1);
        self.signatures_left = left.ok_or(BadCertificate::ChainTooLong)?;
        check_link(child, issuer, below)
    }
}

fn check_issuer_dates(issuer: &Certificate, now: u64) -> Result<(), BadCertificate> {
    check_dates(issuer, now).map_err(|_| BadCertificate::IssuerDates)
}

fn check_dates(certificate: &Certificate, now: u64) -> Result<(), BadCertificate> {
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    if now < not_before {
        Err(BadCertificate::NotYetValid { not_before })
    } else if now > not_after {
        Err(BadCertificate::Expired { not_after })
    } else {
        Ok(())
    }
}

/// No extension twice, and no critical one that is not understood here.
fn check_extensions(certificate: &Certificate) -> Result<(), BadCertificate> {
    let all = certificate.x509().tbs_certificate().extensions();
    let all = all.map(Vec::as_slice).unwrap_or_default();
    let twice = |index: usize| all[..index].iter().any(|e| e.extn_id == all[index].extn_id);
    let unknown = all
        .iter()
        .any(|e| e.critical && !UNDERSTOOD.contains(&e.extn_id));
    if unknown || (0..all.len()).any(twice) {
        return Err(BadCertificate::Extension);
    }
    Ok(())
}

/// What cannot be read is treated as a CA, so that it is refused.
fn is_ca(certificate: &Certificate) -> bool {
    let constraints = extension::<BasicConstraints>(certificate);
    let usage = extension::<KeyUsage>(certificate);
    constraints.map_or(true, |found| found.is_some_and(|c| c.ca))
        || usage.map_or(true, |found| found.is_some_and(|u| u.key_cert_sign()))
}

pub(crate) fn peer(
    certificate: &Certificate,
    domain: &TrustDomain,
) -> Result<Peer, BadCertificate> {
    check_extensions(certificate)?;
    if is_ca(certificate) {
        return Err(BadCertificate::IsCa);
    }
    let id = only_name(certificate, domain)?;
    check_purpose(certificate, &id)?;
    Ok(Peer {
        id,
        serial: certificate.serial_hex(),
        not_after: certificate.not_after(),
        spki_sha256: certificate.spki_sha256(),
    })
}

/// The node whose statements this key signs, if it is that kind of certificate.
pub(crate) fn statement_of(
    certificate: &Certificate,
    domain: &TrustDomain,
) -> Result<Option<String>, BadCertificate> {
    let purposes = extension::<ExtendedKeyUsage>(certificate)?;
    if purposes.is_none_or(|purposes| purposes.0 != [DOCUMENT_SIGNING]) || is_ca(certificate) {
        return Ok(None);
    }
    match only_name(certificate, domain)? {
        SpiffeId::Authority(node) => Ok(Some(node.to_string())),
        SpiffeId::Terminal(_) | SpiffeId::Operator(_) => Err(BadCertificate::Purpose),
    }
}

/// Exactly one URI; hosts beside it are for servers only.
fn only_name(certificate: &Certificate, domain: &TrustDomain) -> Result<SpiffeId, BadCertificate> {
    let names = extension::<SubjectAltName>(certificate)?.ok_or(BadCertificate::NotOneName)?;
    let (uris, others): (Vec<_>, Vec<_>) = names
        .0
        .iter()
        .partition(|name| matches!(name, GeneralName::UniformResourceIdentifier(_)));
    let [GeneralName::UniformResourceIdentifier(uri)] = uris[..] else {
        return Err(BadCertificate::NotOneName);
    };
    let id = SpiffeId::parse(uri.as_str(), domain).map_err(BadCertificate::Name)?;
    let is_host =
        |name: &&GeneralName| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_));
    let may_have_hosts = matches!(id, SpiffeId::Authority(_));
    if others.is_empty() || (may_have_hosts && others.iter().all(is_host)) {
        Ok(id)
    } else {
        Err(BadCertificate::NotOneName)
    }
}

fn check_purpose(certificate: &Certificate, id: &SpiffeId) -> Result<(), BadCertificate> {
    let wanted = match id {
        SpiffeId::Authority(_) => SERVER_AUTH,
        SpiffeId::Terminal(_) | SpiffeId::Operator(_) => CLIENT_AUTH,
    };
    match extension::<ExtendedKeyUsage>(certificate)? {
        Some(purposes) if purposes.0 == [wanted] => Ok(()),
        _ => Err(BadCertificate::Purpose),
    }
}

fn extension<T>(certificate: &Certificate) -> Result<Option<T>, BadCertificate>
where
    T: for<'a> der::Decode<'a> + AssociatedOid,
{
    let found = certificate.x509().tbs_certificate().get_extension::<T>();
    found
        .map(|found| found.map(|(_, value)| value))
        .map_err(|_| BadCertificate::Extension)
}
