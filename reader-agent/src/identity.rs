//! Who is this terminal, and how does it prove it?
//!
//! `agent.key` (0600) and `agent.pem` (leaf first); [`disk`] says what else lies beside them while a
//! certificate is renewed.

pub mod disk;

use std::path::Path;
use std::sync::Arc;

use pki::{Certificate, SoftwareKey, SpiffeId, TrustDomain};
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::authority::enrol::Enrolled;
use crate::authority::tls;
use crate::error::AgentError;
use crate::files;
use crate::trust::ROOT_FILE;

pub const KEY_FILE: &str = "agent.key";
pub const CHAIN_FILE: &str = "agent.pem";

/// With less than this share of its life left a certificate is called expiring: every try to renew it
/// since half-life has failed.
pub const EXPIRING_SHARE: Millis = 4;

/// The terminal's key and certificates.
pub struct Identity {
    key: Arc<SoftwareKey>,
    chain: Vec<Certificate>,
    terminal: TerminalId,
    domain: TrustDomain,
}

/// How long the certificate lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    Long,
    Expiring { until: Timestamp },
    Expired { since: Timestamp },
}

impl Identity {
    /// A key with the certificates that speak for it, leaf first; refused unless they belong together
    /// and name a terminal.
    pub fn new(key: SoftwareKey, chain: Vec<Certificate>) -> Result<Self, AgentError> {
        let fits = |leaf: &&Certificate| leaf.spki_sha256() == key.spki_sha256();
        let Some(leaf) = chain.first().filter(fits) else {
            return Err(AgentError::operator(
                format!("{CHAIN_FILE} is not a certificate of {KEY_FILE}"),
                "put the files of one enrolment together, or enrol this machine again",
            ));
        };
        let (terminal, domain) = named(leaf)?;
        Ok(Self {
            key: Arc::new(key),
            chain,
            terminal,
            domain,
        })
    }

    /// Writes what an enrolment brought; the certificate comes last, so that half an enrolment is
    /// none.
    pub fn save(dir: &Path, key: &SoftwareKey, enrolled: &Enrolled) -> Result<(), AgentError> {
        key.save(&dir.join(KEY_FILE))?;
        files::write_new(&dir.join(ROOT_FILE), enrolled.root.pem().as_bytes())?;
        let chain = disk::pem(&enrolled.chain);
        files::write_new(&dir.join(CHAIN_FILE), chain.as_bytes())
    }

    pub fn terminal(&self) -> TerminalId {
        self.terminal
    }

    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The terminal's own certificate.
    pub fn leaf(&self) -> &Certificate {
        &self.chain[0]
    }

    /// What leads from it to the roots.
    pub fn issuing(&self) -> &[Certificate] {
        &self.chain[1..]
    }

    pub fn not_before(&self) -> Timestamp {
        Timestamp::from_secs(self.leaf().not_before() as i64)
    }

    pub fn not_after(&self) -> Timestamp {
        Timestamp::from_secs(self.leaf().not_after() as i64)
    }

    pub fn lasts(&self, now: Timestamp) -> Lasts {
        let until = self.not_after();
        let life = until - self.not_before();
        match until - now {
            left if left <= 0 => Lasts::Expired { since: until },
            left if left < life / EXPIRING_SHARE => Lasts::Expiring { until },
            _ => Lasts::Long,
        }
    }

    /// The same key and leaf with other certificates above it.
    pub(crate) fn under(&self, issuing: Vec<Certificate>) -> Self {
        let mut chain = vec![self.leaf().clone()];
        chain.extend(issuing);
        Self {
            key: self.key.clone(),
            chain,
            terminal: self.terminal,
            domain: self.domain.clone(),
        }
    }

    pub(crate) fn key_der(&self) -> Result<Zeroizing<Vec<u8>>, AgentError> {
        Ok(self.key.pkcs8_der()?)
    }

    pub(crate) fn chain_der(&self) -> Vec<CertificateDer<'static>> {
        tls::chain_der(&self.chain)
    }
}

fn named(leaf: &Certificate) -> Result<(TerminalId, TrustDomain), AgentError> {
    let foreign = || {
        AgentError::operator(
            format!("{CHAIN_FILE} is not the certificate of a terminal"),
            "enrol this machine with a join token of its own",
        )
    };
    let domain = tls::domain_in(leaf.der()).ok_or_else(foreign)?;
    match pki::identity_of(leaf.der(), &domain)?.id {
        SpiffeId::Terminal(id) => Ok((id, domain)),
        SpiffeId::Authority(_) | SpiffeId::Operator(_) => Err(foreign()),
    }
}
