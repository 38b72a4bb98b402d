//! How does a test hold the other end of a serial line or of a terminal window?
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The end that is not under test; dropped, the line is cut.
pub(crate) struct Pty {
    master: File,
    from: pipe::Receiver,
    pub(crate) path: PathBuf,
}

impl Pty {
    pub(crate) fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        fcntl_setfl(&master, OFlags::NONBLOCK).unwrap();
        let master = File::from(master);
        let path = ptsname(&master, Vec::new()).unwrap();
        Self {
            path: PathBuf::from(path.into_string().unwrap()),
            from: pipe::Receiver::from_file_unchecked(master.try_clone().unwrap()).unwrap(),
            master,
        }
    }

    /// Gives the port a name of its own, as udev does.
    pub(crate) fn plug_in(&self, name: &Path) {
        let _ = std::fs::remove_file(name);
        symlink(&self.path, name).unwrap();
    }

    /// What the other side wrote; an error when it has closed.
    pub(crate) async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4096];
        let read = self.from.read(&mut bytes).await?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Types.
    pub(crate) fn write(&self, bytes: &[u8]) {
        (&self.master).write_all(bytes).unwrap();
    }

    pub(crate) fn master(&self) -> &File {
        &self.master
    }
}
