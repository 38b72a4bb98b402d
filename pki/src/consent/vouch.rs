//! Whom does the root make an operator, when the operators cannot?
//!
//! A *vouch* is a JWS of a root over one name and one key. It takes the place of other operators'
//! consent for `operator add` alone: who added them is the root, for everyone to see.

use protocol::jws::{Parts, Purpose};
use serde::{Deserialize, Serialize};

use super::request::SKEW_MAX_S;
use super::statement::{BadStatement, STATEMENT_MAX_BYTES, check_signature, signers};
use crate::certificate::{BadCertificate, Certificate, hex};
use crate::csr::CheckedCsr;
use crate::names::{Segment, TrustDomain};

/// How long a vouch is good, in seconds: from the room of the root to the authority.
pub const VOUCH_LIFE_S: i64 = 7 * 24 * 3600;

/// Somebody with this key is to be an operator of this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vouch {
    /// The trust domain in which it counts.
    pub domain: String,
    pub operator: String,
    /// SHA-256 of the subject public key info, lower-case hex.
    pub key_sha256: String,
    pub iat: i64,
    pub exp: i64,
}

impl Purpose for Vouch {
    const TYP: &'static str = protocol::typ::VOUCH;
}

impl Vouch {
    /// `now` in Unix seconds.
    pub fn new(operator: &Segment, domain: &TrustDomain, csr: &CheckedCsr, now: u64) -> Self {
        let iat = i64::try_from(now).unwrap_or(i64::MAX);
        Self {
            domain: domain.to_string(),
            operator: operator.to_string(),
            key_sha256: hex(&csr.spki_sha256()),
            iat,
            exp: iat.saturating_add(VOUCH_LIFE_S),
        }
    }

    /// Reads what one of `roots` signed, if it is good at `now` (Unix seconds).
    pub fn verify(text: &str, roots: &[Certificate], now: i64) -> Result<Self, BadStatement> {
        if text.len() > STATEMENT_MAX_BYTES {
            return Err(BadStatement::TooLarge);
        }
        let parts = Parts::split(text).map_err(|_| BadStatement::Malformed)?;
        let chain = signers(&parts.header, Self::TYP)?;
        let [root] = chain.as_slice() else {
            return Err(BadStatement::Malformed);
        };
        check_root(root, roots, now)?;
        check_signature(root, &parts)?;
        let vouch: Self =
            serde_json::from_slice(&parts.payload).map_err(|_| BadStatement::Claims)?;
        if vouch.exp.saturating_sub(vouch.iat) > VOUCH_LIFE_S {
            return Err(BadStatement::Claims);
        }
        match (vouch.iat.saturating_sub(SKEW_MAX_S)..=vouch.exp).contains(&now) {
            true => Ok(vouch),
            false => Err(BadStatement::VouchOver),
        }
    }

    /// Whether it is for this name and this key here.
    pub fn is_for(&self, operator: &str, domain: &TrustDomain, csr: &CheckedCsr) -> bool {
        self.operator == operator
            && self.domain == domain.to_string()
            && self.key_sha256 == hex(&csr.spki_sha256())
    }
}

fn check_root(root: &Certificate, roots: &[Certificate], now: i64) -> Result<(), BadStatement> {
    let refused = BadStatement::Certificate;
    if !roots.contains(root) {
        return Err(refused(BadCertificate::ForeignRoot));
    }
    crate::verify::check_root(root).map_err(refused)?;
    let now = u64::try_from(now).unwrap_or(0);
    match (root.not_before()..=root.not_after()).contains(&now) {
        true => Ok(()),
        false => Err(BadStatement::VouchOver),
    }
}
