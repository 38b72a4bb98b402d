//! How does a change of the trusted roots come about?
//!
//! The keys of two roots may lie in two places, so a [`Draft`] collects signatures until every root
//! that must agree has: those believed before, and those believed from now on.

use std::path::Path;

use super::document::Signed;
use super::{
    BadTrust, Denied, KeyId, RootList, TrustBundle, TrustedRoot, check_denied, check_roots,
};
use crate::certificate::Certificate;
use crate::chain::Fingerprint;
use crate::error::PkiError;
use crate::files::{self, Replace};
use crate::lifecycle::{KeyState, Step};
use crate::root::RootSigner;

/// What happens to one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new root beside the others.
    Prepare(Box<Certificate>),
    /// New issuing certificates come from this one; the one before is superseded.
    Activate(Fingerprint),
    /// Not believed any more.
    Taint(Fingerprint),
    /// Its key is destroyed; it leaves the list.
    Retire(Fingerprint),
    /// This key counts for nothing any more, under whatever root: that of an issuing CA.
    Deny(KeyId),
}

/// The next list, and the signatures it has so far.
#[derive(Debug, Clone)]
pub struct Draft {
    before: Vec<RootList>,
    next: RootList,
}

impl Draft {
    /// The first list: `root` has been the only one, pinned by everybody.
    pub fn first(root: Certificate, change: &Change, now: u64) -> Result<Self, BadTrust> {
        let active = TrustedRoot {
            certificate: root,
            state: KeyState::Active,
        };
        Self::of(Vec::new(), 1, vec![active], change, now)
    }

    /// The list after those of `bundle`. `now` is in Unix seconds.
    pub fn after(bundle: &TrustBundle, change: &Change, now: u64) -> Result<Self, BadTrust> {
        let (roots, sequence) = (bundle.roots().to_vec(), bundle.sequence() + 1);
        Self::of(bundle.lists.clone(), sequence, roots, change, now)
    }

    fn of(
        before: Vec<RootList>,
        sequence: u64,
        mut roots: Vec<TrustedRoot>,
        change: &Change,
        now: u64,
    ) -> Result<Self, BadTrust> {
        // What is retired was listed once more, for those who look; it leaves with the next change.
        roots.retain(|root| root.state != KeyState::Retired || change.names(root));
        if let Change::Prepare(new) = change {
            never_listed(&before, new)?;
        }
        change.apply(&mut roots)?;
        check_roots(&roots)?;
        let denied = match (before.last().map(|list| list.denied.clone()), change) {
            (denied, Change::Deny(key)) => denied.unwrap_or_default().and(*key)?,
            (denied, _) => denied.unwrap_or_default(),
        };
        check_denied(&roots, &denied)?;
        let signed = Signed::unsigned(sequence, now, &roots, &denied);
        let next = RootList {
            sequence,
            issued_at: now,
            roots,
            denied,
            signed,
        };
        Ok(Self { before, next })
    }

    pub fn sequence(&self) -> u64 {
        self.next.sequence
    }

    /// The roots as they will be.
    pub fn roots(&self) -> &[TrustedRoot] {
        &self.next.roots
    }

    /// The keys that will count for nothing.
    pub fn denied(&self) -> &Denied {
        &self.next.denied
    }

    /// Every root that must sign: those believed so far and those believed from now on.
    pub fn signers(&self) -> Vec<&Certificate> {
        let so_far = self.before.last().into_iter().flat_map(RootList::believed);
        let mut all: Vec<&Certificate> = so_far.chain(self.next.believed()).collect();
        let mut seen = Vec::new();
        all.retain(|root| {
            let key = root.spki_sha256();
            let fresh = !seen.contains(&key);
            seen.push(key);
            fresh
        });
        all
    }

    /// Those of them who have not signed yet.
    pub fn missing(&self) -> Vec<&Certificate> {
        let mut all = self.signers();
        all.retain(|root| self.next.signed.check_by(root).is_err());
        all
    }

    /// When it was made, Unix seconds.
    pub fn issued_at(&self) -> u64 {
        self.next.issued_at
    }

    /// SHA-256 of the list, by which logs know it, whoever has signed it.
    pub fn list_sha256(&self) -> [u8; 32] {
        self.next.signed.payload_sha256()
    }

    /// What `root` is to sign.
    pub fn digest(&self, root: &Certificate) -> [u8; 32] {
        self.next.signed.digest(root)
    }

