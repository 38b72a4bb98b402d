//! What stands in each kind of certificate, and why?
//!
//! One function per kind. Every certificate also gets its key identifiers, which tell apart the keys
//! of one issuer after a rotation (RFC 5280, 4.2.1.1 and 4.2.1.2), and, where its operator serves
//! them, the place of its issuer's revocation list ([`CrlBase`]).
//!
//! Left out on purpose: certificate policies (there is one policy, and the root says it), authority
//! information access (whoever gets a certificate gets its chain with it), name constraints (verifiers
//! differ on what they mean for a URI, and a root may serve more than one trust domain).

use std::net::IpAddr;
use std::str::FromStr;

use der::asn1::{Ia5String, ObjectIdentifier};
use der::flagset::FlagSet;
use spki::SubjectPublicKeyInfoRef;
use x509_cert::TbsCertificate;
use x509_cert::builder::{self, profile::BuilderProfile};
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage,
    KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;

use crate::certificate::hex;
use crate::error::PkiError;
use crate::names::{BadName, DnsName, SpiffeId, TrustDomain};

const DAY_SECONDS: u64 = 24 * 60 * 60;
const YEAR_SECONDS: u64 = 365 * DAY_SECONDS;

/// How long each kind lives. Terminals and authorities renew at half of it.
pub const ROOT_LIFETIME_SECONDS: u64 = 20 * YEAR_SECONDS;
pub const ISSUING_LIFETIME_SECONDS: u64 = 5 * YEAR_SECONDS;
pub const AUTHORITY_LIFETIME_SECONDS: u64 = 90 * DAY_SECONDS;
pub const OPERATOR_LIFETIME_SECONDS: u64 = 90 * DAY_SECONDS;
/// As long as the issuing CA: what was signed is verified for years.
pub const STATEMENT_LIFETIME_SECONDS: u64 = ISSUING_LIFETIME_SECONDS;
pub const TERMINAL_LIFETIME_SECONDS: u64 = 7 * DAY_SECONDS;
/// Certificates begin this long ago, because a fresh one must be good on a machine whose clock is
/// late.
pub const BACKDATE_SECONDS: u64 = 5 * 60;
/// Most host names and addresses of one authority.
pub const HOSTS_MAX: usize = 16;

/// How many certificates may stand between a CA and an end entity.
const ROOT_PATH_LENGTH: u8 = 1;
const ISSUING_PATH_LENGTH: u8 = 0;

pub(crate) const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
pub(crate) const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
/// id-kp-documentSigning (RFC 9336).
pub(crate) const DOCUMENT_SIGNING: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.36");

/// Longest [`CrlBase`].
pub const CRL_BASE_MAX_BYTES: usize = 160;

/// Where an issuer's revocation lists are served: `http://crl.example/crl/`, and the list of each CA
/// under its key identifier there. Plain HTTP, because checking TLS may need the list that is being
/// fetched (RFC 5280, section 8); the list is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlBase(String);

/// Everything the issuer decides about a certificate, whatever the request asked for.
#[derive(Debug, Clone)]
pub struct Profile {
    subject: Name,
    lifetime_seconds: u64,
    constraints: BasicConstraints,
    usage: FlagSet<KeyUsages>,
    purpose: Option<ObjectIdentifier>,
    names: Vec<GeneralName>,
    crl_base: Option<CrlBase>,
}

/// The root: signs itself, then issuing certificates and its revocation list, nothing else.
pub fn root(spki_sha256: &[u8; 32]) -> Result<Profile, PkiError> {
    ca("root", spki_sha256, ROOT_PATH_LENGTH, ROOT_LIFETIME_SECONDS)
}

/// The issuing CA: signs end entities and its revocation list, and no CA below itself.
pub fn issuing(spki_sha256: &[u8; 32]) -> Result<Profile, PkiError> {
    ca(
        "issuing",
        spki_sha256,
        ISSUING_PATH_LENGTH,
        ISSUING_LIFETIME_SECONDS,
    )
}

/// An authority node: a TLS server under its SPIFFE ID and the hosts that clients dial. It is no
/// client, so that a stolen server key cannot act as a terminal or an operator.
pub fn authority(
    id: &SpiffeId,
    domain: &TrustDomain,
    dns: &[DnsName],
    addresses: &[IpAddr],
) -> Result<Profile, PkiError> {
    if dns.len() + addresses.len() > HOSTS_MAX {
        return Err(BadName::TooManyHosts.into());
    }
    let mut profile = end_entity(id, domain, SERVER_AUTH, AUTHORITY_LIFETIME_SECONDS)?;
    for name in dns {
        let name = Ia5String::new(name.as_str()).map_err(PkiError::bug)?;
        profile.names.push(GeneralName::DnsName(name));
    }
    profile
        .names
        .extend(addresses.iter().copied().map(GeneralName::from));
    Ok(profile)
}

/// A terminal: a TLS client for a week, known by its SPIFFE ID alone.
pub fn terminal(id: &SpiffeId, domain: &TrustDomain) -> Result<Profile, PkiError> {
    end_entity(id, domain, CLIENT_AUTH, TERMINAL_LIFETIME_SECONDS)
}

/// An operator: a TLS client, known by its SPIFFE ID alone.
pub fn operator(id: &SpiffeId, domain: &TrustDomain) -> Result<Profile, PkiError> {
    end_entity(id, domain, CLIENT_AUTH, OPERATOR_LIFETIME_SECONDS)
}

