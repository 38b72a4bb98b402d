//! Where does a demo run leave what others can check?

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Failure, World};

/// Everything that runs lives here; beside it only what others check.
const HOUSE: &str = "house";
/// By these a folder is known as one of an earlier demo.
const OURS: [&str; 2] = ["summary.json", HOUSE];

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

    /// Begins afresh; a folder that holds anything but an earlier demo is left alone.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        let mut entries = fs::read_dir(&self.dir).into_iter().flatten();
        let is_ours = OURS.iter().any(|name| self.dir.join(name).exists());
        if entries.next().is_some() && !is_ours {
            let dir = self.dir.display();
            return Err(Failure::new(format!(
                "{dir} holds something that is not of this demo: give another --dir"
            )));
        }
        if is_ours {
            fs::remove_dir_all(&self.dir)?;
        }
        Ok(fs::create_dir_all(self.house())?)
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
