//! Which roots does this terminal trust, and how does that change?
//!
//! `root.pem` is the root whose fingerprint was compared when the terminal enrolled. `trust.pem`, if there
//! is one, is what its followers made of it: a bundle is believed only if a line of signatures leads to it
//! from every root trusted so far ([`pki::trust`]), so it does not matter who shows it.

use std::fs;
use std::path::{Path, PathBuf};

use pki::Certificate;
use pki::trust::{TrustAnchors, TrustBundle};

pub use pki::trust::BadTrust;

use crate::error::AgentError;
use crate::files;
use crate::identity::disk::certificates;

pub const ROOT_FILE: &str = "root.pem";
pub const TRUST_FILE: &str = "trust.pem";

/// The roots that are trusted now; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust(TrustAnchors);

/// The files of the roots.
#[derive(Debug, Clone)]
pub struct TrustFiles {
    dir: PathBuf,
}

impl Trust {
    pub fn pinned(root: Certificate) -> Self {
        Self(TrustAnchors::pinned(root))
    }

    pub fn roots(&self) -> &[Certificate] {
        self.0.roots()
    }

    /// Roots, and the keys that count for nothing under them.
    pub fn anchors(&self) -> &TrustAnchors {
        &self.0
    }

    /// Whether everything that was believed under `before` is believed still.
    pub fn believes_all_of(&self, before: &Self) -> bool {
        let all_denied = before.0.denied().keys();
        let denied = self.0.denied().keys();
        before
            .roots()
            .iter()
            .all(|root| self.roots().contains(root))
            && denied.iter().all(|key| all_denied.contains(key))
    }

    /// Of the bundle that is followed; 0 while only the pinned root is trusted.
    pub fn sequence(&self) -> u64 {
        self.0.sequence()
    }

    /// What is trusted from now on, if the bundle proves itself to what is trusted now.
    pub fn accept(&self, bundle: &str) -> Result<Self, BadTrust> {
        self.0.accept(&TrustBundle::parse(bundle)?).map(Self)
    }
}

impl TrustFiles {
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    pub fn load(&self) -> Result<Trust, AgentError> {
        let path = self.dir.join(TRUST_FILE);
        if !path.exists() {
            let mut roots = certificates(&self.dir.join(ROOT_FILE))?;
            return Ok(Trust::pinned(roots.remove(0)));
        }
        let text = fs::read_to_string(&path).map_err(|e| AgentError::file(&path, &e))?;
        let anchors = TrustAnchors::parse(&text);
        anchors.map(Trust).map_err(|error| {
            AgentError::operator(format!("{}: {error}", path.display()), error.hint())
        })
    }

    /// On the disk when this returns, whole or as it was before.
    pub fn save(&self, trust: &Trust) -> Result<(), AgentError> {
        let text = trust.0.to_text();
        files::write_whole(&self.dir.join(TRUST_FILE), text.as_bytes())
    }
}
