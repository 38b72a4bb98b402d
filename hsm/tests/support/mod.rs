//! How does a test get a real HSM token of its own, on either of two modules?
//!
//! Both read where their HSM tokens lie from a file that the environment names when the library starts, so a
//! test binary has one directory, made before anything touches a library, and every test makes its own
//! HSM token in it. What must hold on both is a function of a [`Maker`], and [`on_both`] makes tests of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use cryptoki::{
    context::Pkcs11,
    object::{Attribute, KeyType, ObjectClass},
    session::UserType,
    slot::Slot,
    types::AuthPin,
};
use hsm::{HsmError, Module, OpenOptions, Pin, Pkcs11Hsm};

pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// HSM tokens that one test binary may make on Kryoptic, which wants its slots told.
const KRYOPTIC_SLOTS: usize = 32;

/// Whose module it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    SoftHsm,
    /// Another implementation by other people, in Rust: `tests/kryoptic`.
    Kryoptic,
}

impl Maker {
    pub(crate) fn path(self) -> PathBuf {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kryoptic");
        match self {
            Self::SoftHsm => MODULE.into(),
            Self::Kryoptic => built.join("release/libkryoptic_pkcs11.so"),
        }
    }

    fn how_to_get(self) -> &'static str {
        match self {
            Self::SoftHsm => "apt-get install -y softhsm2",
            Self::Kryoptic => "scripts/setup.sh test",
        }
    }

    /// The module, in the configuration of this test binary.
    pub(crate) fn module(self) -> Arc<Module> {
        static SET_UP: OnceLock<PathBuf> = OnceLock::new();
        SET_UP.get_or_init(configure);
        let (path, how) = (self.path(), self.how_to_get());
        assert!(path.exists(), "this test runs on a real module: {how}");
        Module::load(&path).expect("the module starts")
    }

    pub(crate) fn new_token(self, label: &str) {
        let module = self.module();
        let _slots = slots();
        module
            .init_token(label, &pin(SO_PIN), &pin(USER_PIN))
            .expect("a new HSM token");
    }

    /// A new HSM token with this label, open.
    pub(crate) fn open(self, label: &str) -> Pkcs11Hsm {
        self.open_with(label, |_| {})
    }

    pub(crate) fn open_with(self, label: &str, change: impl FnOnce(&mut OpenOptions)) -> Pkcs11Hsm {
        self.new_token(label);
        let mut options = options(label);
        change(&mut options);
        self.try_open(options).expect("the HSM token opens")
    }

    pub(crate) fn try_open(self, options: OpenOptions) -> Result<Pkcs11Hsm, HsmError> {
        let module = self.module();
        let _slots = slots();
        Pkcs11Hsm::open(&module, options)
    }

    /// Puts a key in whose value is known, with plain PKCS#11, as nobody but a test does.
    pub(crate) fn put_in_cmac_key(self, token: &str, label: &str, value: Vec<u8>) {
        let slot = self.raw_slot(token);
        let session = self.raw().open_rw_session(slot).unwrap();
        // Logged in by the worker of the same process, perhaps.
        let _ = session.login(UserType::User, Some(&AuthPin::from(USER_PIN.to_owned())));
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Label(label.into()),
            Attribute::Sign(true),
            Attribute::Wrap(false),
            Attribute::Value(value),
        ];
        session.create_object(&template).unwrap();
    }

    /// Somebody else in this process who uses the library without knowing of us.
    pub(crate) fn raw(self) -> Pkcs11 {
        Pkcs11::new(self.path()).unwrap()
    }

    /// The slot of the HSM token with this label, found by plain PKCS#11.
    pub(crate) fn raw_slot(self, label: &str) -> Slot {
        let _slots = slots();
        let pkcs11 = self.raw();
        let slots = pkcs11.get_slots_with_token().unwrap();
        let is_it = |slot: &Slot| {
            let info = pkcs11.get_token_info(*slot);
            info.is_ok_and(|it| it.label() == label)
        };
        slots.into_iter().find(is_it).unwrap()
    }
}

/// Makes of every fact a test on either module.
#[macro_export]
macro_rules! on_both {
    ($($fact:ident)*) => {
        mod softhsm {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(super::support::Maker::SoftHsm).await;
            })*
        }
        mod kryoptic {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(super::support::Maker::Kryoptic).await;
            })*
        }
    };
}
pub(crate) const USER_PIN: &str = "271828";
pub(crate) const SO_PIN: &str = "31415926";

