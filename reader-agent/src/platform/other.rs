//! What stands in where there is no unix?

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use super::{Door, Guard, Room};

/// Where the service is enrolled.
pub(crate) const CONFIG_PATH: &str = r"C:\ProgramData\m2key-agent\agent.toml";

/// The standard clock counts time asleep here; see `clock.rs`.
pub(crate) fn since_boot_ms() -> Option<i64> {
    None
}

/// Nothing counts from the start of the machine here.
pub(crate) fn boot_id() -> Option<u128> {
    None
}

/// Crash reports are the system's own matter here.
pub(crate) fn forbid_core_dumps() -> io::Result<()> {
    Ok(())
}

pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

pub(crate) fn new_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// A directory cannot be opened like a file here; the file system keeps its names by itself.
pub(crate) fn sync_directory_of(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Customer displays are driven on unix only, so far.
pub(crate) fn open_serial(_: &Path, _: u32) -> io::Result<File> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Not asked here.
pub(crate) fn room(_: &Path) -> io::Result<Option<Room>> {
    Ok(None)
}

/// Access lists say who may open a file here; only that it is there is looked at.
pub(crate) fn guard(path: &Path) -> io::Result<Option<Guard>> {
    fs::metadata(path).map(|_| None)
}

/// It has no door that could be knocked at.
pub(crate) fn card_service() -> Option<Door> {
    None
}

pub(crate) async fn told_to_stop() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}
