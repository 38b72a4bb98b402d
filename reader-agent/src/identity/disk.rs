//! Which identity is on the disk, wherever the last run was cut off?
//!
//! | beside `agent.key` and `agent.pem` | what it means |
//! |---|---|
//! | nothing | no renewal is under way |
//! | `agent.key.next` | a renewal has begun; the authority may have certified this key |
//! | `agent.key.next`, `agent.pem.next` | certified; it takes the old one's place once it was used |
//! | `agent.pem.next` that fits `agent.key` | cut off between the two renames, which the next start ends |
//!
//! The old pair is complete until the new one was used, and the key of a renewal is on the disk before
//! anybody hears of it. So at every moment there is a pair here that the authority takes.

use std::fs;
use std::path::{Path, PathBuf};

use pki::{Certificate, SoftwareKey};

use super::{CHAIN_FILE, Identity, KEY_FILE};
use crate::error::AgentError;
use crate::files;

pub const NEXT_KEY_FILE: &str = "agent.key.next";
pub const NEXT_CHAIN_FILE: &str = "agent.pem.next";
/// How the half-written files begin that a power cut leaves behind.
const LEFTOVER: &str = ".agent.";

/// The files of one terminal's identity.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    dir: PathBuf,
}

/// What the disk holds.
pub struct Found {
    pub current: Identity,
    pub next: Next,
}

/// How far a renewal had come.
pub enum Next {
    None,
    /// Its key was made; the authority may have certified it.
    Key,
    /// Its certificate is here; it may have been used.
    Certified(Identity),
}

impl IdentityFiles {
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Ends what was cut off half-way, then reads what there is.
    pub fn load(&self) -> Result<Found, AgentError> {
        self.sweep();
        let key = SoftwareKey::load(&self.at(KEY_FILE))?;
        let cut_off = self
            .next_chain()
            .is_some_and(|chain| chain[0].spki_sha256() == key.spki_sha256());
        if cut_off {
            self.promote_chain()?;
        }
        Ok(Found {
            current: Identity::new(key, certificates(&self.at(CHAIN_FILE))?)?,
            next: self.next(),
        })
    }

    /// The identity that is in force; nothing is ended or removed.
    pub fn look(&self) -> Result<Identity, AgentError> {
        let key = SoftwareKey::load(&self.at(KEY_FILE))?;
        let fits = |chain: &Vec<Certificate>| chain[0].spki_sha256() == key.spki_sha256();
        let cut_off = self.next_chain().filter(fits);
        let chain = cut_off.map_or_else(|| certificates(&self.at(CHAIN_FILE)), Ok)?;
        Identity::new(key, chain)
    }

    /// The key of a renewal that begins; on the disk when this returns.
    pub fn make_next_key(&self) -> Result<(), AgentError> {
        files::remove(&self.at(NEXT_CHAIN_FILE))?;
        Ok(SoftwareKey::generate()?.save(&self.at(NEXT_KEY_FILE))?)
    }

    pub fn next_key(&self) -> Result<SoftwareKey, AgentError> {
        Ok(SoftwareKey::load(&self.at(NEXT_KEY_FILE))?)
    }

    /// What the authority certified, leaf first.
    pub fn keep_next_chain(&self, chain: &[Certificate]) -> Result<(), AgentError> {
        files::write_whole(&self.at(NEXT_CHAIN_FILE), pem(chain).as_bytes())
    }

    /// The next identity, if both halves are here and belong together.
    pub fn next_identity(&self) -> Result<Identity, AgentError> {
        let chain = certificates(&self.at(NEXT_CHAIN_FILE))?;
        Identity::new(self.next_key()?, chain)
    }

    /// First half of the change-over: from here on the old key is gone.
    pub fn promote_key(&self) -> Result<(), AgentError> {
        files::replace(&self.at(NEXT_KEY_FILE), &self.at(KEY_FILE))
    }

    /// Second half.
    pub fn promote_chain(&self) -> Result<(), AgentError> {
        files::replace(&self.at(NEXT_CHAIN_FILE), &self.at(CHAIN_FILE))
    }

