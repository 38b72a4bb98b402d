//! How do a new key and its certificate take the place of the old ones, also if the power fails half-way?
//!
//! ```text
//! key.new ─▶ certificate.new ─▶ key ─▶ certificate
//!            from here on the new pair is whole, and [`heal`] goes on
//! ```
//! Each step is a file that is either whole or not there.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pki::{BadFile, PkiError, SoftwareKey};

use crate::app::load_certificate;
use crate::config::CertificateFiles;

/// Writes both files. Whatever interrupts it, after [`heal`] there is the old pair or the new one.
pub fn write(files: &CertificateFiles, key: &SoftwareKey, chain: &str) -> Result<(), PkiError> {
    let steps = Steps::of(files);
    steps.stage_key(key)?;
    steps.stage_certificate(chain)?;
    steps.publish_key()?;
    steps.publish_certificate()
}

/// Writes a certificate alone, whose key lies elsewhere; whole or not at all.
pub fn write_certificate(path: &Path, chain: &str) -> Result<(), PkiError> {
    let draft = beside(path);
    written(&draft, chain).map_err(|error| at(&draft, error))?;
    rename(&draft, path)
}

/// Finishes, or takes back, what a crash interrupted. Call it before the files are read.
pub fn heal(files: &CertificateFiles) -> Result<(), PkiError> {
    let steps = Steps::of(files);
    if !steps.new_certificate.exists() {
        return remove(&steps.new_key);
    }
    if steps.new_key.exists() {
        if belong_together(&steps.new_key, &steps.new_certificate) {
            steps.publish_key()?;
            return steps.publish_certificate();
        }
    } else if belong_together(steps.key, &steps.new_certificate) {
        return steps.publish_certificate();
    }
    remove(&steps.new_certificate)?;
    remove(&steps.new_key)
}

/// [`heal`] where others may be writing just now: only if what is there does not belong together.
pub fn mend(files: &CertificateFiles) -> Result<(), PkiError> {
    match belong_together(&files.key, &files.certificate) {
        true => Ok(()),
        false => heal(files),
    }
}

struct Steps<'a> {
    key: &'a Path,
    certificate: &'a Path,
    new_key: PathBuf,
    new_certificate: PathBuf,
}

impl<'a> Steps<'a> {
    fn of(files: &'a CertificateFiles) -> Self {
        Self {
            new_key: beside(&files.key),
            new_certificate: beside(&files.certificate),
            key: &files.key,
            certificate: &files.certificate,
        }
    }

    fn stage_key(&self, key: &SoftwareKey) -> Result<(), PkiError> {
        key.save(&self.new_key)
    }

    fn stage_certificate(&self, chain: &str) -> Result<(), PkiError> {
        // Under a third name first: a certificate.new that is there is whole.
        let draft = self.new_certificate.with_extension("draft");
        written(&draft, chain).map_err(|error| at(&draft, error))?;
        rename(&draft, &self.new_certificate)
    }

    fn publish_key(&self) -> Result<(), PkiError> {
        rename(&self.new_key, self.key)
    }

    fn publish_certificate(&self) -> Result<(), PkiError> {
        rename(&self.new_certificate, self.certificate)
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn belong_together(key: &Path, certificate: &Path) -> bool {
    match (SoftwareKey::load(key), load_certificate(certificate)) {
        (Ok(key), Ok(certificate)) => key.spki_sha256() == certificate.spki_sha256(),
        _ => false,
    }
}

fn written(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Durable when it returns.
fn rename(from: &Path, to: &Path) -> Result<(), PkiError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::rename(from, to)
        .and_then(|()| fs::File::open(folder)?.sync_all())
        .map_err(|error| at(to, error))
}

fn remove(path: &Path) -> Result<(), PkiError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, error)),
        _ => Ok(()),
    }
}

fn at(path: &Path, error: io::Error) -> PkiError {
    PkiError::File {
        path: path.display().to_string(),
        problem: BadFile::from(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::listen::tls::Own;
    use pki::RootKey;

    const NOW: u64 = 1_795_435_200;

    /// A key and a certificate of it; that it is one of an issuing CA does not matter here.
    fn pair() -> (SoftwareKey, String) {
        let (key, root_key) = (
            SoftwareKey::generate().unwrap(),
            RootKey::generate().unwrap(),
        );
        let root = root_key.certificate(NOW).unwrap();
        let signed = root_key.sign_issuing(&root, &key.public_point(), NOW);
        (key, signed.unwrap().pem())
    }

    #[test]
    fn a_crash_between_any_two_steps_leaves_a_pair_that_serves() {
        for done in 0..=4 {
            let dir = tempfile::tempdir().unwrap();
            let files = CertificateFiles {
                certificate: dir.path().join("agents.pem"),
                key: dir.path().join("agents.key"),
            };
            let ((old_key, old), (new_key, new)) = (pair(), pair());
            write(&files, &old_key, &old).unwrap();
            let steps = Steps::of(&files);
            let all: [&dyn Fn() -> Result<(), PkiError>; 4] = [
                &|| steps.stage_key(&new_key),
                &|| steps.stage_certificate(&new),
                &|| steps.publish_key(),
                &|| steps.publish_certificate(),
            ];
            all.iter().take(done).for_each(|step| step().unwrap());
            heal(&files).unwrap();
            Own::load(&files).unwrap();
            let serves = fs::read_to_string(&files.certificate).unwrap();
            let expected = if done < 2 { &old } else { &new };
            assert_eq!(&serves, expected, "after {done} steps");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn whoever_only_reads_does_not_disturb_whoever_writes() {
        let dir = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: dir.path().join("operator.pem"),
            key: dir.path().join("operator.key"),
        };
        let ((old_key, old), (new_key, new)) = (pair(), pair());
        write(&files, &old_key, &old).unwrap();
        let steps = Steps::of(&files);
        steps.stage_key(&new_key).unwrap();
        mend(&files).unwrap();
        steps.stage_certificate(&new).unwrap();
        mend(&files).unwrap();
        steps.publish_key().unwrap();
        mend(&files).unwrap();
        assert_eq!(fs::read_to_string(&files.certificate).unwrap(), new);
        Own::load(&files).unwrap();
    }

    #[test]
    fn leftovers_that_do_not_belong_together_are_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: dir.path().join("agents.pem"),
            key: dir.path().join("agents.key"),
        };
        let ((key, chain), (stray, _), (_, other)) = (pair(), pair(), pair());
        write(&files, &key, &chain).unwrap();
        let steps = Steps::of(&files);
        steps.stage_key(&stray).unwrap();
        steps.stage_certificate(&other).unwrap();
        heal(&files).unwrap();
        Own::load(&files).unwrap();
        assert_eq!(fs::read_to_string(&files.certificate).unwrap(), chain);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
