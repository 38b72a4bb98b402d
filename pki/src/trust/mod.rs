//! Which roots are trusted, and who may change that?
//!
//! Roots themselves. A *trust bundle* is the line of all lists of roots so far, each signed by every
//! root that was believed before it and by every root it makes believed:
//!
//! ```text
//! pinned: A ──▶ 1: A active, B prepared ──▶ 2: A superseded, B active ──▶ 3: A tainted, B active
//!               signed by A and B           signed by A and B             signed by A and B
//! ```
//! A party takes a list if its sequence is higher than its own and every root it trusts has signed it;
//! so the bundle may come from anywhere, one stolen root changes nothing once a second one is there,
//! and a party that was away for years follows the line from the root it pinned. There are no
//! cross-certificates: a party trusts a root or it does not.
//!
//! A list also names keys that count for nothing under any root: issuing keys that were stolen.
//!
//! The document is JSON; each list is a JWS in general JSON serialization (RFC 7515, 7.2.1), `typ`
//! [`TYP`], `kid` the RFC 7638 thumbprint of a root's key.

mod anchors;
mod denied;
mod document;
mod draft;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use crate::certificate::Certificate;
use crate::chain::Fingerprint;
use crate::error::PkiError;
use crate::files::{self, Replace};
use crate::lifecycle::{KeyState, WrongStep};
use crate::verify;

pub use anchors::TrustAnchors;
pub use denied::{DENIED_MAX, Denied, KeyId};
pub use draft::{Change, Draft, sign_bundle};

/// Most roots in one list.
pub const ROOTS_MAX: usize = 8;
/// Most lists in one bundle: a root in five years, four steps each, for eighty years.
pub const LISTS_MAX: usize = 64;
/// Longest bundle that is looked at, in bytes.
pub const TRUST_MAX_BYTES: usize = 512 * 1024;
/// The media type in the protected headers, without `application/`.
pub const TYP: &str = protocol::typ::TRUST;

/// A root and where it stands in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    pub certificate: Certificate,
    pub state: KeyState,
}

/// All lists of roots so far, every signature verified. The last list is the one in force.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// At least one, in rising order of their sequences.
    lists: Vec<RootList>,
}

/// One list, and the signatures over it that were verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootList {
    pub(crate) sequence: u64,
    /// Unix seconds.
    pub(crate) issued_at: u64,
    pub(crate) roots: Vec<TrustedRoot>,
    pub(crate) denied: Denied,
    pub(crate) signed: document::Signed,
}

/// Why a bundle, or a change of one, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTrust {
    #[error("it is larger than {TRUST_MAX_BYTES} bytes")]
    TooLarge,
    #[error("it is not a trust bundle")]
    Malformed,
    #[error("it holds more than {ROOTS_MAX} roots or {LISTS_MAX} lists, or none")]
    Count,
    #[error("one of its signatures is not ES256 of the type {TYP}")]
    Header,
    #[error("one of its certificates cannot be a root: {0}")]
    Root(crate::certificate::BadCertificate),
    #[error("one root stands in it twice")]
    Twice,
    #[error("there is not exactly one active root in it")]
    NotOneActive,
    #[error("its sequences do not rise")]
    Order,
    #[error("the signature of the root {0} does not fit")]
    Signature(Fingerprint),
    #[error("the root {0} has not signed it")]
    NotSigned(Fingerprint),
    #[error("its sequence {offered} is not above {held}, which is followed already")]
    NotNewer { held: u64, offered: u64 },
    #[error(
        "it is another line than the one in force (list {held}): two changes went on from one list"
    )]
    Forked { held: u64, offered: u64 },
    #[error("no line of signatures leads to it from the roots that are trusted here")]
    NotProven,
    #[error("this root has signed another list {sequence} of roots before")]
    SignedOther { sequence: u64 },
    #[error("a list denies at most {DENIED_MAX} keys")]
    TooManyDenied,
    #[error("the key {0} is denied already")]
    DeniedBefore(KeyId),
    #[error("a key that was denied before is not denied in it any more")]
    Forgets,
    #[error("the key {0} is that of a root, which is not denied but tainted")]
    DeniesRoot(KeyId),
    #[error("not the id of a key, which has 64 hexadecimal digits")]
    KeyId,
    #[error("no root in it is {0}")]
    NoSuchRoot(Fingerprint),
    #[error(transparent)]
    Step(#[from] WrongStep),
    #[error("the list of trusted roots in the file is damaged")]
    Anchors,
}

