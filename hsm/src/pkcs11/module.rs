//! Who owns the PKCS#11 library of this process, and how is it started again?
//!
//! A PKCS#11 library belongs to the process: one C_Initialize serves every HSM token behind it, and
//! one C_Finalize kills every session of everybody. So a path is loaded once per process and stays;
//! requests pass a gate as readers, and whoever starts the library again closes the gate:
//!
//! ```text
//!  request ── enter() ──▶ generation 4 ── work ──▶ leave
//!  failed device, or too many destroyed objects
//!          ── restart(4) ──▶ gate closed ── C_Finalize, C_Initialize ──▶ generation 5
//!  request ── enter() ──▶ generation 5: its session is of 4, so it makes a new one
//! ```
//! Two requests that both saw generation 4 fail restart it once.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    session::UserType,
    slot::Slot,
    types::AuthPin,
};

use super::ckr::passes_by_itself;
use crate::{
    HsmError, Pin, clock,
    failure::{Class, Failure},
};

/// SoftHSM 2.6 keeps 256 bytes per destroyed session object until C_Finalize: 50 MB.
pub const RECYCLE_AFTER_DESTROYED: u64 = 200_000;
/// Attempts of a step that other starting processes can disturb.
pub(crate) const START_TRIES_MAX: u32 = 6;
/// The pause after the first such attempt, doubled by every further one.
pub(crate) const START_PAUSE_FIRST: Duration = Duration::from_millis(10);
/// PKCS#11 gives an HSM token's label 32 bytes.
pub const TOKEN_LABEL_MAX: usize = 32;

/// Which HSM token is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenName {
    pub(crate) label: String,
    /// Tells apart those with one label: a clone may have its original's.
    pub(crate) serial: Option<String>,
}

/// A PKCS#11 library, initialised. One per process and path.
pub struct Module {
    pkcs11: Pkcs11,
    path: PathBuf,
    /// How often the library was started; write-locked while it is started again.
    generation: RwLock<u64>,
    destroyed: AtomicU64,
    recycle_after: AtomicU64,
    /// Held while a key is made: its label is looked up first, then taken.
    making: Mutex<()>,
    /// Held while slots are listed or labelled: SoftHSM 2.6 changes its list while reading it.
    slots: Mutex<()>,
}

impl Module {
    /// Loads and initialises the library at `path`, or returns it if this process has it already.
    pub fn load(path: &Path) -> Result<Arc<Self>, HsmError> {
        let path = one_spelling(path);
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.iter().find(|module| module.path == path) {
            return Ok(module.clone());
        }
        let module = Arc::new(Self::start(&path)?);
        loaded.push(module.clone());
        Ok(module)
    }

    /// Makes an HSM token: labels a free slot, with a security officer's PIN and a PIN for us.
    pub fn init_token(&self, label: &str, so_pin: &Pin, user_pin: &Pin) -> Result<(), HsmError> {
        if label.is_empty() || label.len() > TOKEN_LABEL_MAX {
            return Err(HsmError::CallerFault {
                detail: format!("an HSM token's label has 1 to {TOKEN_LABEL_MAX} bytes"),
            });
        }
        let _gate = self.enter();
        let _slots = self.lock_slots();
        self.init_free_slot(label, so_pin, user_pin)
            .map_err(|failure| failure.error)
    }

    /// The labels of the HSM tokens behind this module.
    pub fn token_labels(&self) -> Result<Vec<String>, HsmError> {
        let _gate = self.enter();
        let _slots = self.lock_slots();
        let slots = patiently(|| self.look()).map_err(|error| Failure::from(error).error)?;
        Ok(slots.found.into_iter().map(|it| it.name.label).collect())
    }

    /// How often the library was started in this process.
    pub fn generation(&self) -> u64 {
        *self.enter()
    }

    /// Starts the library again after so many destroyed objects
    /// (default: [`RECYCLE_AFTER_DESTROYED`]).
    pub fn set_recycle_after(&self, destroyed: u64) {
        self.recycle_after
            .store(destroyed.max(1), Ordering::Relaxed);
    }

