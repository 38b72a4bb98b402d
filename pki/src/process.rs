//! What does a process see to before it opens an HSM?
//!
//! No key in its memory may reach a core dump, and the PKCS#11 module finds the environment that the
//! configuration gives it. Modules read their environment when they are loaded, and a running process
//! cannot change its own safely: so it starts itself once more, with the environment set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Holds what a second start was for, so that there is no third for the same.
const STARTED_AGAIN: &str = "M2KEY_STARTED_AGAIN";

/// Why the environment of the module is not set.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("cannot start again with the environment of the PKCS#11 module ({0})")]
    Exec(std::io::Error),
    #[error("the environment of the PKCS#11 module does not stay set")]
    NotKept,
}

/// No core file, and no other process of this account may look inside. Call it before any key.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Returns at once if `wanted` is set already; otherwise does not return unless it fails.
pub fn ensure_environment(wanted: &BTreeMap<String, String>) -> Result<(), EnvironmentError> {
    let is_set = |(name, value): (&String, &String)| {
        std::env::var_os(name).is_some_and(|found| found.as_os_str() == value.as_str())
    };
    if wanted.iter().all(is_set) {
        return Ok(());
    }
    Err(start_again(wanted, &[]))
}

/// Starts this command again with `wanted` set and `more` after its arguments. Returns only if that
/// fails.
pub fn start_again(wanted: &BTreeMap<String, String>, more: &[OsString]) -> EnvironmentError {
    let purpose = format!("{wanted:?}");
    if std::env::var_os(STARTED_AGAIN).is_some_and(|before| before == purpose.as_str()) {
        return EnvironmentError::NotKept;
    }
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return EnvironmentError::Exec(error),
    };
    let error = Command::new(own)
        .args(std::env::args_os().skip(1))
        .args(more)
        .envs(wanted)
        .env(STARTED_AGAIN, purpose)
        .exec();
    EnvironmentError::Exec(error)
}