    /// The authority will never certify this key.
    pub fn drop_next(&self) -> Result<(), AgentError> {
        files::remove(&self.at(NEXT_CHAIN_FILE))?;
        files::remove(&self.at(NEXT_KEY_FILE))
    }

    /// The same certificate with others above it, because the roots changed.
    pub fn keep_chain(&self, identity: &Identity) -> Result<(), AgentError> {
        files::write_whole(&self.at(CHAIN_FILE), pem(&identity.chain).as_bytes())
    }

    fn next(&self) -> Next {
        if let Err(error) = self.next_key() {
            if self.at(NEXT_KEY_FILE).exists() {
                tracing::error!(hint = error.hint(), "a renewal starts anew: {error}");
            }
            return Next::None;
        }
        // Without a certificate that fits, the key is asked for again, and the authority answers as before.
        self.next_identity().map_or(Next::Key, Next::Certified)
    }

    fn next_chain(&self) -> Option<Vec<Certificate>> {
        certificates(&self.at(NEXT_CHAIN_FILE)).ok()
    }

    fn sweep(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let left = entries.filter(|e| e.file_name().to_string_lossy().starts_with(LEFTOVER));
        for entry in left {
            // It may hold half a key. One that cannot be removed does no harm either.
            let _ = fs::remove_file(entry.path());
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Certificates as they stand in a file.
pub fn pem(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::pem).collect()
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<Certificate>, AgentError> {
    let text = fs::read_to_string(path).map_err(|e| AgentError::file(path, &e))?;
    pki::chain::certificates_from_pem(&text).map_err(|error| {
        AgentError::operator(
            format!("{}: {error}", path.display()),
            "put the file of the enrolment back, or enrol this machine again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::authority::{Ca, DUE, FRESH};

    /// Files of a terminal, and the certificate of its next key.
    fn enrolled(dir: &Path) -> (IdentityFiles, Vec<Certificate>) {
        let (ca, key) = (Ca::new("A"), SoftwareKey::generate().unwrap());
        let chain = vec![ca.terminal(&key, DUE), ca.issuing.clone()];
        key.save(&dir.join(KEY_FILE)).unwrap();
        fs::write(dir.join(CHAIN_FILE), pem(&chain)).unwrap();
        let files = IdentityFiles::in_dir(dir);
        files.make_next_key().unwrap();
        let next = ca.terminal(&files.next_key().unwrap(), FRESH);
        (files, vec![next, ca.issuing])
    }

    #[test]
    fn a_change_over_that_was_cut_between_its_two_halves_is_ended_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let (files, next) = enrolled(dir.path());
        files.keep_next_chain(&next).unwrap();
        files.promote_key().unwrap();
        assert_eq!(files.look().unwrap().leaf(), &next[0]);
        assert!(dir.path().join(NEXT_CHAIN_FILE).exists());
        let found = files.load().unwrap();
        assert_eq!(found.current.leaf(), &next[0]);
        assert!(matches!(found.next, Next::None));
        assert_eq!(files.load().unwrap().current.leaf(), &next[0]);
    }

    #[test]
    fn a_certificate_that_does_not_fit_the_next_key_is_asked_for_again_with_that_key() {
        let dir = tempfile::tempdir().unwrap();
        let (files, next) = enrolled(dir.path());
        let key = files.next_key().unwrap().spki_sha256();
        for damage in [pem(&next)[..200].to_owned(), pem(&next[1..])] {
            fs::write(dir.path().join(NEXT_CHAIN_FILE), damage).unwrap();
            assert!(matches!(files.load().unwrap().next, Next::Key));
            assert_eq!(files.next_key().unwrap().spki_sha256(), key);
        }
    }

    #[test]
    fn a_start_removes_the_half_written_keys_of_a_cut_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = enrolled(dir.path());
        let half = dir.path().join(".agent.key.next.0123456789abcdef");
        fs::write(&half, "-----BEGIN").unwrap();
        let before = fs::read_dir(dir.path()).unwrap().count();
        files.load().unwrap();
        assert!(!half.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before - 1);
    }
}