    /// Takes `r || s` of `root` over [`Draft::digest`], after verifying it.
    pub fn add(&mut self, root: &Certificate, signature: &[u8; 64]) -> Result<(), BadTrust> {
        let is_signer = self.signers().contains(&root);
        if !is_signer {
            return Err(BadTrust::NoSuchRoot(root.fingerprint()));
        }
        let mut signed = self.next.signed.clone();
        signed.add(root, signature);
        signed.check_by(root)?;
        self.next.signed = signed;
        Ok(())
    }

    /// The bundle, once everybody has signed.
    pub fn finish(self) -> Result<TrustBundle, BadTrust> {
        let mut lists = self.before;
        lists.push(self.next);
        TrustBundle::checked(lists)
    }

    /// The document with the signatures so far, to be carried to the next key.
    pub fn to_json(&self) -> String {
        let lists = [&self.before[..], std::slice::from_ref(&self.next)].concat();
        super::document::write(&lists)
    }

    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let bytes = files::read_public(path)?;
        let text = String::from_utf8(bytes).map_err(|_| BadTrust::Malformed)?;
        Ok(Self::parse(&text)?)
    }

    /// Replaces the document at `path`, which has one signature less.
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        files::write_public(path, self.to_json().as_bytes(), Replace::Yes)
    }

    /// Reads such a document. What came before must be whole; the last list may lack signatures.
    pub fn parse(text: &str) -> Result<Self, BadTrust> {
        let mut before = super::document::read(text)?;
        let next = before.pop().ok_or(BadTrust::Count)?;
        check_roots(&next.roots)?;
        check_denied(&next.roots, &next.denied)?;
        if let Some(last) = before.last() {
            let rises = next.sequence > last.sequence;
            TrustBundle::checked(before.clone())?;
            rises.then_some(()).ok_or(BadTrust::Order)?;
            let keeps = next.denied.continues(&last.denied);
            keeps.then_some(()).ok_or(BadTrust::Forgets)?;
        }
        Ok(Self { before, next })
    }
}

impl Change {
    fn names(&self, root: &TrustedRoot) -> bool {
        let fingerprint = root.certificate.fingerprint();
        match self {
            Self::Prepare(_) | Self::Deny(_) => false,
            Self::Activate(named) | Self::Taint(named) | Self::Retire(named) => {
                *named == fingerprint
            }
        }
    }

    fn apply(&self, roots: &mut Vec<TrustedRoot>) -> Result<(), BadTrust> {
        match self {
            Self::Prepare(certificate) => {
                roots.push(TrustedRoot {
                    certificate: Certificate::clone(certificate),
                    state: KeyState::Prepared,
                });
                Ok(())
            }
            Self::Activate(named) => {
                take(roots, named, Step::Activate)?;
                for root in roots.iter_mut() {
                    let other = root.certificate.fingerprint() != *named;
                    if other && root.state == KeyState::Active {
                        root.state = root.state.after(Step::Supersede)?;
                    }
                }
                Ok(())
            }
            Self::Taint(named) => take(roots, named, Step::Taint),
            Self::Retire(named) => take(roots, named, Step::Retire),
            Self::Deny(_) => Ok(()),
        }
    }
}

/// What was tainted or retired once does not come back as new.
fn never_listed(before: &[RootList], new: &Certificate) -> Result<(), BadTrust> {
    let mut all = before.iter().flat_map(|list| &list.roots);
    match all.any(|root| root.certificate.spki_sha256() == new.spki_sha256()) {
        true => Err(BadTrust::Twice),
        false => Ok(()),
    }
}

fn take(roots: &mut [TrustedRoot], named: &Fingerprint, step: Step) -> Result<(), BadTrust> {
    let mut all = roots.iter_mut();
    let root = all.find(|root| root.certificate.fingerprint() == *named);
    let root = root.ok_or(BadTrust::NoSuchRoot(*named))?;
    root.state = root.state.after(step)?;
    Ok(())
}

/// Signs a draft with keys at hand, and finishes it.
pub async fn sign_bundle(mut draft: Draft, keys: &[&RootSigner]) -> Result<TrustBundle, PkiError> {
    for root in draft.signers().into_iter().cloned().collect::<Vec<_>>() {
        let own = |key: &&&RootSigner| key.spki_sha256() == root.spki_sha256();
        if let Some(key) = keys.iter().find(own) {
            let signature = key.sign_digest(draft.digest(&root)).await?;
            draft.add(&root, &signature)?;
        }
    }
    Ok(draft.finish()?)
}
