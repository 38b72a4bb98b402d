//! Which roots does this authority trust, and may the next list of them be put in force?
//!
//! The list lies in a file beside the configuration, because every node and every verb needs it before
//! the database is open, and because it proves itself: a database that was restored says nothing about
//! it. What terminals follow is in the store.

pub mod staged;

use std::path::Path;

use pki::trust::BadTrust;
use pki::{
    BadCertificate, BadFile, Certificate, Denied, PkiError, TrustAnchors, TrustBundle, verify_chain,
};

use crate::app::load_certificate;
use crate::config::TrustConfig;

/// The files do not say which roots are trusted.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct TrustFileError {
    pub path: String,
    pub problem: PkiError,
}

/// The roots in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    bundle: Option<TrustBundle>,
    anchors: TrustAnchors,
}

impl Trust {
    /// Only this root, as long as nothing was rotated.
    pub fn pinned(root: Certificate) -> Self {
        Self {
            bundle: None,
            anchors: TrustAnchors::pinned(root),
        }
    }

    /// What the files say: the bundle, if there is one and the configured root proves it.
    pub fn load(config: &TrustConfig) -> Result<Self, TrustFileError> {
        let at = |path: &Path, problem: PkiError| TrustFileError {
            path: path.display().to_string(),
            problem,
        };
        let root = load_certificate(&config.root).map_err(|error| at(&config.root, error))?;
        let pinned = Self::pinned(root);
        let wrong = |error| at(&config.bundle, error);
        match TrustBundle::load(&config.bundle) {
            Ok(bundle) => pinned
                .followed_by(bundle)
                .map_err(|error| wrong(error.into())),
            Err(PkiError::File {
                problem: BadFile::Missing,
                ..
            }) => Ok(pinned),
            Err(error) => Err(wrong(error)),
        }
    }

    /// After this bundle, if it goes on from what is trusted now.
    pub fn followed_by(&self, bundle: TrustBundle) -> Result<Self, BadTrust> {
        let anchors = self.anchors.accept(&bundle)?;
        if let Some(own) = self.bundle.as_ref().filter(|own| !bundle.continues(own)) {
            // Signed by all, and yet another line: two ceremonies went on from one list.
            let (held, offered) = (own.sequence(), bundle.sequence());
            return Err(BadTrust::Forked { held, offered });
        }
        Ok(Self {
            bundle: Some(bundle),
            anchors,
        })
    }

    /// Every root there ever was, whatever became of it. For what is judged by the database besides.
    pub fn ever(&self) -> Vec<Certificate> {
        let mut all = self.roots().to_vec();
        let listed = self.bundle.iter().flat_map(TrustBundle::ever_listed);
        let listed: Vec<Certificate> = listed.cloned().collect();
        all.extend(
            listed
                .into_iter()
                .filter(|root| !self.roots().contains(root)),
        );
        all
    }

    /// The one that new issuing certificates come from.
    pub fn active(&self) -> &Certificate {
        match &self.bundle {
            Some(bundle) => bundle.active(),
            None => &self.anchors.roots()[0],
        }
    }

    pub fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// Keys that count for nothing, whatever root they hang on.
    pub fn denied(&self) -> &Denied {
        self.anchors.denied()
    }

    /// The roots that are believed.
    pub fn roots(&self) -> &[Certificate] {
        self.anchors.roots()
    }

    /// Whether one of our roots, believed or not, ever led to this certificate; its date aside.
    pub fn is_ours(&self, leaf: &Certificate, others: &[Certificate], now: u64) -> bool {
        self.ever().iter().any(|root| {
            let verified = verify_chain(leaf, others, root, now);
            // Whoever is told of an expiry knows that everything else was in order.
            matches!(verified, Ok(_) | Err(BadCertificate::Expired { .. }))
        })
    }

    /// 0 before the first bundle.
    pub fn sequence(&self) -> u64 {
        self.bundle.as_ref().map_or(0, TrustBundle::sequence)
    }

    pub fn bundle(&self) -> Option<&TrustBundle> {
        self.bundle.as_ref()
    }

    /// Writes the bundle where [`Trust::load`] finds it, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), PkiError> {
        match &self.bundle {
            Some(bundle) => bundle.save(path),
            None => Ok(()),
        }
    }
}
