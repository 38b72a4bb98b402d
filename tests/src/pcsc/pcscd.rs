//! How does a test get a pcscd of its own?
//!
//! By socket activation: the socket lies in the test's directory, and clients find it by
//! `PCSCLITE_CSOCK_NAME`. libpcsclite reads that variable once per process, so the code under test
//! runs in a process of its own (`Probe`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PCSCD: &str = "/usr/sbin/pcscd";
/// Compiled into pcscd, for its pid file.
const RUN_DIRECTORY: &str = "/run/pcscd";
const VIRTUAL_READER: &str = "libm2key_virtual_reader.so";

/// systemd's protocol wants the listener as descriptor 3 and the pid of the process that gets it;
/// a shell can do both and leaves nothing behind.
const ACTIVATE: &str = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" --foreground --info --config "$1""#;

/// One reader in pcscd's configuration.
#[derive(Clone, Debug)]
pub struct ReaderEntry {
    name: String,
    device: String,
    library: PathBuf,
}

impl ReaderEntry {
    /// A reader served by `VirtualReader` on this socket.
    pub fn virtual_reader(name: &str, socket: &Path) -> ReaderEntry {
        ReaderEntry {
            name: name.to_owned(),
            device: socket.display().to_string(),
            library: built_library(),
        }
    }

    /// A reader of any serial driver.
    pub fn other(name: &str, device: &str, library: &Path) -> ReaderEntry {
        ReaderEntry {
            name: name.to_owned(),
            device: device.to_owned(),
            library: library.to_owned(),
        }
    }

    fn text(&self) -> String {
        format!(
            "FRIENDLYNAME \"{}\"\nDEVICENAME {}\nLIBPATH {}\nCHANNELID 0\n\n",
            self.name,
            self.device,
            self.library.display()
        )
    }
}

/// A private pcscd; it ends with this value.
pub struct Pcscd {
    dir: PathBuf,
    child: Option<Child>,
}

impl Pcscd {
    /// Prepares one in `dir`; `start` lets it run.
    pub fn configure(dir: &Path, readers: &[ReaderEntry]) -> io::Result<Pcscd> {
        assert!(
            Path::new(PCSCD).exists(),
            "pcscd is missing: apt-get install -y pcscd"
        );
        fs::create_dir_all(RUN_DIRECTORY).map_err(|error| {
            let hint = format!("{RUN_DIRECTORY}: {error}; make it once as root, mode 1777");
            io::Error::new(error.kind(), hint)
        })?;
        let config = dir.join("reader.conf.d");
        fs::create_dir_all(&config)?;
        let text: String = readers.iter().map(ReaderEntry::text).collect();
        fs::write(config.join("readers"), text)?;
        Ok(Pcscd {
            dir: dir.to_owned(),
            child: None,
        })
    }

    /// Configures and starts one.
    pub fn launch(dir: &Path, readers: &[ReaderEntry]) -> io::Result<Pcscd> {
        let mut pcscd = Pcscd::configure(dir, readers)?;
        pcscd.start()?;
        Ok(pcscd)
    }

    /// From the next start on it knows these readers and no others.
    pub fn reconfigure(&self, readers: &[ReaderEntry]) -> io::Result<()> {
        Pcscd::configure(&self.dir, readers).map(drop)
    }

    /// Value of `PCSCLITE_CSOCK_NAME` for clients.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("pcscd.sock")
    }

    pub fn start(&mut self) -> io::Result<()> {
        self.kill();
        // Our copy of the listener goes with this function: a client must not hang on a dead pcscd.
        let listener = UnixListener::bind(self.socket())?;
        let log = self.open_log()?;
        let child = Command::new("/bin/sh")
            .args(["-c", ACTIVATE, PCSCD])
            .arg(self.dir.join("reader.conf.d"))
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL, as if it had crashed; the socket goes with it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_file(self.socket());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("pcscd.log")).unwrap_or_default()
    }

    fn open_log(&self) -> io::Result<File> {
        let path = self.dir.join("pcscd.log");
        OpenOptions::new().create(true).append(true).open(path)
    }
}

impl Drop for Pcscd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Cargo puts the library beside the running test or one directory above.
fn built_library() -> PathBuf {
    let exe = std::env::current_exe().expect("a running program has a path");
    let places = exe.ancestors().skip(1).take(2);
    let files = places.flat_map(|dir| {
        [
            dir.join(VIRTUAL_READER),
            dir.join("deps").join(VIRTUAL_READER),
        ]
    });
    let newest = files
        .filter(|path| path.exists())
        .max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok());
    newest.unwrap_or_else(|| panic!("{VIRTUAL_READER} is not built: cargo build -p virtual-reader"))
}