impl BadTrust {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge | Self::Malformed | Self::Count | Self::Header => {
                "give the file that m2key-pki root trust wrote"
            }
            Self::Root(_) | Self::Twice => {
                "give the certificate of one root, as root init wrote it"
            }
            Self::NotOneActive => "prepare the new root, then activate it",
            Self::Order | Self::Signature(_) | Self::Forgets => {
                "do not edit a bundle: make the change again from the last good one"
            }
            Self::NotSigned(_) => {
                "sign with the key of this root as well: every root that is trusted must agree"
            }
            Self::NotNewer { .. } => "this bundle is known already, or older than the one in force",
            Self::Forked { .. } => "make the change again, from the bundle that is in force",
            Self::NotProven => {
                "compare the root fingerprints with the operator of the authority; if they fit, enrol \
                 again with the new one"
            }
            Self::SignedOther { .. } => {
                "go on with that one; only if it was abandoned and destroyed, sign this one with --again"
            }
            Self::TooManyDenied => {
                "replace the root: under a new one nothing of the old one is believed"
            }
            Self::DeniedBefore(_) => "nothing has to be done: m2key-pki root trust show lists it",
            Self::DeniesRoot(_) => "m2key-pki root trust taint",
            Self::KeyId => "m2key-pki issuing list shows the key id of each issuing key",
            Self::NoSuchRoot(_) => {
                "m2key-pki root trust show lists the roots and their fingerprints"
            }
            Self::Step(wrong) => wrong.hint(),
            Self::Anchors => "restore the file, or enrol again with the pinned root",
        }
    }
}

impl TrustBundle {
    /// Reads a bundle and verifies all its signatures against the roots in it. Whether *you* trust it
    /// is for [`TrustAnchors::accept`] to say.
    pub fn parse(text: &str) -> Result<Self, BadTrust> {
        let lists = document::read(text)?;
        Self::checked(lists)
    }

    fn checked(lists: Vec<RootList>) -> Result<Self, BadTrust> {
        if !(1..=LISTS_MAX).contains(&lists.len()) {
            return Err(BadTrust::Count);
        }
        for list in &lists {
            list.check()?;
        }
        for pair in lists.windows(2) {
            pair[1].check_follows(&pair[0])?;
        }
        Ok(Self { lists })
    }

    /// Rises with every list; the first one has 1.
    pub fn sequence(&self) -> u64 {
        self.last().sequence
    }

    /// When the last list was made, Unix seconds.
    pub fn issued_at(&self) -> u64 {
        self.last().issued_at
    }

    /// The list in force, with those that are not believed any more.
    pub fn roots(&self) -> &[TrustedRoot] {
        &self.last().roots
    }

    /// The keys that count for nothing, according to the list in force.
    pub fn denied(&self) -> &Denied {
        &self.last().denied
    }

    /// The roots that are believed.
    pub fn believed(&self) -> impl Iterator<Item = &Certificate> {
        self.last().believed()
    }

    /// Every root that was ever listed, whatever became of it.
    pub fn ever_listed(&self) -> Vec<&Certificate> {
        let mut all: Vec<&Certificate> = Vec::new();
        for root in self.lists.iter().flat_map(|list| &list.roots) {
            if !all.contains(&&root.certificate) {
                all.push(&root.certificate);
            }
        }
        all
    }

    /// The root that new issuing certificates come from.
    pub fn active(&self) -> &Certificate {
        let active = self
            .roots()
            .iter()
            .find(|root| root.state == KeyState::Active);
        &active
            .expect("a checked list has one active root")
            .certificate
    }