/// A key that signs statements of an authority node: no TLS server and no client, so that a leaked
/// statement key opens no connection, and a TLS key signs no receipt (RFC 9336).
pub fn statement(id: &SpiffeId, domain: &TrustDomain) -> Result<Profile, PkiError> {
    end_entity(id, domain, DOCUMENT_SIGNING, STATEMENT_LIFETIME_SECONDS)
}

impl CrlBase {
    /// The list of the CA with this key identifier.
    fn url(&self, key_identifier: &[u8]) -> String {
        format!("{}{}.crl", self.0, hex(key_identifier))
    }
}

impl FromStr for CrlBase {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let (authority, _) = text
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or(BadName::CrlBase)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
        let sound = !authority.is_empty()
            && text.ends_with('/')
            && text.len() <= CRL_BASE_MAX_BYTES
            && text.bytes().all(plain);
        if sound {
            Ok(Self(text.into()))
        } else {
            Err(BadName::CrlBase)
        }
    }
}

impl std::fmt::Display for CrlBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Profile {
    /// The same, with the place of the issuer's revocation list.
    pub(crate) fn listed_at(mut self, base: Option<&CrlBase>) -> Self {
        self.crl_base = base.cloned();
        self
    }

    pub(crate) fn lifetime_seconds(&self) -> u64 {
        self.lifetime_seconds
    }

    #[cfg(feature = "ca")]
    pub(crate) fn names(&self) -> &[GeneralName] {
        &self.names
    }

    pub(crate) fn subject(&self) -> &Name {
        &self.subject
    }

    /// The profile under the name of whoever signs.
    pub(crate) fn issued_by(self, issuer: Name) -> Issued {
        Issued {
            profile: self,
            issuer,
        }
    }
}

pub(crate) struct Issued {
    profile: Profile,
    issuer: Name,
}

impl BuilderProfile for Issued {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.profile.subject.clone()
    }

    fn build_extensions(
        &self,
        subject_key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> builder::Result<Vec<Extension>> {
        let mut list = Extensions::new(tbs.subject());
        // Which key signed this one.
        let authority = AuthorityKeyIdentifier::try_from(issuer_key)?;
        list.add(&authority)?;
        // Which key this is.
        list.add(&SubjectKeyIdentifier::try_from(subject_key)?)?;
        // Whether it may sign certificates, and how many levels. Critical.
        list.add(&self.profile.constraints)?;
        // What its key may do. Critical.
        list.add(&KeyUsage(self.profile.usage))?;
        if let Some(purpose) = self.profile.purpose {
            // Client or server, never both.
            list.add(&ExtendedKeyUsage(vec![purpose]))?;
        }
        if !self.profile.names.is_empty() {
            // Who it is.
            list.add(&SubjectAltName(self.profile.names.clone()))?;
        }
        if let (Some(base), Some(key)) = (&self.profile.crl_base, authority.key_identifier) {
            // Where to ask whether it is still good.
            list.add(&distribution_point(&base.url(key.as_bytes()))?)?;
        }
        Ok(list.all)
    }
}

struct Extensions<'a> {
    subject: &'a Name,
    all: Vec<Extension>,
}

impl<'a> Extensions<'a> {
    fn new(subject: &'a Name) -> Self {
        let all = Vec::new();
        Self { subject, all }
    }

    fn add<E: ToExtension<Error = der::Error>>(&mut self, extension: E) -> builder::Result<()> {
        let extension = extension.to_extension(self.subject, &self.all)?;
        self.all.push(extension);
        Ok(())
    }
}

fn distribution_point(url: &str) -> der::Result<CrlDistributionPoints> {
    let url = GeneralName::UniformResourceIdentifier(Ia5String::new(url)?);
    Ok(CrlDistributionPoints(vec![DistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(vec![url])),
        reasons: None,
        crl_issuer: None,
    }]))
}

/// The name holds the beginning of the key's hash, so that two generations never share a name.
fn ca(
    role: &str,
    spki_sha256: &[u8; 32],
    path_length: u8,
    lifetime_seconds: u64,
) -> Result<Profile, PkiError> {
    let tag = hex(&spki_sha256[..4]);
    Ok(Profile {
        subject: common_name(&format!("M2Key {role} CA {tag}"))?,
        lifetime_seconds,
        constraints: BasicConstraints {
            ca: true,
            path_len_constraint: Some(path_length),
        },
        usage: KeyUsages::KeyCertSign | KeyUsages::CRLSign,
        purpose: None,
        names: Vec::new(),
        crl_base: None,
    })
}

fn end_entity(
    id: &SpiffeId,
    domain: &TrustDomain,
    purpose: ObjectIdentifier,
    lifetime_seconds: u64,
) -> Result<Profile, PkiError> {
    let uri = Ia5String::new(&id.uri(domain)).map_err(PkiError::bug)?;
    Ok(Profile {
        subject: common_name(&id.name())?,
        lifetime_seconds,
        constraints: BasicConstraints {
            ca: false,
            path_len_constraint: None,
        },
        usage: KeyUsages::DigitalSignature.into(),
        purpose: Some(purpose),
        names: vec![GeneralName::UniformResourceIdentifier(uri)],
        crl_base: None,
    })
}

fn common_name(text: &str) -> Result<Name, PkiError> {
    Name::from_str(&format!("CN={text}")).map_err(PkiError::bug)
}
