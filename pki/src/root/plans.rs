//! What exactly are people asked to agree to before the root signs?

use std::collections::BTreeMap;

use crate::certificate::{Certificate, hex};
use crate::consent::step::{RootStep, key_name, root_name};
use crate::crl::{CrlRequest, Reason, Revoked};
use crate::csr::CheckedCsr;
use crate::dates::in_words;
use crate::profiles::{CrlBase, ISSUING_LIFETIME_SECONDS};

/// An issuing certificate that people have not agreed to yet.
#[derive(Debug, Clone)]
pub struct IssuingPlan {
    pub(super) root: Certificate,
    pub(super) request: CheckedCsr,
    pub(super) crl_base: Option<CrlBase>,
    pub(super) again: bool,
    pub(super) now: u64,
    pub(super) transcript: Option<String>,
}

/// What a new revocation list should say besides what the last one said.
#[derive(Debug, Clone)]
pub struct CrlWish {
    /// Files or serial numbers of issuing certificates.
    pub revoke: Vec<String>,
    pub reason: Reason,
    pub next_days: u32,
    /// A number that was seen elsewhere: the new one is above it.
    pub above: u64,
}

/// A revocation list that people have not agreed to yet.
#[derive(Debug, Clone)]
pub struct CrlPlan {
    pub(super) root: Certificate,
    pub(super) fresh: Vec<Revoked>,
    /// SHA-256 of the keys of those, by serial number, as far as they are known.
    pub(super) keys: BTreeMap<String, String>,
    pub(super) next_days: u32,
    pub(super) request: CrlRequest,
    pub(super) transcript: Option<String>,
}

impl IssuingPlan {
    /// The same, and the certificate says where the root's revocation list is.
    pub fn listed_at(mut self, base: Option<CrlBase>) -> Self {
        self.crl_base = base;
        self
    }

    /// The same, with what operators signed.
    pub fn consented(mut self, transcript: Option<String>) -> Self {
        self.transcript = transcript;
        self
    }

    /// What operators consent to.
    pub fn step(&self) -> RootStep {
        RootStep::Sign {
            root: root_name(&self.root),
            key_id: key_name(&self.request),
            crl_base: self.crl_base.as_ref().map(ToString::to_string),
            again: self.again,
        }
    }

    /// What people are asked to agree to.
    pub fn words(&self) -> String {
        let until = self
            .now
            .saturating_add(ISSUING_LIFETIME_SECONDS)
            .min(self.root.not_after());
        let listed = match &self.crl_base {
            Some(base) => format!("under {base}, for the root to publish"),
            None => "the certificate does not say".into(),
        };
        format!(
            "An issuing certificate, which may issue to machines and operators:\n\
             \x20 for key     SHA-256 {}\n\
             \x20 until       {}\n\
             \x20 root's list {listed}\n\
             \x20 by root     {}\n\
             \x20 today is    {} by the clock of this machine\n",
            hex(&self.request.spki_sha256()),
            in_words(until),
            self.root.fingerprint(),
            in_words(self.now),
        )
    }
}

impl CrlPlan {
    /// The same, with what operators signed.
    pub fn consented(mut self, transcript: Option<String>) -> Self {
        self.transcript = transcript;
        self
    }

    /// What operators consent to.
    pub fn step(&self) -> RootStep {
        let mut revoke: Vec<_> = self.fresh.iter().map(|it| it.serial.clone()).collect();
        revoke.sort_unstable();
        RootStep::Crl {
            root: root_name(&self.root),
            number: self.request.number,
            reason: self.fresh.first().map(|it| it.reason.name().to_owned()),
            revoke,
            next_days: self.next_days,
        }
    }

    /// What people are asked to agree to.
    pub fn words(&self) -> String {
        let fresh: String = self
            .fresh
            .iter()
            .map(|entry| format!("  newly on it {} ({})\n", entry.serial, entry.reason))
            .collect();
        format!(
            "Revocation list {} of the root:\n{fresh}\
             \x20 entries     {}\n\
             \x20 next list   {} at the latest\n\
             \x20 by root     {}\n\
             \x20 today is    {} by the clock of this machine\n",
            self.request.number,
            self.request.revoked.len(),
            in_words(self.request.next_update),
            self.root.fingerprint(),
            in_words(self.request.this_update),
        )
    }
}