/// The SoftHSM of this test binary.
pub(crate) fn module() -> Arc<Module> {
    Maker::SoftHsm.module()
}

/// The SoftHSM of the test process that started this one.
pub(crate) fn shared_module() -> Arc<Module> {
    assert!(std::env::var_os("SOFTHSM2_CONF").is_some());
    Module::load(Path::new(MODULE)).expect("SoftHSM starts")
}

/// A new HSM token of SoftHSM with this label, open.
pub(crate) fn open(label: &str) -> Pkcs11Hsm {
    Maker::SoftHsm.open(label)
}

/// Held by whoever lists or labels slots: SoftHSM 2.6 changes its list while reading it. [`Module`]
/// does so for itself, but not for the raw calls of tests beside it.
pub(crate) fn slots() -> MutexGuard<'static, ()> {
    static SLOTS: Mutex<()> = Mutex::new(());
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn try_open(options: OpenOptions) -> Result<Pkcs11Hsm, HsmError> {
    Maker::SoftHsm.try_open(options)
}

pub(crate) fn open_with(label: &str, change: impl FnOnce(&mut OpenOptions)) -> Pkcs11Hsm {
    Maker::SoftHsm.open_with(label, change)
}

pub(crate) fn options(label: &str) -> OpenOptions {
    let mut options = OpenOptions::new(label, pin(USER_PIN));
    options.deadline = Duration::from_secs(60);
    options
}

pub(crate) fn new_token(label: &str) {
    Maker::SoftHsm.new_token(label);
}

pub(crate) fn pin(pin: &str) -> Pin {
    Pin::new(pin.into()).expect("a PIN within its limits")
}

/// Set in the process that has one test to itself: starting the library again ends the raw sessions
/// of every test beside it.
pub(crate) const ALONE: &str = "M2KEY_HSM_TEST_ALONE";
/// Its value in a process that shares the HSM token of the one that started it.
pub(crate) const SIDE: &str = "side";

pub(crate) fn run_alone_on(maker: Maker, test: &str) {
    match maker {
        Maker::SoftHsm => run_alone(&format!("softhsm::{test}")),
        Maker::Kryoptic => run_alone(&format!("kryoptic::{test}")),
    }
}

pub(crate) fn run_alone(test: &str) {
    let status = start(test, "1").wait().unwrap();
    assert!(status.success(), "{test} failed alone");
}

pub(crate) fn start(test: &str, alone: &str) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(ALONE, alone)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// C_CloseAllSessions, which cryptoki does not offer.
pub(crate) fn close_all_sessions(maker: Maker, token: &str) {
    let id = maker.raw_slot(token).id();
    let mut functions = std::ptr::null_mut();
    // SAFETY: the library is loaded and initialised already; these are plain calls of its C interface, whose
    // list of functions lives as long as it does, with a slot number that it gave out a moment ago.
    #[allow(unsafe_code)]
    let code = unsafe {
        let library = cryptoki_sys::Pkcs11::new(maker.path()).unwrap();
        assert_eq!(
            library.C_GetFunctionList(&mut functions),
            cryptoki_sys::CKR_OK
        );
        let close = (*functions).C_CloseAllSessions.unwrap();
        close(id)
    };
    assert_eq!(code, cryptoki_sys::CKR_OK);
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
    let configuration = directory.join("kryoptic.conf");
    std::fs::write(&configuration, kryoptic(&directory)).unwrap();
    set_variable("KRYOPTIC_CONF", &configuration);
    directory
}

fn kryoptic(directory: &Path) -> String {
    let slot = |n| {
        let file = directory.join(format!("kryoptic-{n}.sql"));
        let file = file.display();
        format!("[[slots]]\nslot = {n}\ndbtype = \"sqlite\"\ndbargs = \"{file}\"\n")
    };
    (0..KRYOPTIC_SLOTS).map(slot).collect()
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

/// The directory of an HSM token of SoftHSM.
pub(crate) fn folder(label: &str) -> Clone {
    let directory = token_directory(label);
    Clone { directory }
}

/// The files of an HSM token of SoftHSM.
pub(crate) fn files(label: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(token_directory(label)).unwrap();
    let files = files.map(|it| it.unwrap().path());
    files
        .filter(|it| it.extension().is_some_and(|it| it == "object"))
        .collect()
}

/// Whether these words stand in the file.
pub(crate) fn mentions(file: &Path, words: &str) -> bool {
    find(&std::fs::read(file).unwrap(), words.as_bytes()).is_some()
}

pub(crate) fn token_directory(label: &str) -> PathBuf {
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
