//! Who signs certificates, and how narrow is the door to it?
//!
//! [`Issuer`] takes a checked request and a decision, and nothing else: no template, no extension, no
//! date. What holds the CA applies the profiles.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hsm::{Hsm, KeyLabel, Priority};
use protocol::ids::TerminalId;

use crate::certificate::Certificate;
use crate::chain::Chain;
use crate::csr::CheckedCsr;
use crate::error::PkiError;
use crate::names::{DnsName, Segment, SpiffeId, TrustDomain};
use crate::profiles::{self, Profile};
use crate::signing::{Period, Unsigned};

/// Issues end-entity certificates.
#[async_trait]
pub trait Issuer: Send + Sync + 'static {
    /// Signs one certificate. The caller has decided that the holder of this key may have this name.
    async fn issue(&self, request: IssueRequest) -> Result<IssuedCertificate, PkiError>;

    /// What leads from the certificates issued here to the root.
    fn chain(&self) -> &Chain;

    /// The domain all names issued here belong to.
    fn trust_domain(&self) -> &TrustDomain;
}

/// A key, a decision, and the time.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    pub csr: CheckedCsr,
    pub to: IssueTo,
    /// Unix seconds.
    pub now: u64,
}

/// Who gets the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueTo {
    Terminal(TerminalId),
    Operator(Segment),
    Authority {
        node: Segment,
        dns: Vec<DnsName>,
        addresses: Vec<IpAddr>,
    },
}

/// A certificate, and what a database wants to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    pub der: Vec<u8>,
    pub pem: String,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Unix seconds.
    pub not_before: u64,
    pub not_after: u64,
    pub spki_sha256: [u8; 32],
}

/// The issuing CA with its key in an HSM.
pub struct HsmIssuer {
    hsm: Arc<dyn Hsm>,
    key: KeyLabel,
    chain: Chain,
    domain: TrustDomain,
}

impl HsmIssuer {
    /// Refuses to start when the HSM's key is not the one in the issuing certificate.
    pub async fn open(
        hsm: Arc<dyn Hsm>,
        key: KeyLabel,
        chain: Chain,
        domain: TrustDomain,
    ) -> Result<Self, PkiError> {
        if hsm.public_key(&key).await? != chain.issuing().public_point() {
            return Err(PkiError::ForeignIssuingKey { label: key.0 });
        }
        Ok(Self {
            hsm,
            key,
            chain,
            domain,
        })
    }

    fn prepare(&self, request: &IssueRequest) -> Result<Unsigned, PkiError> {
        let profile = request.to.profile(&self.domain)?;
        request.csr.asks_only_for(profile.names())?;
        let issuing = self.chain.issuing();
        if !(issuing.not_before()..=issuing.not_after()).contains(&request.now) {
            return Err(PkiError::IssuerNotValid);
        }
        let period = Period::of(&profile, request.now, issuing.not_after());
        let issuer = issuing.x509().tbs_certificate().subject().clone();
        Unsigned::new(
            profile,
            issuer,
            *issuing.verifying_key(),
            request.csr.key(),
            period,
        )
    }
}

#[async_trait]
impl Issuer for HsmIssuer {
    async fn issue(&self, request: IssueRequest) -> Result<IssuedCertificate, PkiError> {
        let unsigned = self.prepare(&request)?;
        let digest = unsigned.digest();
        let signature = self.hsm.sign(&self.key, digest, Priority::Renewal).await?;
        Ok(unsigned.assemble(signature)?.into())
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }
}

impl IssueTo {
    /// The name that will stand in the certificate.
    pub fn spiffe_id(&self) -> SpiffeId {
        match self {
            Self::Terminal(id) => SpiffeId::Terminal(*id),
            Self::Operator(name) => SpiffeId::Operator(name.clone()),
            Self::Authority { node, .. } => SpiffeId::Authority(node.clone()),
        }
    }

    fn profile(&self, domain: &TrustDomain) -> Result<Profile, PkiError> {
        let id = self.spiffe_id();
        match self {
            Self::Terminal(_) => profiles::terminal(&id, domain),
            Self::Operator(_) => profiles::operator(&id, domain),
            Self::Authority { dns, addresses, .. } => {
                profiles::authority(&id, domain, dns, addresses)
            }
        }
    }
}

impl From<Certificate> for IssuedCertificate {
    fn from(certificate: Certificate) -> Self {
        Self {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            serial: certificate.serial_hex(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            spki_sha256: certificate.spki_sha256(),
        }
    }
}
