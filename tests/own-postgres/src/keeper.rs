//! Who ends a server when its test is gone, however that ended?
//!
//! A shell that does what the lines on its input say; their end is the end of the server and its directory.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::{Cluster, Owner, bin, id};

const SCRIPT: &str = r#"
run() { "$@" >>"$HERE/log" 2>&1 </dev/null & server=$!; }
all() {
    for each in $server $(cat /proc/$server/task/$server/children); do kill -$1 $each; done
}
run "$@"
while read -r word; do
    case $word in
        run) run "$@" ;;
        kill) all KILL; wait $server ;;
        pause) all STOP ;;
        resume) all CONT ;;
    esac
    echo done
done
all CONT
kill -INT $server
wait $server
rm -rf "$HERE"
"#;

/// A disk that only this shell and its children see, and that is gone with them.
const MOUNT: &str =
    "mkdir disk && mount -t tmpfs -o size=24m,mode=700,$OWNED tmpfs disk && exec \"$@\"";

pub(crate) struct Keeper {
    shell: Child,
    lines: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Keeper {
    /// Starts the server of this cluster.
    pub(crate) fn start(of: &Cluster) -> Self {
        let mut shell = match of.has_small_disk {
            false => of.owner.shell(),
            true => of.owner.shell_with_disk(),
        };
        shell.args(["-c", SCRIPT, "sh"]);
        shell.arg(bin().join("postgres")).arg("-D").arg(of.data());
        shell.args(["-p", &of.port.to_string()]);
        for setting in &of.settings {
            shell.args(["-c", setting]);
        }
        shell.env("HERE", &of.home).current_dir(&of.home);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.stderr(Stdio::null()).spawn().expect("sh runs");
        let stdin = shell.stdin.take().expect("it is piped");
        let stdout = shell.stdout.take().expect("it is piped");
        Self {
            shell,
            lines: Mutex::new(Some((stdin, BufReader::new(stdout)))),
        }
    }

    /// Returns once it is done.
    pub(crate) fn does(&self, word: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = lines.as_mut().expect("it ends with its handle only");
        writeln!(stdin, "{word}").expect("the keeper lives");
        let mut done = String::new();
        stdout.read_line(&mut done).expect("the keeper answers");
        assert_eq!(done, "done\n", "{word}");
    }
}

impl Owner {
    fn shell(self) -> Command {
        let mut shell = Command::new("sh");
        self.runs(&mut shell);
        shell
    }

    /// Mounts as root, of this machine or of a namespace of its own, and is the owner again afterwards.
    fn shell_with_disk(self) -> Command {
        let mut shell = Command::new("unshare");
        shell.arg("--mount");
        match self.0 {
            Some((user, group)) => {
                shell.env("OWNED", format!("uid={user},gid={group}"));
                shell.args(["sh", "-c", MOUNT, "sh", "setpriv", "--clear-groups"]);
                shell.args([format!("--reuid={user}"), format!("--regid={group}")]);
            }
            None => {
                let of = |what| id(&[what]).unwrap_or_default();
                shell.env("OWNED", "uid=0,gid=0").arg("--map-root-user");
                shell.args(["sh", "-c", MOUNT, "sh", "unshare"]);
                shell.args([
                    format!("--map-user={}", of("-u")),
                    format!("--map-group={}", of("-g")),
                ]);
            }
        }
        shell.arg("sh");
        shell
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(lines.take());
        let _ = self.shell.wait();
    }
}
