//! Do authority, signer and operators work under accounts of their own, as docs/OPERATIONS.md says?
//!
//! With real accounts, which have numbers and no names: these tests run as root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::house::{Daemon, House, Said, text};

/// Numbers that no system gives away by itself; each is also the number of the account's own group.
const AUTHORITY: u32 = 64_101;
const SIGNER: u32 = 64_102;
const BOB: u32 = 64_103;

/// An authority made by root and given to its accounts.
struct Accounts {
    house: House,
    programs: PathBuf,
}

impl Accounts {
    fn new() -> Self {
        let house = House::without_signer();
        let programs = house.scratch("programs");
        std::fs::create_dir(&programs).unwrap();
        for name in ["m2key-authority", "m2key-pki"] {
            // Where everybody may start them.
            let built = Path::new(env!("CARGO_BIN_EXE_m2key-authority")).with_file_name(name);
            std::fs::copy(built, programs.join(name)).unwrap();
        }
        open_to_all(&house.scratch(""));
        let this = Self { house, programs };
        let may = this.command(AUTHORITY, "true").status();
        assert!(
            may.is_ok_and(|status| status.success()),
            "these tests start processes under other accounts: run them as root, with setpriv \
             (apt-get install -y util-linux)"
        );
        let dir = this.house.dir();
        give(&dir, AUTHORITY, AUTHORITY);
        give(&dir.join("signer"), SIGNER, AUTHORITY);
        let access = format!("\n[access]\ngroup = \"{AUTHORITY}\"\nusers = [\"{AUTHORITY}\"]\n");
        let config = this.house.signer_config();
        let signer = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, signer + &access).unwrap();
        this
    }

    /// A program of ours, or of the system, as this account.
    fn command(&self, account: u32, program: &str) -> Command {
        let own = self.programs.join(program);
        let number = account.to_string();
        // The signer's account is a member of the authority's group.
        let groups = match account {
            SIGNER => format!("--groups={AUTHORITY}"),
            _ => "--clear-groups".into(),
        };
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &number, "--regid", &number, &groups])
            .arg(if own.exists() {
                own.as_path()
            } else {
                Path::new(program)
            })
            .env_remove("SOFTHSM2_CONF")
            .stdin(Stdio::null());
        command
    }

    fn serve(&self) -> Daemon {
        self.house
            .start_signer_by(self.command(SIGNER, "m2key-pki"));
        self.house
            .serve_by(self.command(AUTHORITY, "m2key-authority"))
    }

    fn verb(&self, account: u32, arguments: &[&str]) -> Said {
        let mut command = self.command(account, "m2key-authority");
        command.args(arguments).output().unwrap().into()
    }

    /// A verb of the first operator, whose key is the authority's account's.
    fn first(&self, arguments: &[&str]) -> Said {
        let config = self.house.config();
        self.verb(
            AUTHORITY,
            &[&["--config", text(&config)], arguments].concat(),
        )
    }

    fn bob(&self, arguments: &[&str]) -> Said {
        let profile = self.home().join("m2key/bob.toml");
        self.verb(BOB, &[&["--as", text(&profile)], arguments].concat())
    }

    fn home(&self) -> PathBuf {
        self.house.scratch("bob")
    }

    /// Bob makes a key at home; his request and his certificate are carried to and fro.
    fn bob_joins(&self, daemon: &Daemon) {
        let (home, desk) = (self.home(), self.house.scratch("desk"));
        for (folder, account) in [(&home, BOB), (&desk, AUTHORITY)] {
            std::fs::create_dir(folder).unwrap();
            give(folder, account, account);
        }
        carry(
            &self.house.dir().join("root.pem"),
            &home.join("root.pem"),
            BOB,
        );
        let address = format!("https://localhost:{}", daemon.port("agents"));
        let (own, root) = (home.join("m2key"), home.join("root.pem"));
        let request = ["operator", "request", "bob", "--dir", text(&own)];
        let at = ["--authority", &address, "--root", text(&root)];
        let domain = ["--trust-domain", "m2key.example"];
        let said = self.verb(BOB, &[&request[..], &at, &domain].concat());
        assert_eq!(said.code, 0, "{said:?}");
        assert!(
            said.out
                .contains("compare it with the one that init printed")
        );
        let (csr, pem) = (desk.join("bob.csr"), desk.join("bob.pem"));
        carry(&own.join("bob.csr"), &csr, AUTHORITY);
        let add = ["operator", "add", "bob", "--request", text(&csr)];
        let said = self.first(&[&add[..], &["--certificate", text(&pem)]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        carry(&pem, &own.join("bob.pem"), BOB);
    }

    fn may_read(&self, account: u32, file: &Path) -> bool {
        let read = self.command(account, "cat").arg(file).output();
        read.unwrap().status.success()
    }
}

fn open_to_all(folder: &Path) {
    let mode = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder, mode).unwrap();
}

/// chown -R
fn give(path: &Path, account: u32, group: u32) {
    let owner = format!("{account}:{group}");
    let given = Command::new("chown")
        .args(["-R", &owner])
        .arg(path)
        .status();
    assert!(given.unwrap().success());
}

fn carry(from: &Path, to: &Path, account: u32) {
    std::fs::copy(from, to).unwrap();
    chown(to, Some(account), Some(account)).unwrap();
}

