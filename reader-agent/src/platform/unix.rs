//! How does unix count time asleep, keep files private and stop a daemon?

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::termios::{ControlModes, OptionalActions, ioctl_tiocexcl, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use super::{Door, Guard, Room};

/// Where a packaged agent is enrolled.
pub(crate) const CONFIG_PATH: &str = "/var/lib/m2key-agent/agent.toml";
/// Where pcscd listens, as libpcsclite finds it.
const PCSCD_SOCKET: &str = "/run/pcscd/pcscd.comm";
const PCSCD_SOCKET_VARIABLE: &str = "PCSCLITE_CSOCK_NAME";

/// Milliseconds since this machine started, time asleep included (CLOCK_BOOTTIME, to 10 ms).
///
/// Read from `/proc/uptime`, because reading that clock itself takes unsafe code. None where there
/// is no such file.
pub(crate) fn since_boot_ms() -> Option<i64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    parse_uptime(&text)
}

/// Which start of this machine it is; none where nobody says.
pub(crate) fn boot_id() -> Option<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    uuid::Uuid::parse_str(text.trim())
        .ok()
        .map(|id| id.as_u128())
}

fn parse_uptime(text: &str) -> Option<i64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    if hundredths.len() != 2 {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    Some(seconds * 1000 + hundredths.parse::<i64>().ok()? * 10)
}

/// No core file, and no other process of this account may look inside: epoch keys lie in memory.
pub(crate) fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// A directory that only its owner can enter; fine if it is there and is so already.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return DirBuilder::new().recursive(true).mode(0o700).create(path);
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Opens a file of mode 0600 for writing that was not there before.
pub(crate) fn new_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes a name in a directory (new, changed or gone) survive a power cut.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens a serial port for bytes as they are: 8 bits, no parity, no flow control, and for us alone.
/// Neither reading nor writing waits.
pub(crate) fn open_serial(path: &Path, baud: u32) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let port = rustix::fs::open(path, flags, Mode::empty())?;
    let mut settings = tcgetattr(&port)?;
    settings.make_raw();
    settings.set_speed(baud)?;
    settings
        .control_modes
        .insert(ControlModes::CLOCAL | ControlModes::CREAD);
    settings
        .control_modes
        .remove(ControlModes::CRTSCTS | ControlModes::CSTOPB);
    tcsetattr(&port, OptionalActions::Now, &settings)?;
    ioctl_tiocexcl(&port)?;
    Ok(port.into())
}

pub(crate) fn room(path: &Path) -> io::Result<Option<Room>> {
    let found = rustix::fs::statvfs(path)?;
    Ok(Some(Room {
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        is_read_only: found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    }))
}

pub(crate) fn guard(path: &Path) -> io::Result<Option<Guard>> {
    let found = fs::metadata(path)?;
    Ok(Some(Guard {
        mode: found.mode(),
        uid: found.uid(),
    }))
}

/// Knocks at pcscd's socket; under systemd that starts it.
pub(crate) fn card_service() -> Option<Door> {
    let path = std::env::var_os(PCSCD_SOCKET_VARIABLE).unwrap_or_else(|| PCSCD_SOCKET.into());
    Some(match UnixStream::connect(path) {
        Ok(_) => Door::Open,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Door::Barred,
        Err(_) => Door::NobodyThere,
    })
}

/// Returns when the process is told to stop: SIGTERM from a service manager, SIGINT from a person.
pub(crate) async fn told_to_stop() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_read_to_a_hundredth_and_nonsense_is_not() {
        assert_eq!(parse_uptime("357.25 1021.07\n"), Some(357_250));
        for bad in ["", "357", "a.bc 1", "1.2.3", "357.2 1"] {
            assert_eq!(parse_uptime(bad), None, "{bad}");
        }
    }
}