    /// Passes the gate: the library stays as it is while the guard lives.
    pub(crate) fn enter(&self) -> RwLockReadGuard<'_, u64> {
        self.generation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The ladder: ends and starts the library, unless somebody did so since `seen`.
    pub(crate) fn restart(&self, seen: u64) -> Result<(), Failure> {
        let mut generation = self
            .generation
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if *generation != seen {
            return Ok(());
        }
        *generation += 1;
        self.destroyed.store(0, Ordering::Relaxed);
        match self.pkcs11.clone().finalize() {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => {}
            Err(error) => tracing::warn!(%error, "C_Finalize failed; starting the module anyway"),
        }
        initialise(&self.pkcs11).map_err(Failure::from)
    }

    pub(crate) fn count_destroyed(&self) {
        self.destroyed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn recycling_is_due(&self) -> bool {
        self.destroyed.load(Ordering::Relaxed) >= self.recycle_after.load(Ordering::Relaxed)
    }

    pub(crate) fn lock_making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pkcs11(&self) -> &Pkcs11 {
        &self.pkcs11
    }

    /// The slot of the HSM token with this name. Slots move, so this is asked for every session.
    pub(crate) fn slot(&self, name: &TokenName) -> Result<Slot, Failure> {
        let _slots = self.lock_slots();
        let mut found = patiently(|| self.look_for(name))?.into_iter();
        let token = found.next().ok_or_else(|| Failure::token_unknown(name))?;
        match found.next() {
            None => Ok(token.slot),
            Some(_) => Err(Failure::new(
                Class::CallersFault,
                format!("several HSM tokens are {name}: tell them apart by their serial numbers"),
            )),
        }
    }

    fn start(path: &Path) -> Result<Self, HsmError> {
        let pkcs11 = Pkcs11::new(path).map_err(|error| HsmError::ModuleAbsent {
            path: path.display().to_string(),
            detail: error.to_string(),
        })?;
        initialise(&pkcs11).map_err(|error| Failure::from(error).error)?;
        Ok(Self {
            pkcs11,
            path: path.to_owned(),
            generation: RwLock::new(1),
            destroyed: AtomicU64::new(0),
            recycle_after: AtomicU64::new(RECYCLE_AFTER_DESTROYED),
            making: Mutex::new(()),
            slots: Mutex::new(()),
        })
    }

    fn lock_slots(&self) -> MutexGuard<'_, ()> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every HSM token with this name. What is wrong with others is no concern of its.
    fn look_for(&self, name: &TokenName) -> Result<Vec<Found>, Error> {
        let mut slots = self.look()?;
        slots.found.retain(|found| found.is(name));
        match slots.unreadable {
            Some(error) if slots.found.is_empty() => Err(error),
            _ => Ok(slots.found),
        }
    }

    fn look(&self) -> Result<Slots, Error> {
        let mut slots = Slots::default();
        for slot in self.pkcs11.get_slots_with_token()? {
            match self.pkcs11.get_token_info(slot) {
                Ok(info) if info.token_initialized() => {
                    let name = TokenName {
                        label: info.label().to_owned(),
                        serial: Some(info.serial_number().to_owned()),
                    };
                    slots.found.push(Found { slot, name });
                }
                Ok(_) => slots.free = slots.free.or(Some(slot)),
                Err(error) => slots.unreadable = Some(error),
            }
        }
        Ok(slots)
    }

    fn init_free_slot(&self, label: &str, so_pin: &Pin, user_pin: &Pin) -> Result<(), Failure> {
        let slots = patiently(|| self.look())?;
        if slots.found.iter().any(|taken| taken.name.label == label) {
            return Err(Failure::refusal(HsmError::LabelTaken {
                label: label.to_owned(),
            }));
        }
        let slot = slots.free.ok_or_else(no_free_slot)?;
        let so_pin = AuthPin::from(so_pin.expose().to_owned());
        self.pkcs11.init_token(slot, &so_pin, label)?;
        let session = patiently(|| self.pkcs11.open_rw_session(slot))?;
        patiently(|| session.login(UserType::So, Some(&so_pin)))?;
        session.init_pin(&AuthPin::from(user_pin.expose().to_owned()))?;
        session.logout()?;
        // SoftHSM adds its next free slot when slots are listed next: while nobody else lists them.
        patiently(|| self.look())?;
        Ok(())
    }
}

/// What lies behind a library.
#[derive(Default)]
struct Slots {
    found: Vec<Found>,
    /// One whose HSM token has no label yet.
    free: Option<Slot>,
    /// Why at least one of them tells nothing.
    unreadable: Option<Error>,
}

/// An HSM token in its slot, with its serial number.
struct Found {
    slot: Slot,
    name: TokenName,
}

impl Found {
    fn is(&self, wanted: &TokenName) -> bool {
        let same_serial = wanted.serial.is_none() || self.name.serial == wanted.serial;
        self.name.label == wanted.label && same_serial
    }
}

impl std::fmt::Display for TokenName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "labelled {:?}", self.label)?;
        match &self.serial {
            Some(serial) => write!(f, " with serial number {serial:?}"),
            None => Ok(()),
        }
    }
}

