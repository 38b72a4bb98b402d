//! Are the terminal's files there, its own, and nobody else's to read?

use std::path::Path;

use super::{Finding, Mover};
use crate::app::{DATABASE, KIOSK_SECRET, TILL_SECRET};
use crate::identity::{CHAIN_FILE, KEY_FILE};
use crate::platform::{self, Guard};
use crate::trust::ROOT_FILE;

const SUBJECT: &str = "files";
/// Without these there is no terminal.
const NEEDED: [&str; 3] = [KEY_FILE, CHAIN_FILE, ROOT_FILE];
/// Theirs alone to read who own them.
const PRIVATE: [&str; 2] = [KEY_FILE, DATABASE];
/// Made by the agent, and read by others who were given them.
const SHARED: [&str; 2] = [KIOSK_SECRET, TILL_SECRET];

const GROUP_AND_OTHERS: u32 = 0o077;
const OTHERS: u32 = 0o007;

/// One finding for each thing that is wrong, or one that all is right.
pub(super) fn look(data_dir: &Path) -> Vec<Finding> {
    let place = data_dir.display();
    let owner = match platform::guard(data_dir) {
        Ok(guard) => guard,
        Err(error) => {
            return vec![Finding::broken(
                SUBJECT,
                format!("{place} cannot be read ({error})"),
                Mover::Installer,
                "run this with sudo; if the directory is not there, enrol this machine",
            )];
        }
    };
    let mut wrong: Vec<Finding> = NEEDED
        .iter()
        .filter_map(|it| missing(data_dir, it))
        .collect();
    if let Some(owner) = owner {
        wrong.extend(wide(&place.to_string(), owner, OTHERS));
        let of_key = GROUP_AND_OTHERS;
        let private = PRIVATE.iter().map(|name| (name, of_key));
        let shared = SHARED.iter().map(|name| (name, OTHERS));
        for (name, forbidden) in private.chain(shared) {
            let path = data_dir.join(name);
            if let Ok(Some(guard)) = platform::guard(&path) {
                let path = path.display().to_string();
                wrong
                    .extend(foreign(&path, guard, owner).or_else(|| wide(&path, guard, forbidden)));
            }
        }
    }
    if wrong.is_empty() {
        wrong.push(Finding::ok(
            SUBJECT,
            format!("all that is needed is in {place}"),
        ));
    }
    wrong
}

fn missing(data_dir: &Path, name: &str) -> Option<Finding> {
    let path = data_dir.join(name);
    let error = std::fs::File::open(&path).err()?;
    let what = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "ask the operator of the payment service for a join token, and enrol this machine again"
        }
        _ => "run this with sudo; if that does not help, check the disk",
    };
    let says = format!("{} cannot be read ({error})", path.display());
    Some(Finding::broken(SUBJECT, says, Mover::Installer, what))
}

/// The agent works as the owner of the directory, and may not open what another account made there.
fn foreign(path: &str, guard: Guard, owner: Guard) -> Option<Finding> {
    (guard.uid != owner.uid).then(|| {
        Finding::broken(
            SUBJECT,
            format!("{path} belongs to another account than its directory"),
            Mover::Installer,
            format!("chown {} {path}", owner.uid),
        )
    })
}

fn wide(path: &str, guard: Guard, forbidden: u32) -> Option<Finding> {
    let mode = guard.mode & 0o777;
    (mode & forbidden != 0).then(|| {
        Finding::attention(
            SUBJECT,
            format!("other accounts of this PC can open {path} (mode {mode:03o})"),
            Mover::Installer,
            format!("chmod {:03o} {path}", mode & !forbidden),
        )
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Verdict;
    use super::*;

    fn says(dir: &Path) -> Vec<(Verdict, String)> {
        let found = look(dir).into_iter();
        found
            .map(|it| (it.verdict, it.fix.map(|fix| fix.what).unwrap_or_default()))
            .collect()
    }

    #[test]
    fn files_that_are_missing_or_open_to_others_are_named_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(dir.path(), 0o700);
        for name in NEEDED.iter().chain(&PRIVATE).chain(&SHARED) {
            fs::write(at(name), "x").unwrap();
            mode(&at(name), 0o600);
        }
        assert_eq!(says(dir.path()), [(Verdict::Ok, String::new())]);

        mode(&at(KEY_FILE), 0o640);
        mode(&at(TILL_SECRET), 0o640);
        let told = format!("chmod 600 {}", at(KEY_FILE).display());
        assert_eq!(says(dir.path()), [(Verdict::Attention, told)]);

        fs::remove_file(at(KEY_FILE)).unwrap();
        mode(dir.path(), 0o755);
        let found = says(dir.path());
        assert_eq!(found[0].0, Verdict::Broken);
        assert!(found[0].1.contains("join token"), "{found:?}");
        assert_eq!(found[1].1, format!("chmod 750 {}", dir.path().display()));
    }
}
