//! How does a test change a whole system and leave no trace?
//!
//! In a copy of this one: an overlay in a mount namespace of its own, so every file is the system's until it
//! is written. It wants root, and goes away with its process.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Failure;
use crate::process::Said;

/// Mounts, says so, and waits for the end of its input.
const HOLD: &str = r#"
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/changed" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/changed,workdir=$1/work" "$1/root"
mount --bind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/tmp"
echo up
cat
"#;

/// A copy of this system; it ends with this value.
pub struct Throwaway {
    holder: Child,
    root: PathBuf,
    _dir: TempDir,
}

impl Throwaway {
    pub fn of_this_system() -> Result<Self, Failure> {
        let dir = TempDir::new()?;
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", HOLD, "sh"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::of("unshare"))?;
        let mut up = String::new();
        let out = holder.stdout.take();
        let out = out.ok_or_else(|| Failure::new("its output was piped"))?;
        BufReader::new(out).read_line(&mut up)?;
        if up.trim() != "up" {
            return Err(Failure::new(
                "no copy of this system can be mounted: it takes root, mount namespaces and overlayfs",
            ));
        }
        Ok(Self {
            root: dir.path().join("root"),
            holder,
            _dir: dir,
        })
    }

    /// A command inside; these files of ours are first copied to `/tmp` there.
    pub fn run(&self, arguments: &[&str], files: &[PathBuf]) -> Result<Said, Failure> {
        for file in files {
            let name = file.file_name().unwrap_or_default();
            let to = self.root.join("tmp").join(name);
            self.enter().arg("cp").arg(file).arg(to).status()?;
        }
        let mut command = self.enter();
        command.arg("chroot").arg(&self.root).args(arguments);
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        Said::by(&mut command)
    }

    /// A line of shell inside.
    pub fn shell(&self, line: &str) -> Result<Said, Failure> {
        self.run(&["sh", "-c", line], &[])
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.holder.id().to_string();
        command.args(["--mount", "--target", &pid, "--"]);
        command
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // The mounts go with the last process that sees them.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
