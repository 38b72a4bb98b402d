//! Where is it built, so that nothing half-made is ever found?

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::InitError;

const MARKER: &str = ".init-in-progress";
const PRIVATE_FOLDER: u32 = 0o700;
/// The two that the signer's and the authority's account each go through on the way to what is theirs:
/// nobody lists them, and what is private in them is so by its own mode.
const WAYS: [&str; 2] = ["", "signer"];
const WAY: u32 = 0o710;
const PRIVATE_FILE: u32 = 0o600;
const PUBLIC_FILE: u32 = 0o644;
/// SoftHSM's configuration of each process, and the folder of its HSM token: neither sees the other's.
const SOFTHSM: [(&str, &str); 2] = [
    ("softhsm2.conf", "hsm/tokens"),
    ("signer/softhsm2.conf", "signer/tokens"),
];

/// The folder that will be DIR, under its working name.
#[derive(Debug)]
pub struct Workplace {
    dir: PathBuf,
    partial: PathBuf,
}

impl Workplace {
    /// Refuses a folder that is in use; what an interrupted init left is removed.
    pub fn prepare(dir: &Path) -> Result<Self, InitError> {
        let place = Self::of(dir)?;
        place.refuse_what_is_in_use()?;
        if place.partial.join(MARKER).exists() {
            fs::remove_dir_all(&place.partial).map_err(InitError::io(&place.partial))?;
        }
        place.folder("")?;
        place.file(MARKER, b"made by m2key-authority init\n", PUBLIC_FILE)?;
        for folder in [
            "hsm",
            "hsm/tokens",
            "root",
            "run",
            "signer",
            "signer/tokens",
        ] {
            place.folder(folder)?;
        }
        Ok(place)
    }

    /// The one that [`prepare`](Self::prepare) made before this process started itself again.
    pub fn resume(dir: &Path) -> Result<Self, InitError> {
        let place = Self::of(dir)?;
        place.refuse_what_is_in_use()?;
        Ok(place)
    }

    fn of(dir: &Path) -> Result<Self, InitError> {
        let dir = std::path::absolute(dir).map_err(InitError::io(dir))?;
        let mut partial = dir.clone().into_os_string();
        partial.push(".partial");
        Ok(Self {
            dir,
            partial: partial.into(),
        })
    }

    fn refuse_what_is_in_use(&self) -> Result<(), InitError> {
        if self.dir.join("authority.toml").exists() {
            return Err(InitError::AlreadyThere(self.dir.clone()));
        }
        let in_use = fs::read_dir(&self.dir).is_ok_and(|mut entries| entries.next().is_some());
        if in_use {
            return Err(InitError::ForeignFolder(self.dir.clone()));
        }
        Ok(())
    }

    /// Where it will be.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it is being built.
    pub fn at(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// SoftHSM's configurations, for the time of building.
    pub fn write_softhsm_confs(&self) -> Result<(), InitError> {
        for (name, tokens) in SOFTHSM {
            self.public(name, softhsm_conf(&self.at(tokens)).as_bytes())?;
        }
        Ok(())
    }

    /// For the time of building: the authority's.
    pub fn softhsm_conf(&self) -> PathBuf {
        self.at(SOFTHSM[0].0)
    }

    /// For the time of building: the signer's.
    pub fn signer_softhsm_conf(&self) -> PathBuf {
        self.at(SOFTHSM[1].0)
    }

    pub(super) fn public(&self, name: &str, bytes: &[u8]) -> Result<(), InitError> {
        self.file(name, bytes, PUBLIC_FILE)
    }

    pub(super) fn private(&self, name: &str, bytes: &[u8]) -> Result<(), InitError> {
        self.file(name, bytes, PRIVATE_FILE)
    }

    /// Under its own name from now on. The paths inside SoftHSM's configuration follow.
    pub(super) fn finish(&self, own_softhsm: bool) -> Result<PathBuf, InitError> {
        if own_softhsm {
            for (name, tokens) in SOFTHSM {
                let conf = self.at(name);
                fs::remove_file(&conf).map_err(InitError::io(&conf))?;
                self.public(name, softhsm_conf(&self.dir.join(tokens)).as_bytes())?;
            }
        }
        let marker = self.at(MARKER);
        fs::remove_file(&marker).map_err(InitError::io(&marker))?;
        fs::rename(&self.partial, &self.dir).map_err(InitError::io(&self.dir))?;
        Ok(self.dir.clone())
    }

    /// After a failure. What cannot be removed now, the next init removes.
    pub fn discard(&self) {
        let _ = fs::remove_dir_all(&self.partial);
    }

    fn folder(&self, name: &str) -> Result<(), InitError> {
        let path = self.at(name);
        let mode = match WAYS.contains(&name) {
            true => WAY,
            false => PRIVATE_FOLDER,
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(mode);
        builder
            .create(&path)
            // Whatever the umask takes away.
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(InitError::io(&path))
    }

    fn file(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), InitError> {
        let path = self.at(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        options
            .open(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(InitError::io(&path))
    }
}

fn softhsm_conf(tokens: &Path) -> String {
    let tokens = tokens.display();
    format!(
        "directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
    )
}
