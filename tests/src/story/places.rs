//! Where does a demo run leave what others can check?

use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use crate::{Failure, World};

/// Everything that runs lives here; beside it only what others check.
const HOUSE: &str = "house";
/// Made by a demo in its own house, and by nobody else: what is removed is known by this alone.
const MARKER: &str = ".made-by-m2key-demo";
const MARKER_TEXT: &str = "m2key-demo made this folder and removes it at its next run.\n";
/// Every name that a demo may leave; only these are ever removed.
const LEFT: [&str; 11] = [
    HOUSE,
    "agent.pem",
    "issuing.pem",
    "jwks.json",
    "pin",
    "receipt.jws",
    "root.pem",
    "schedule.jws",
    "softhsm2.conf",
    "summary.json",
    "tag.bin",
];

/// The folder of one demo.
pub struct Places {
    dir: PathBuf,
}

impl Places {
    /// `dir`, absolute, so that what is written into files can be found from anywhere.
    pub fn at(dir: &Path) -> Result<Self, Failure> {
        Ok(Self {
            dir: std::path::absolute(dir)?,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn house(&self) -> PathBuf {
        self.dir.join(HOUSE)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Begins afresh. A folder that holds anything but an earlier demo is refused, and nothing in it
    /// is touched.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.dir)?;
        let names = self.names()?;
        if !names.is_empty() && !self.is_of_a_demo(&names) {
            let dir = self.dir.display();
            return Err(Failure::new(format!(
                "{dir} holds something that is not of this demo: give another --dir"
            )));
        }
        for name in &names {
            self.remove(name)?;
        }
        fs::create_dir(self.house())?;
        Ok(fs::write(self.house().join(MARKER), MARKER_TEXT)?)
    }

    fn names(&self) -> Result<Vec<OsString>, Failure> {
        let name = |entry: io::Result<DirEntry>| Ok(entry?.file_name());
        fs::read_dir(&self.dir)?.map(name).collect()
    }

    /// Both: the marker of a demo, and not one name that a demo does not leave.
    fn is_of_a_demo(&self, names: &[OsString]) -> bool {
        let marker = fs::read_to_string(self.house().join(MARKER));
        let known = |name: &OsString| LEFT.iter().any(|left| name == left);
        marker.is_ok_and(|text| text == MARKER_TEXT) && names.iter().all(known)
    }

    fn remove(&self, name: &OsString) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let removed = match name == HOUSE {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        removed.map_err(Failure::of(path.display()))
    }

    /// Certificates, the HSM token's configuration and its PIN.
    pub(super) fn keep_identities(&self, world: &World) -> Result<(), Failure> {
        let authority = &world.authority;
        let copies = [
            (authority.root(), "root.pem"),
            (authority.file("issuing.pem"), "issuing.pem"),
            (world.terminal().file("agent.pem"), "agent.pem"),
            (authority.file("softhsm2.conf"), "softhsm2.conf"),
            (authority.file("hsm/authority.pin"), "pin"),
        ];
        for (from, name) in copies {
            fs::copy(&from, self.file(name)).map_err(Failure::of(from.display()))?;
        }
        Ok(())
    }

    /// One file of its own bytes.
    pub(super) fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        Ok(fs::write(self.file(name), bytes)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tempfile::TempDir;

    fn places(dir: &TempDir) -> Places {
        Places::at(dir.path()).unwrap()
    }

    #[test]
    fn a_demo_begins_afresh_where_an_earlier_one_was() {
        let dir = TempDir::new().unwrap();
        places(&dir).clear().unwrap();
        places(&dir).keep("summary.json", b"{}").unwrap();
        fs::write(places(&dir).house().join("log"), "old").unwrap();
        places(&dir).clear().unwrap();
        assert!(!places(&dir).file("summary.json").exists());
        assert!(!places(&dir).house().join("log").exists());
    }

    #[test]
    fn a_folder_whose_names_only_look_like_a_demos_is_refused_and_left_as_it_is() {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("house")).unwrap();
        for name in ["house/work.rs", "summary.json"] {
            fs::write(dir.path().join(name), "mine").unwrap();
        }
        assert!(places(&dir).clear().is_err());
        for name in ["house/work.rs", "summary.json"] {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "mine");
        }
    }

    #[test]
    fn one_foreign_file_beside_an_earlier_demo_saves_all_of_it() {
        let dir = TempDir::new().unwrap();
        places(&dir).clear().unwrap();
        places(&dir).keep("tag.bin", b"tag").unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        assert!(places(&dir).clear().is_err());
        assert!(dir.path().join("notes.txt").exists());
        assert!(places(&dir).file("tag.bin").exists());
    }
}
