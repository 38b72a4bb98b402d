//! What does each operating system do in its own way?
//!
//! Everything unix-only is in `unix.rs`; elsewhere the directory's access list takes the place of
//! file modes, and the process is stopped from the console.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::{
    CONFIG_PATH, boot_id, card_service, forbid_core_dumps, guard, make_private_dir,
    new_private_file, open_serial, room, since_boot_ms, sync_directory_of, told_to_stop,
};

#[cfg(target_os = "linux")]
mod alarm;
#[cfg(target_os = "linux")]
pub(crate) use alarm::BootAlarm;

#[cfg(not(target_os = "linux"))]
mod no_alarm;
#[cfg(not(target_os = "linux"))]
pub(crate) use no_alarm::BootAlarm;

#[cfg(not(unix))]
mod other;
#[cfg(not(unix))]
pub(crate) use other::{
    CONFIG_PATH, boot_id, card_service, forbid_core_dumps, guard, make_private_dir,
    new_private_file, open_serial, room, since_boot_ms, sync_directory_of, told_to_stop,
};

/// What a file system has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) free_bytes: u64,
    pub(crate) is_read_only: bool,
}

/// Whose a file is, and who may open it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
}

/// Who opens the door when one knocks at the PC/SC service.
#[cfg_attr(not(unix), expect(dead_code, reason = "there is no door to knock at"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// This account may not even knock.
    Barred,
    NobodyThere,
}
