//! How does a test get a real HSM token of its own?
//!
//! SoftHSM reads `SOFTHSM2_CONF` when the library starts, so a test binary has one directory, made
//! before anything touches the library, and every test makes its own HSM token in it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use cryptoki::{context::Pkcs11, slot::Slot};
use hsm::{HsmError, Module, OpenOptions, Pin, Pkcs11Hsm};

pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const USER_PIN: &str = "271828";
pub(crate) const SO_PIN: &str = "31415926";

/// The SoftHSM of this test binary.
pub(crate) fn module() -> Arc<Module> {
    static SET_UP: OnceLock<PathBuf> = OnceLock::new();
    SET_UP.get_or_init(|| {
        assert!(
            Path::new(MODULE).exists(),
            "this test runs on a real module: apt-get install -y softhsm2"
        );
        configure()
    });
    Module::load(Path::new(MODULE)).expect("SoftHSM starts")
}

/// The SoftHSM of the test process that started this one.
pub(crate) fn shared_module() -> Arc<Module> {
    assert!(std::env::var_os("SOFTHSM2_CONF").is_some());
    Module::load(Path::new(MODULE)).expect("SoftHSM starts")
}

/// A new HSM token with this label, open.
pub(crate) fn open(label: &str) -> Pkcs11Hsm {
    open_with(label, |_| {})
}

/// Held by whoever lists or labels slots: SoftHSM 2.6 changes its list while reading it. [`Module`]
/// does so for itself, but not for the raw calls of tests beside it.
pub(crate) fn slots() -> MutexGuard<'static, ()> {
    static SLOTS: Mutex<()> = Mutex::new(());
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slot of the HSM token with this label, found by plain PKCS#11.
pub(crate) fn raw_slot(label: &str) -> Slot {
    let _slots = slots();
    let pkcs11 = Pkcs11::new(MODULE).unwrap();
    let slots = pkcs11.get_slots_with_token().unwrap();
    let is_it = |slot: &Slot| {
        pkcs11
            .get_token_info(*slot)
            .is_ok_and(|it| it.label() == label)
    };
    slots.into_iter().find(is_it).unwrap()
}

pub(crate) fn try_open(options: OpenOptions) -> Result<Pkcs11Hsm, HsmError> {
    let module = module();
    let _slots = slots();
    Pkcs11Hsm::open(&module, options)
}

pub(crate) fn open_with(label: &str, change: impl FnOnce(&mut OpenOptions)) -> Pkcs11Hsm {
    new_token(label);
    let mut options = options(label);
    change(&mut options);
    try_open(options).expect("the HSM token opens")
}

pub(crate) fn options(label: &str) -> OpenOptions {
    let mut options = OpenOptions::new(label, pin(USER_PIN));
    options.deadline = Duration::from_secs(60);
    options
}

pub(crate) fn new_token(label: &str) {
    let module = module();
    let _slots = slots();
    module
        .init_token(label, &pin(SO_PIN), &pin(USER_PIN))
        .expect("a new HSM token");
}

pub(crate) fn pin(pin: &str) -> Pin {
    Pin::new(pin.into()).expect("a PIN within its limits")
}

/// One directory per test process, below the build directory, where `cargo clean` finds it.
fn configure() -> PathBuf {
    let directory = tempfile::Builder::new()
        .prefix("softhsm-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap()
        .keep();
    let tokens = directory.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let configuration = directory.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    std::fs::write(&configuration, text).unwrap();
    set_variable("SOFTHSM2_CONF", &configuration);
    directory
}

fn set_variable(name: &str, value: &Path) {
    // SAFETY: runs once, before any test of this binary calls into the library, which is the only
    // reader of this variable; the Rust side takes the standard library's own lock.
    #[allow(unsafe_code)]
    #[expect(clippy::disallowed_methods, reason = "SoftHSM reads nothing else")]
    unsafe {
        std::env::set_var(name, value);
    }
}

/// An HSM token with the keys of another one, under a label of the same length: what a maker's tool does,
/// done to SoftHSM's files. The library sees it once it is started again.
pub(crate) fn clone_token(label: &str, copy: &str) -> Clone {
    assert_eq!(label.len(), copy.len());
    let original = token_directory(label);
    let directory = original.with_file_name(copy);
    std::fs::create_dir(&directory).unwrap();
    for file in std::fs::read_dir(&original).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    let clone = Clone { directory };
    clone.change(label, |bytes, at| {
        bytes[at..at + copy.len()].copy_from_slice(copy.as_bytes());
        // The serial number, 32 bytes of label and an attribute's head later; slots are numbered after it.
        let serial = at + 32 + 24;
        bytes[serial..serial + 16].reverse();
    });
    clone
}

/// The serial numbers of the HSM tokens with this label.
pub(crate) fn serials(label: &str) -> Vec<String> {
    let _slots = slots();
    let pkcs11 = Pkcs11::new(MODULE).unwrap();
    let slots = pkcs11.get_slots_with_token().unwrap().into_iter();
    let found = slots.filter_map(|it| pkcs11.get_token_info(it).ok());
    let found = found.filter(|it| it.label() == label);
    found.map(|it| it.serial_number().to_owned()).collect()
}

/// The directory of a cloned HSM token, which can be taken away and put back.
pub(crate) struct Clone {
    directory: PathBuf,
}

impl Clone {
    pub(crate) fn take_away(&self) {
        std::fs::rename(&self.directory, self.elsewhere()).unwrap();
    }

    pub(crate) fn put_back(&self) {
        std::fs::rename(self.elsewhere(), &self.directory).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        self.change(from, |bytes, at| {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        });
    }

    /// Changes what SoftHSM says of it, where its label stands.
    fn change(&self, label: &str, change: impl FnOnce(&mut [u8], usize)) {
        let about = self.directory.join("token.object");
        let mut bytes = std::fs::read(&about).unwrap();
        let at = find(&bytes, label.as_bytes()).unwrap();
        change(&mut bytes, at);
        std::fs::write(&about, bytes).unwrap();
    }

    fn elsewhere(&self) -> PathBuf {
        let name = self.directory.file_name().unwrap();
        self.directory.parent().unwrap().with_file_name(name)
    }
}

fn token_directory(label: &str) -> PathBuf {
    let tokens = PathBuf::from(std::env::var_os("SOFTHSM2_CONF").unwrap()).with_file_name("tokens");
    let padded = format!("{label:<32}");
    let directories = std::fs::read_dir(tokens).unwrap();
    let mut directories = directories.map(|it| it.unwrap().path());
    let is_it = |directory: &PathBuf| {
        let about = std::fs::read(directory.join("token.object")).unwrap_or_default();
        find(&about, padded.as_bytes()).is_some()
    };
    directories.find(is_it).unwrap()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|it| it == wanted)
}
