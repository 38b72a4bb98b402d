//! How does a benchmark make an authority, and measure where SoftHSM finds it?
//!
//! The process starts itself: once as `m2key-authority init`, then with the environment that SoftHSM reads.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the process is started for; none: by whoever wants the numbers.
const ROLE: &str = "M2KEY_BENCH_ROLE";
const DIR: &str = "M2KEY_BENCH_DIR";
const INIT: &str = "init";
/// Where the token directory of SoftHSM is said; its library reads nothing else.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";
/// The same of an authority that [`make`] made.
const CONF: &str = "softhsm2.conf";

pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Does what the process was started for.
pub(crate) fn run(does: impl FnOnce(Option<&str>) -> Result<(), Fault>) -> ExitCode {
    let role = std::env::var(ROLE).ok();
    if role.as_deref() == Some(INIT) {
        return init();
    }
    match does(role.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn init() -> ExitCode {
    match authority::cli::run(&authority::cli::Arguments::read()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.tell(),
    }
}

/// The authority that this process is started for.
pub(crate) fn home() -> Result<PathBuf, Fault> {
    Ok(PathBuf::from(std::env::var(DIR)?))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.enable_all().build()?)
}

/// An authority in an empty directory, with an HSM token of its own.
pub(crate) fn make(home: &Path) -> Result<(), Fault> {
    let mut made = Command::new(std::env::current_exe()?);
    made.env(ROLE, INIT);
    made.args(["init", "--non-interactive", "--link-host", "localhost"]);
    succeeds(made.arg("--dir").arg(home))
}

/// This program once more, in another role, at an authority with the HSM token of `made`.
pub(crate) fn again(role: &str, home: &Path, made: &Path) -> Result<Command, Fault> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, role).env(DIR, home);
    command.env(SOFTHSM2_CONF, made.join(CONF));
    Ok(command)
}

/// Makes an authority, and measures there in this role, in sight of whoever asked.
pub(crate) fn measure(role: &str) -> Result<(), Fault> {
    let place = tempfile::tempdir()?;
    let home = place.path().join("authority");
    make(&home)?;
    match again(role, &home, &home)?.status()?.success() {
        true => Ok(()),
        false => Err("the measurement failed".into()),
    }
}

/// Runs to its end; what it says when it fails is the fault.
pub(crate) fn succeeds(command: &mut Command) -> Result<(), Fault> {
    let ran = command.output()?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&ran.stderr).into()),
    }
}
