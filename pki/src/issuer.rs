//! Who signs certificates, and how narrow is the door to it?
//!
//! [`Issuer`] takes a checked request and a decision, and nothing else: no template, no extension, no
//! date. What holds the CA applies the profiles.

use std::net::IpAddr;

use async_trait::async_trait;
use protocol::ids::TerminalId;

use crate::certificate::Certificate;
use crate::chain::Chain;
use crate::crl::{CrlRequest, SignedCrl};
use crate::csr::CheckedCsr;
use crate::error::PkiError;
use crate::lifecycle::KeyState;
use crate::names::{DnsName, Segment, SpiffeId, TrustDomain};
#[cfg(feature = "ca")]
use crate::profiles::{self, Profile};

/// Issues end-entity certificates, and says which of them are revoked.
#[async_trait]
pub trait Issuer: Send + Sync + 'static {
    /// Signs one certificate. The caller has decided that the holder of this key may have this name.
    async fn issue(&self, request: IssueRequest) -> Result<IssuedCertificate, PkiError>;

    /// Signs the revocation list of one issuing CA. A number that is not above the last one is refused.
    async fn sign_crl(&self, request: CrlRequest) -> Result<SignedCrl, PkiError>;

    /// What leads from the certificates issued here to the root, as of now: it changes when the issuing
    /// CA is rotated.
    fn chain(&self) -> Chain;

    /// Every issuing CA that is not retired, the active one first.
    fn issuing_cas(&self) -> Vec<IssuingCa>;

    /// What readiness and metrics show; never blocks and never asks the signer.
    fn health(&self) -> IssuerHealth;

    /// The domain all names issued here belong to.
    fn trust_domain(&self) -> &TrustDomain;
}

/// One issuing CA and where it stands in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuingCa {
    pub chain: Chain,
    pub state: KeyState,
}

/// Whether certificates can be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerHealth {
    Ready,
    /// It works, with something to look at, in words.
    Degraded(String),
    /// It does not, and why.
    Down(String),
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
    /// A key in the node's HSM that signs statements (schedules, receipts, checkpoints): no TLS.
    Statement(Segment),
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

impl IssueTo {
    /// The name that will stand in the certificate.
    pub fn spiffe_id(&self) -> SpiffeId {
        match self {
            Self::Terminal(id) => SpiffeId::Terminal(*id),
            Self::Operator(name) => SpiffeId::Operator(name.clone()),
            Self::Authority { node, .. } | Self::Statement(node) => {
                SpiffeId::Authority(node.clone())
            }
        }
    }

    #[cfg(feature = "ca")]
    pub(crate) fn profile(&self, domain: &TrustDomain) -> Result<Profile, PkiError> {
        let id = self.spiffe_id();
        match self {
            Self::Terminal(_) => profiles::terminal(&id, domain),
            Self::Operator(_) => profiles::operator(&id, domain),
            Self::Authority { dns, addresses, .. } => {
                profiles::authority(&id, domain, dns, addresses)
            }
            Self::Statement(_) => profiles::statement(&id, domain),
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
