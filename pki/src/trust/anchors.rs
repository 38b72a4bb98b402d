//! What does one party trust, and how does it follow the roots?

use super::{BadTrust, Denied, KeyId, ROOTS_MAX, RootList, TrustBundle};
use crate::certificate::{BadCertificate, Certificate};
use crate::chain::{Chain, certificates_from_pem};
use crate::verify::{VerifiedCertificate, verify_chain};

/// First line of the file, before the certificates.
const SEQUENCE_LINE: &str = "m2key trust sequence ";
/// Begins a line for each key that is denied, between that one and the certificates.
const DENIED_LINE: &str = "m2key denied key ";
const CERTIFICATE_BEGIN: &str = "-----BEGIN ";

/// The roots one party believes, the keys it believes under none of them, and the sequence of the list that
/// says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustAnchors {
    sequence: u64,
    /// At least one.
    roots: Vec<Certificate>,
    denied: Denied,
}

impl TrustAnchors {
    /// The one root whose fingerprint was compared; no list is followed yet.
    pub fn pinned(root: Certificate) -> Self {
        Self {
            sequence: 0,
            roots: vec![root],
            denied: Denied::default(),
        }
    }

    /// What the bundle says, for whoever put its file there by hand.
    pub fn of(bundle: &TrustBundle) -> Self {
        Self {
            sequence: bundle.sequence(),
            roots: bundle.believed().cloned().collect(),
            denied: bundle.denied().clone(),
        }
    }

    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// What counts for nothing, whatever root it hangs on.
    pub fn denied(&self) -> &Denied {
        &self.denied
    }

    /// 0 while only the pinned root is trusted.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What this party trusts from now on, if a line of signatures leads there from what it trusts
    /// now. The latest list that every one of its roots signed is taken first, so that as little as
    /// possible is believed on the way.
    pub fn accept(&self, bundle: &TrustBundle) -> Result<Self, BadTrust> {
        let offered = bundle.sequence();
        if offered <= self.sequence {
            let held = self.sequence;
            return Err(BadTrust::NotNewer { held, offered });
        }
        let mut at = self.clone();
        while at.sequence < offered {
            at = at.step(bundle).ok_or(BadTrust::NotProven)?;
        }
        Ok(at)
    }

    fn step(&self, bundle: &TrustBundle) -> Option<Self> {
        let is_next = |list: &&RootList| {
            list.sequence > self.sequence
                && list.denied.continues(&self.denied)
                && list.check_signed_by(&self.roots).is_ok()
        };
        let list = bundle.lists.iter().rev().find(is_next)?;
        Some(Self {
            sequence: list.sequence,
            roots: list.believed().cloned().collect(),
            denied: list.denied.clone(),
        })
    }

    /// Follows `leaf` to any of the roots. `now` is in Unix seconds.
    pub fn verify(
        &self,
        leaf: &Certificate,
        intermediates: &[Certificate],
        now: u64,
    ) -> Result<VerifiedCertificate, BadCertificate> {
        if self.denied.denies(leaf) {
            return Err(BadCertificate::Denied);
        }
        let mut others = intermediates.to_vec();
        others.retain(|other| !self.denied.denies(other));
        let verify = |root| verify_chain(leaf, &others, root, now);
        let verified = first_ok(self.roots.iter().map(verify));
        match verified {
            Err(BadCertificate::ForeignRoot) if others.len() < intermediates.len() => {
                Err(BadCertificate::Denied)
            }
            verified => verified,
        }
    }

    /// The chain in which `issuing` hangs on one of the roots.
    pub fn chain_of(&self, issuing: &Certificate) -> Result<Chain, BadCertificate> {
        if self.denied.denies(issuing) {
            return Err(BadCertificate::Denied);
        }
        let chain = |root: &Certificate| Chain::new(issuing.clone(), root.clone());
        first_ok(self.roots.iter().map(chain))
    }

    /// For a file: a line with the sequence, one for each denied key, then the roots as PEM, so that
    /// other tools read it, too.
    pub fn to_text(&self) -> String {
        let denied = self.denied.keys().iter();
        let denied: String = denied.map(|key| format!("{DENIED_LINE}{key}\n")).collect();
        let roots: String = self.roots.iter().map(Certificate::pem).collect();
        format!("{SEQUENCE_LINE}{}\n{denied}{roots}", self.sequence)
    }

    /// Reads such a file. One without the line is a pinned root.
    pub fn parse(text: &str) -> Result<Self, BadTrust> {
        let sequence = match text.strip_prefix(SEQUENCE_LINE) {
            Some(rest) => rest.lines().next().and_then(|number| number.parse().ok()),
            None => Some(0),
        };
        let sequence = sequence.ok_or(BadTrust::Anchors)?;
        let denied = denied_in(text)?;
        let roots = certificates_from_pem(text).map_err(|_| BadTrust::Anchors)?;
        let most = if sequence == 0 { 1 } else { ROOTS_MAX };
        if roots.len() > most {
            return Err(BadTrust::Anchors);
        }
        for root in &roots {
            crate::verify::check_root(root).map_err(BadTrust::Root)?;
        }
        Ok(Self {
            sequence,
            roots,
            denied,
        })
    }
}

/// A line that was damaged is no line less: every one before the certificates must be understood.
fn denied_in(text: &str) -> Result<Denied, BadTrust> {
    if !text.starts_with(SEQUENCE_LINE) {
        return Ok(Denied::default());
    }
    let lines = text.lines().skip(1);
    let mut keys: Vec<KeyId> = Vec::new();
    for line in lines.take_while(|line| !line.starts_with(CERTIFICATE_BEGIN)) {
        let key = line.strip_prefix(DENIED_LINE).ok_or(BadTrust::Anchors)?;
        keys.push(key.parse().map_err(|_| BadTrust::Anchors)?);
    }
    Denied::of(keys).map_err(|_| BadTrust::Anchors)
}

/// The first success; if there is none, the refusal that says most: a chain that leads to a root and
/// fails by its dates tells more than a foreign root.
fn first_ok<T>(
    attempts: impl Iterator<Item = Result<T, BadCertificate>>,
) -> Result<T, BadCertificate> {
    let mut refusal = BadCertificate::ForeignRoot;
    for attempt in attempts {
        match attempt {
            Ok(found) => return Ok(found),
            Err(BadCertificate::ForeignRoot | BadCertificate::NoIssuer) => {}
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