#[test]
fn three_accounts_do_what_one_did_and_none_reads_what_is_anothers() {
    let accounts = Accounts::new();
    let daemon = accounts.serve();
    accounts.bob_joins(&daemon);
    assert_eq!(daemon.loopback("/ready").status, 200);
    let listed = accounts.bob(&["operator", "list"]);
    assert!(listed.out.contains("bob"), "{listed:?}");
    let set = accounts.first(&["policy", "set", "--required", "1"]);
    assert_eq!(set.code, 0, "{set:?}");
    let lower = ["policy", "set", "--required", "0"];
    let waits = accounts.first(&lower);
    let (_, id) = waits.err.split_once("consent sign ").unwrap();
    let id = id.lines().next().unwrap();
    let signed = accounts.bob(&["consent", "sign", id, "--yes"]);
    assert_eq!(signed.code, 0, "{signed:?}");
    assert_eq!(accounts.first(&lower).code, 0);
    let renewed = accounts.bob(&["renew", "operator"]);
    assert_eq!(renewed.code, 0, "{renewed:?}");

    let dir = accounts.house.dir();
    let secrets = [
        (AUTHORITY, dir.join("hsm/authority.pin")),
        (AUTHORITY, dir.join("store.sqlite")),
        (AUTHORITY, dir.join("fence.journal")),
        (AUTHORITY, dir.join("agents.key")),
        (AUTHORITY, dir.join("operator.key")),
        (SIGNER, dir.join("signer/pin")),
        (SIGNER, dir.join("signer/state/issuing-keys.json")),
        (SIGNER, dir.join("signer/state/log/signed-000001.jsonl")),
        (BOB, accounts.home().join("m2key/bob.key")),
    ];
    for (owner, file) in secrets {
        for account in [AUTHORITY, SIGNER, BOB] {
            let reads = accounts.may_read(account, &file);
            assert_eq!(reads, account == owner, "{account} {}", file.display());
        }
    }
}

#[test]
fn whoever_may_not_look_is_not_told_that_nothing_runs() {
    let accounts = Accounts::new();
    let daemon = accounts.serve();
    let config = accounts.house.config();
    let list = ["--config", text(&config), "operator", "list"];
    accounts
        .verb(BOB, &list)
        .refused(4, "cannot be read (Permission denied", "--as");
    open_to_all(&accounts.house.dir());
    let said = accounts.verb(BOB, &list);
    said.refused(
        4,
        "this account may not look there",
        "operator request --authority",
    );
    accounts.bob_joins(&daemon);
    daemon.stop();
    let said = accounts.first(&["operator", "list"]);
    said.refused(4, "the daemon does not run", "serve");
    let said = accounts.bob(&["operator", "list"]);
    said.refused(4, "the daemon does not answer", "serve");
}

#[test]
fn root_signs_for_bob_on_a_stopped_authority_and_leaves_it_to_its_account() {
    let accounts = Accounts::new();
    let daemon = accounts.serve();
    accounts.bob_joins(&daemon);
    let set = accounts.first(&["policy", "set", "--required", "1"]);
    assert_eq!(set.code, 0, "{set:?}");
    daemon.stop();
    let lower = ["--offline", "policy", "set", "--required", "0"];
    let waits = accounts.first(&lower);
    let (_, id) = waits.err.split_once("consent sign ").unwrap();
    let id = id.lines().next().unwrap().to_owned();
    let profile = accounts.home().join("m2key/bob.toml");
    let sign = ["--offline", "consent", "sign", &id, "--yes"];
    let signed = accounts
        .house
        .verb(&[&["--as", text(&profile)], &sign[..]].concat());
    assert_eq!(signed.code, 0, "{signed:?}");
    let done = accounts.first(&lower);
    assert_eq!(done.code, 0, "{done:?}");
    let _daemon = accounts.serve();
}

#[test]
fn an_authority_that_is_kept_from_the_socket_says_so() {
    let mut accounts = Accounts::new();
    accounts.serve().stop();
    accounts.house.kill_signer();
    let config = accounts.house.signer_config();
    let open = std::fs::read_to_string(&config).unwrap();
    let (closed, _) = open.split_once("[access]").unwrap();
    std::fs::write(&config, closed).unwrap();
    let daemon = accounts.serve();
    let ready = daemon.loopback("/ready");
    assert!(
        ready
            .body
            .contains("this account may not go to the signer's socket"),
        "{ready:?}"
    );
    let list = ["issuing", "list", "--config", text(&config)];
    let mut command = accounts.command(AUTHORITY, "m2key-pki");
    let said: Said = command.args(list).output().unwrap().into();
    said.refused(
        4,
        "may not go to the signer's socket",
        "the signer's own account",
    );
}

#[test]
fn a_signer_outside_the_group_says_who_must_let_it_in() {
    let accounts = Accounts::new();
    let number = SIGNER.to_string();
    let own = ["--reuid", &number, "--regid", &number, "--clear-groups"];
    let signer = accounts.programs.join("m2key-pki");
    let config = accounts.house.signer_config();
    open_to_all(&accounts.house.dir());
    let output = Command::new("setpriv")
        .args(own)
        .arg(signer)
        .args(["signer", "--config", text(&config)])
        .output();
    let said = Said::from(output.unwrap());
    said.refused(4, "cannot be given to the group 64101", "usermod");
}
