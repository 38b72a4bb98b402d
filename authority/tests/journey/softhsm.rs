//! How does a test of this binary get real HSM tokens?
//!
//! SoftHSM reads where they lie from the environment when it starts, so such a test runs in a process of its
//! own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use hsm::{Module, Observer, OpenOptions, Pin, Pkcs11Hsm};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const SO_PIN: &str = "31415926";
const USER_PIN: &str = "271828";

/// Runs this test alone, where `SOFTHSM2_CONF` is set and no HSM token is made.
pub fn alone(test: &str) {
    let place = tempfile::tempdir().unwrap();
    let (tokens, conf) = (
        place.path().join("tokens"),
        place.path().join("softhsm2.conf"),
    );
    std::fs::create_dir(&tokens).unwrap();
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "--nocapture", test]);
    let status = alone.env("SOFTHSM2_CONF", conf).status().unwrap();
    assert!(status.success(), "{status}");
}

/// A new HSM token with this label, open.
pub fn fresh(label: &str, observer: Arc<dyn Observer>) -> Arc<Pkcs11Hsm> {
    let module = module();
    let pin = |pin: &str| Pin::new(pin.into()).unwrap();
    module
        .init_token(label, &pin(SO_PIN), &pin(USER_PIN))
        .unwrap();
    open(label, observer)
}

/// The one with this label.
pub fn open(label: &str, observer: Arc<dyn Observer>) -> Arc<Pkcs11Hsm> {
    let mut options = OpenOptions::new(label, Pin::new(USER_PIN.into()).unwrap());
    options.observer = Some(observer);
    Arc::new(Pkcs11Hsm::open(&module(), options).unwrap())
}

pub fn module() -> Arc<Module> {
    Module::load(Path::new(MODULE)).unwrap()
}

/// The folder that an HSM token lies in.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one, made before this process has started the library.
    pub fn fresh(label: &str) -> Self {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label])
            .args(["--so-pin", SO_PIN, "--pin", USER_PIN])
            .output()
            .expect("these tests need softhsm2-util: apt-get install -y softhsm2");
        assert!(made.status.success(), "{made:?}");
        let padded = format!("{label:<32}");
        let mut folders = std::fs::read_dir(tokens()).unwrap();
        let is_it = |folder: &PathBuf| {
            let about = std::fs::read(folder.join("token.object")).unwrap_or_default();
            find(&about, padded.as_bytes()).is_some()
        };
        Self(
            folders
                .find_map(|it| Some(it.unwrap().path()).filter(is_it))
                .unwrap(),
        )
    }

    /// Another one with the same PIN and keys, under a label of the same length and a serial number of its own.
    pub fn copy(&self, label: &str, copy: &str) -> Self {
        let new = Self(self.0.with_file_name(copy));
        std::fs::create_dir(&new.0).unwrap();
        new.take_objects_of(self);
        std::fs::copy(self.0.join("token.object"), new.0.join("token.object")).unwrap();
        new.rename(label, copy);
        new
    }

    /// Its keys are those of the other one from now on.
    pub fn take_objects_of(&self, other: &Self) {
        for file in std::fs::read_dir(&other.0).unwrap() {
            let file = file.unwrap();
            if file.file_name() != "token.object" {
                std::fs::copy(file.path(), self.0.join(file.file_name())).unwrap();
            }
        }
    }

    /// Moves it to where no library looks.
    pub fn take_away(&self) {
        std::fs::rename(&self.0, self.elsewhere()).unwrap();
    }

    pub fn put_back(&self) {
        std::fs::rename(self.elsewhere(), &self.0).unwrap();
    }

    /// Has the other one's name from now on, which goes away.
    pub fn take_the_place_of(&self, label: &str, other: &Self, others: &str) {
        assert_eq!(label.len(), others.len());
        other.take_away();
        self.change(label, |bytes, at| {
            bytes[at..at + others.len()].copy_from_slice(others.as_bytes());
        });
    }

    fn rename(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        self.change(from, |bytes, at| {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            // The serial number, after the label and an attribute's head; slots are numbered after it.
            bytes[at + 56..at + 72].reverse();
        });
    }

    /// Changes what SoftHSM says of it, where its label stands.
    fn change(&self, label: &str, change: impl FnOnce(&mut [u8], usize)) {
        let about = self.0.join("token.object");
        let mut bytes = std::fs::read(&about).unwrap();
        let at = find(&bytes, label.as_bytes()).unwrap();
        change(&mut bytes, at);
        std::fs::write(&about, bytes).unwrap();
    }

    fn elsewhere(&self) -> PathBuf {
        let name = self.0.file_name().unwrap();
        self.0.parent().unwrap().with_file_name(name)
    }
}

fn tokens() -> PathBuf {
    PathBuf::from(std::env::var_os("SOFTHSM2_CONF").unwrap()).with_file_name("tokens")
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|it| it == wanted)
}
