//! How does a PIN get in without getting out?
//!
//! From a file that only its owner may read, into a value that prints as dots and is wiped.

use std::{fmt, io::Read, path::Path};

use zeroize::Zeroizing;

use crate::HsmError;

/// Shortest PIN accepted, in bytes.
pub const PIN_LEN_MIN: usize = 4;
/// Longest PIN accepted, in bytes.
pub const PIN_LEN_MAX: usize = 64;

/// Where systemd puts the credentials of a service (`LoadCredential=`).
#[cfg(unix)]
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The PIN of an HSM token, or of its security officer.
#[derive(Clone)]
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// Takes a PIN that is in memory already; a trailing line end is dropped.
    pub fn new(pin: String) -> Result<Self, HsmError> {
        let pin = Zeroizing::new(pin);
        let trimmed = pin.trim_end_matches(['\r', '\n']);
        if !(PIN_LEN_MIN..=PIN_LEN_MAX).contains(&trimmed.len()) {
            return Err(refuse(format!(
                "a PIN has {PIN_LEN_MIN} to {PIN_LEN_MAX} bytes"
            )));
        }
        Ok(Self(Zeroizing::new(trimmed.to_owned())))
    }

    /// Reads a PIN from a file that neither group nor others may read.
    pub fn from_file(path: &Path) -> Result<Self, HsmError> {
        let say = |error: std::io::Error| refuse(format!("PIN file {}: {error}", path.display()));
        let file = std::fs::File::open(path).map_err(say)?;
        refuse_if_others_may_read(&file, path)?;
        let mut pin = Zeroizing::new(String::with_capacity(PIN_LEN_MAX + 3));
        file.take(PIN_LEN_MAX as u64 + 3)
            .read_to_string(&mut pin)
            .map_err(say)?;
        Self::new(std::mem::take(&mut *pin))
            .map_err(|error| refuse(format!("PIN file {}: {error}", path.display())))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// Which bits of its mode a PIN file may not have.
///
/// systemd lets one account read a credential by an access list, which shows as the group's bit (0440); the
/// directory around it is that account's alone.
#[cfg(unix)]
fn forbidden(path: &Path, credentials: Option<&Path>) -> u32 {
    const GROUP_AND_OTHERS: u32 = 0o077;
    const ALL_BUT_THE_GROUPS_READING: u32 = 0o037;

    match credentials {
        Some(directory) if path.parent() == Some(directory) => ALL_BUT_THE_GROUPS_READING,
        _ => GROUP_AND_OTHERS,
    }
}

#[cfg(unix)]
fn refuse_if_others_may_read(file: &std::fs::File, path: &Path) -> Result<(), HsmError> {
    use std::os::unix::fs::PermissionsExt;

    let credentials = std::env::var_os(CREDENTIALS_DIRECTORY).map(std::path::PathBuf::from);
    let metadata = file
        .metadata()
        .map_err(|error| refuse(format!("PIN file {}: {error}", path.display())))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & forbidden(path, credentials.as_deref()) != 0 {
        let path = path.display();
        return Err(refuse(format!(
            "PIN file {path} has mode {mode:03o}, so others can read it: chmod 600 {path}"
        )));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_if_others_may_read(_: &std::fs::File, _: &Path) -> Result<(), HsmError> {
    Ok(())
}

fn refuse(detail: String) -> HsmError {
    HsmError::CallerFault { detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_prints_as_dots() {
        let pin = Pin::new("314159".into()).unwrap();
        assert_eq!(format!("{pin:?}"), "Pin(..)");
    }

    #[test]
    fn a_line_end_is_not_part_of_the_pin() {
        assert_eq!(Pin::new("314159\r\n".into()).unwrap().expose(), "314159");
    }

    #[test]
    fn a_pin_outside_its_limits_is_refused_and_not_repeated() {
        for bad in ["", "123", &"9".repeat(PIN_LEN_MAX + 1)] {
            let error = Pin::new(bad.into()).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_helps() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        std::fs::write(&path, "314159\n").unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Pin::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Pin::from_file(&path).unwrap().expose(), "314159");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Pin::from_file(Path::new("/nowhere/pin")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/pin"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn only_a_credential_of_this_service_may_show_the_groups_bit() {
        let credentials = Some(Path::new("/run/credentials/a.service"));
        let allows = |path: &str, mode| forbidden(Path::new(path), credentials) & mode == 0;
        assert!(allows("/run/credentials/a.service/pin", 0o440));
        assert!(!allows("/run/credentials/a.service/pin", 0o444));
        assert!(!allows("/run/credentials/a.service/pin", 0o460));
        for elsewhere in [
            "/etc/pin",
            "/run/credentials/b.service/pin",
            "/run/credentials/a.service/../../../etc/pin",
        ] {
            assert!(!allows(elsewhere, 0o440), "{elsewhere}");
        }
        assert_ne!(forbidden(Path::new("/etc/pin"), None) & 0o440, 0);
    }
}