    /// The first list in which `root` is believed; 0 for the one that was pinned before the first list.
    pub fn believed_since(&self, root: &Certificate) -> u64 {
        let pinned = |list: &RootList| {
            let mut roots = list.roots.iter();
            list.sequence == self.lists[0].sequence
                && roots.any(|it| it.certificate == *root && it.state != KeyState::Prepared)
        };
        let first = self
            .lists
            .iter()
            .find(|list| list.believed().any(|it| it == root));
        match first {
            Some(list) if !pinned(list) => list.sequence,
            _ => 0,
        }
    }

    /// Whether this bundle goes on from `older`: it has all of its lists, and perhaps more. Signatures
    /// may differ: a root that signs again makes another one, and says the same.
    pub fn continues(&self, older: &Self) -> bool {
        let mut pairs = self.lists.iter().zip(&older.lists);
        self.lists.len() >= older.lists.len() && pairs.all(|(own, its)| own.says_the_same(its))
    }

    /// Whether both are the same lists, whatever their signatures look like.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.continues(other) && other.continues(self)
    }

    /// The document; reads back by [`TrustBundle::parse`].
    pub fn to_json(&self) -> String {
        document::write(&self.lists)
    }

    pub fn load(path: &Path) -> Result<Self, PkiError> {
        let bytes = files::read_public(path)?;
        let text = String::from_utf8(bytes).map_err(|_| BadTrust::Malformed)?;
        Ok(Self::parse(&text)?)
    }

    /// Whole or not at all; an older one under this name is replaced.
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        files::write_public(path, self.to_json().as_bytes(), Replace::Yes)
    }

    fn last(&self) -> &RootList {
        self.lists.last().expect("a checked bundle has a list")
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustBundle({}, {:?})", self.sequence(), self.roots())
    }
}

impl RootList {
    pub(crate) fn believed(&self) -> impl Iterator<Item = &Certificate> {
        let believed = self.roots.iter().filter(|root| root.state.is_believed());
        believed.map(|root| &root.certificate)
    }

    /// Whether every one of `roots` has signed this list.
    fn check_signed_by<'a>(
        &self,
        roots: impl IntoIterator<Item = &'a Certificate>,
    ) -> Result<(), BadTrust> {
        roots
            .into_iter()
            .try_for_each(|root| self.signed.check_by(root))
    }

    fn says_the_same(&self, other: &Self) -> bool {
        self.signed.payload_sha256() == other.signed.payload_sha256()
    }

    /// What can be said of one list by itself.
    fn check(&self) -> Result<(), BadTrust> {
        check_roots(&self.roots)?;
        check_denied(&self.roots, &self.denied)?;
        self.check_signed_by(self.believed())
    }

    /// Whoever was believed must have agreed to what came next.
    fn check_follows(&self, before: &Self) -> Result<(), BadTrust> {
        if self.sequence <= before.sequence {
            return Err(BadTrust::Order);
        }
        if !self.denied.continues(&before.denied) {
            return Err(BadTrust::Forgets);
        }
        self.check_signed_by(before.believed())
    }
}

fn check_denied(roots: &[TrustedRoot], denied: &Denied) -> Result<(), BadTrust> {
    let mut denies = roots.iter().map(|root| &root.certificate);
    match denies.find(|root| denied.denies(root)) {
        Some(root) => Err(BadTrust::DeniesRoot(KeyId::of(root))),
        None => Ok(()),
    }
}

fn check_roots(roots: &[TrustedRoot]) -> Result<(), BadTrust> {
    if !(1..=ROOTS_MAX).contains(&roots.len()) {
        return Err(BadTrust::Count);
    }
    let key = |index: usize| roots[index].certificate.spki_sha256();
    let twice = |index: usize| (0..index).any(|before| key(before) == key(index));
    if (0..roots.len()).any(twice) {
        return Err(BadTrust::Twice);
    }
    for root in roots {
        verify::check_root(&root.certificate).map_err(BadTrust::Root)?;
    }
    let active = |root: &&TrustedRoot| root.state == KeyState::Active;
    match roots.iter().filter(active).count() {
        1 => Ok(()),
        _ => Err(BadTrust::NotOneActive),
    }
}
