//! How does the PKCS#11 module get the environment the configuration gives it?
//!
//! Modules read their environment when they are loaded, and a running process cannot change its own
//! safely. So the process starts itself once more, with the environment set.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set in the second start, so that there is no third.
const STARTED_AGAIN: &str = "M2KEY_STARTED_AGAIN";

#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("cannot start again with the environment of the PKCS#11 module ({0})")]
    Exec(std::io::Error),
    #[error("the environment of the PKCS#11 module does not stay set")]
    NotKept,
}

/// Returns at once if `wanted` is set already; otherwise does not return unless it fails.
pub fn ensure(wanted: &BTreeMap<String, String>) -> Result<(), EnvironmentError> {
    let is_set = |(name, value): (&String, &String)| {
        std::env::var_os(name).is_some_and(|found| found.as_os_str() == value.as_str())
    };
    if wanted.iter().all(is_set) {
        return Ok(());
    }
    if std::env::var_os(STARTED_AGAIN).is_some() {
        return Err(EnvironmentError::NotKept);
    }
    let own = std::env::current_exe().map_err(EnvironmentError::Exec)?;
    let error = Command::new(own)
        .args(std::env::args_os().skip(1))
        .envs(wanted)
        .env(STARTED_AGAIN, "1")
        .exec();
    Err(EnvironmentError::Exec(error))
}
