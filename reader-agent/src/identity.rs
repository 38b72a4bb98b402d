//! Who is this terminal, and how does it prove it?
//!
//! Three files beside the configuration: `agent.key` (0600), `agent.pem` (leaf first), `root.pem`.

use std::fs;
use std::path::Path;

use pki::{Certificate, SoftwareKey, SpiffeId, TrustDomain};
use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::authority::enrol::Enrolled;
use crate::authority::tls;
use crate::error::AgentError;
use crate::files;

pub const KEY_FILE: &str = "agent.key";
pub const CHAIN_FILE: &str = "agent.pem";
pub const ROOT_FILE: &str = "root.pem";

/// Below this the certificate is called expiring.
pub const EXPIRING_MS: Millis = 2 * 24 * 3_600_000;

/// The terminal's key and certificates.
pub struct Identity {
    key: SoftwareKey,
    chain: Vec<Certificate>,
    root: Certificate,
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
    /// Reads the three files and checks that they belong together.
    pub fn load(dir: &Path) -> Result<Self, AgentError> {
        let key = SoftwareKey::load(&dir.join(KEY_FILE))?;
        let chain = certificates(&dir.join(CHAIN_FILE))?;
        let mut roots = certificates(&dir.join(ROOT_FILE))?;
        let root = roots.remove(0);
        let leaf = &chain[0];
        if leaf.spki_sha256() != key.spki_sha256() {
            return Err(AgentError::operator(
                format!("{CHAIN_FILE} is not a certificate of {KEY_FILE}"),
                "put the files of one enrolment together, or enrol this machine again",
            ));
        }
        let (terminal, domain) = named(leaf)?;
        Ok(Self {
            key,
            chain,
            root,
            terminal,
            domain,
        })
    }

    /// Writes what an enrolment brought; the certificate comes last, so that half an enrolment is
    /// none.
    pub fn save(dir: &Path, key: &SoftwareKey, enrolled: &Enrolled) -> Result<(), AgentError> {
        key.save(&dir.join(KEY_FILE))?;
        files::write_new(&dir.join(ROOT_FILE), enrolled.root.pem().as_bytes())?;
        let chain: String = enrolled.chain.iter().map(Certificate::pem).collect();
        files::write_new(&dir.join(CHAIN_FILE), chain.as_bytes())
    }

    pub fn terminal(&self) -> TerminalId {
        self.terminal
    }

    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    pub fn root(&self) -> &Certificate {
        &self.root
    }

    pub fn not_after(&self) -> Timestamp {
        Timestamp::from_secs(self.chain[0].not_after() as i64)
    }

    pub fn lasts(&self, now: Timestamp) -> Lasts {
        let until = self.not_after();
        match until - now {
            left if left <= 0 => Lasts::Expired { since: until },
            left if left < EXPIRING_MS => Lasts::Expiring { until },
            _ => Lasts::Long,
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

fn certificates(path: &Path) -> Result<Vec<Certificate>, AgentError> {
    let text = fs::read_to_string(path).map_err(|e| AgentError::file(path, &e))?;
    pki::chain::certificates_from_pem(&text).map_err(|error| {
        AgentError::operator(
            format!("{}: {error}", path.display()),
            "put the file of the enrolment back, or enrol this machine again",
        )
    })
}