/// One library under two names (Debian links SoftHSM's) would be initialised twice. A bare name stays
/// as it is: the loader looks for it in the system's directories, never in the current one.
fn one_spelling(path: &Path) -> PathBuf {
    let bare = path
        .parent()
        .is_none_or(|parent| parent.as_os_str().is_empty());
    match path.canonicalize() {
        Ok(real) if !bare => real,
        _ => path.to_owned(),
    }
}

fn no_free_slot() -> Failure {
    let detail = "no free slot: make an HSM token with the maker's tool";
    Failure::new(Class::Unsupported, detail)
}

/// Repeats what another starting process can disturb, a named number of times.
pub(crate) fn patiently<T>(mut step: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut pause = START_PAUSE_FIRST;
    for _ in 1..START_TRIES_MAX {
        match step() {
            Err(error) if passes_by_itself(&error) => {
                clock::pause(pause);
                pause *= 2;
            }
            other => return other,
        }
    }
    step()
}

/// Without OS_LOCKING_OK SoftHSM crashes as soon as two threads call it.
fn initialise(pkcs11: &Pkcs11) -> Result<(), Error> {
    patiently(|| pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)))
}

/// A library is initialised per process, so this list is per process too.
static LOADED: Mutex<Vec<Arc<Module>>> = Mutex::new(Vec::new());

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::context::Function;

    fn failing(code: RvError) -> (u32, Result<(), Error>) {
        let mut calls = 0;
        let result = patiently(|| {
            calls += 1;
            Err(Error::Pkcs11(code, Function::Initialize))
        });
        (calls, result)
    }

    #[test]
    fn a_disturbed_start_is_tried_a_named_number_of_times() {
        let (calls, result) = failing(RvError::GeneralError);
        assert_eq!(calls, START_TRIES_MAX);
        assert!(result.is_err());
    }

    #[test]
    fn a_wrong_pin_is_tried_once() {
        let (calls, _) = failing(RvError::PinIncorrect);
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_disturbance_that_passes_is_not_seen() {
        let mut calls = 0;
        let result = patiently(|| {
            calls += 1;
            match calls {
                1 => Err(Error::Pkcs11(RvError::GeneralError, Function::Login)),
                _ => Ok(calls),
            }
        });
        assert_eq!(result.unwrap(), 2);
    }

    #[test]
    fn an_absent_module_is_named() {
        let error = Module::load(Path::new("/nowhere/module.so")).err().unwrap();
        assert_eq!(error.outcome(), "module-absent");
        assert!(error.to_string().contains("/nowhere/module.so"), "{error}");
    }
}
