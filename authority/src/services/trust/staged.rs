//! Where does a list of roots wait while others consent to it?
//!
//! In a file beside the bundle in force, named after its hash: so that what is carried out tomorrow is
//! what was agreed to today, whatever else was brought meanwhile.

use std::path::{Path, PathBuf};

use pki::{BadFile, PkiError, TrustBundle};
use protocol::problem::{Problem, ProblemType};
use sha2::{Digest, Sha256};

use crate::services::Failure;

/// Most lists that wait.
const STAGED_MAX: usize = 16;
const END: &str = ".staged";

/// Of the document, in hexadecimal.
pub fn sha256(bundle: &TrustBundle) -> String {
    let digest = Sha256::digest(bundle.to_json().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn keep(in_force: &Path, bundle: &TrustBundle) -> Result<(), Failure> {
    let path = place(in_force, &sha256(bundle));
    if !path.exists() && all(in_force).len() >= STAGED_MAX {
        let detail = format!("{STAGED_MAX} lists of roots wait already: install one of them");
        return Err(Problem::new(ProblemType::AlreadyExists)
            .with_detail(detail)
            .into());
    }
    Ok(bundle.save(&path)?)
}

/// The one that was brought under this hash.
pub fn find(in_force: &Path, sha256_hex: &str) -> Result<TrustBundle, Failure> {
    let is_hash = sha256_hex.len() == 64 && sha256_hex.bytes().all(|b| b.is_ascii_hexdigit());
    let path = place(in_force, sha256_hex);
    match is_hash.then(|| TrustBundle::load(&path)) {
        Some(Ok(bundle)) if sha256(&bundle) == sha256_hex => Ok(bundle),
        Some(Err(error)) if !is_missing(&error) => Err(error.into()),
        _ => Err(Problem::new(ProblemType::Unknown)
            .with_detail(
                "that list of roots does not wait here: give its file to trust install again",
            )
            .into()),
    }
}

/// Once one is in force, none of the others can follow it.
pub fn clear(in_force: &Path) {
    for path in all(in_force) {
        // What stays cannot be installed, and is cleared the next time.
        let _ = std::fs::remove_file(path);
    }
}

fn place(in_force: &Path, sha256_hex: &str) -> PathBuf {
    in_force.with_file_name(format!("{}{sha256_hex}{END}", begin(in_force)))
}

fn begin(in_force: &Path) -> String {
    let name = in_force.file_name().unwrap_or_default();
    format!("{}.", name.to_string_lossy())
}

fn all(in_force: &Path) -> Vec<PathBuf> {
    let folder = in_force.parent().unwrap_or(Path::new("."));
    let begin = begin(in_force);
    let is_staged = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&begin) && name.ends_with(END)
    };
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).filter(is_staged).collect()
}

fn is_missing(error: &PkiError) -> bool {
    matches!(
        error,
        PkiError::File {
            problem: BadFile::Missing,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pki::trust::{Change, Draft};
    use pki::{RootKey, RootSigner};

    async fn bundle(now: u64) -> TrustBundle {
        let keys = [RootKey::generate().unwrap(), RootKey::generate().unwrap()];
        let [old, new] = keys.each_ref().map(|key| key.certificate(now).unwrap());
        let draft = Draft::first(old, &Change::Prepare(Box::new(new)), now).unwrap();
        let [old, new] = keys.map(RootSigner::from);
        pki::trust::sign_bundle(draft, &[&old, &new]).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_carried_out_is_what_was_brought_under_this_hash() {
        let dir = tempfile::tempdir().unwrap();
        let in_force = dir.path().join("trust.json");
        let (first, second) = (bundle(1_795_435_200).await, bundle(1_795_435_201).await);
        for bundle in [&first, &second, &first] {
            keep(&in_force, bundle).unwrap();
        }
        assert_eq!(find(&in_force, &sha256(&first)), Ok(first.clone()));
        // Somebody put another list in its place.
        let (one, other) = (sha256(&first), sha256(&second));
        std::fs::copy(place(&in_force, &other), place(&in_force, &one)).unwrap();
        assert!(find(&in_force, &one).is_err());
        for unknown in ["", "00", "../../etc/passwd", &"0".repeat(64)] {
            assert!(find(&in_force, unknown).is_err(), "{unknown}");
        }
        clear(&in_force);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
