//! What does each operating system do in its own way?
//!
//! Everything unix-only is in `unix.rs`; elsewhere the directory's access list takes the place of
//! file modes, and the process is stopped from the console.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::{
    forbid_core_dumps, make_private_dir, new_private_file, open_serial, since_boot_ms,
    sync_directory_of, told_to_stop,
};

#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
pub(crate) use other::{
    forbid_core_dumps, make_private_dir, new_private_file, open_serial, since_boot_ms,
    sync_directory_of, told_to_stop,
};
