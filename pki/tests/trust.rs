//! Can two roots whose keys lie in two places agree on what is trusted next, and on nothing else?
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use pki::trust::{Change, Draft, sign_bundle};
use pki::{BadTrust, Certificate, Passphrase, RootKey, RootSigner, TrustAnchors, TrustBundle};

/// Two roots, each in a directory of its own.
struct Table {
    dir: tempfile::TempDir,
}

impl Table {
    fn new() -> Self {
        let table = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(table.at("passphrase"), "correct horse battery").unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(table.at("passphrase"), owner_only).unwrap();
        for root in ["old", "new"] {
            table.ok(&format!(
                "root init --dir {root} --passphrase-file passphrase"
            ));
        }
        table
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self, name: &str) -> Certificate {
        Certificate::load(&self.at(name).join("root.pem")).unwrap()
    }

    fn signer(&self, name: &str) -> RootSigner {
        let passphrase = Passphrase::from_file(&self.at("passphrase")).unwrap();
        let key = RootKey::load(&self.at(name).join("root.key"), &passphrase);
        key.unwrap().into()
    }

    fn bundle(&self, name: &str) -> TrustBundle {
        TrustBundle::load(&self.at(name)).unwrap()
    }

    fn says(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_m2key-pki"))
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &str) -> String {
        let output = self.says(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &str, code: i32, why: &str) {
        let output = self.says(arguments);
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {words}");
        let told = words.contains("error: ") && words.contains("\nhint: ");
        assert!(told && words.contains(why), "{words}");
    }

    fn sign(&self, draft: &str, root: &str) -> String {
        self.ok(&signing(draft, root))
    }

    /// List 1: the old root active, the new one prepared.
    fn prepared(&self) {
        self.ok("root trust prepare new/root.pem --first old/root.pem --out 1.json");
        self.sign("1.json", "old");
        self.sign("1.json", "new");
    }
}

fn signing(draft: &str, root: &str) -> String {
    format!("root trust sign {draft} --dir {root} --passphrase-file passphrase --yes")
}

#[test]
fn a_root_is_replaced_by_keys_that_are_never_in_one_place() {
    let table = Table::new();
    let said = table.ok("root trust prepare new/root.pem --first old/root.pem --out 1.json");
    assert_eq!(said.matches("unsigned by").count(), 2, "{said}");
    assert!(TrustBundle::load(&table.at("1.json")).is_err());
    let said = table.sign("1.json", "old");
    assert_eq!(said.matches("unsigned by").count(), 1, "{said}");
    let said = table.sign("1.json", "new");
    assert!(said.contains("signed by everyone"), "{said}");
    table.ok("root trust activate new/root.pem --bundle 1.json --out 2.json");
    table.sign("2.json", "new");
    table.sign("2.json", "old");
    table.ok("root trust taint old/root.pem --bundle 2.json --out 3.json");
    table.sign("3.json", "old");
    table.sign("3.json", "new");
    // The old key is needed no more once it is believed no more.
    table.ok("root trust retire old/root.pem --bundle 3.json --out 4.json");
    let said = table.sign("4.json", "new");
    assert!(said.contains("signed by everyone"), "{said}");
    let party = TrustAnchors::pinned(table.root("old"));
    let party = party.accept(&table.bundle("4.json")).unwrap();
    assert_eq!(party.roots(), [table.root("new")]);
    let log = table.ok("root show --dir old");
    assert_eq!(log.matches("trust-signed").count(), 3, "{log}");
}

#[test]
fn a_root_signs_one_list_of_a_sequence_and_no_other() {
    let table = Table::new();
    table.prepared();
    table.ok("root init --dir third --passphrase-file passphrase");
    table.ok("root trust prepare third/root.pem --bundle 1.json --out a.json");
    table.ok("root trust activate new/root.pem --bundle 1.json --out b.json");
    table.sign("a.json", "old");
    // The same again, e.g. after a power cut before the file was written.
    table.sign("a.json", "old");
    table.refused(&signing("b.json", "old"), 1, "has signed another list 2");
    table.sign("b.json", "new");
    let missing = TrustBundle::load(&table.at("b.json")).unwrap_err();
    let old = table.root("old").fingerprint();
    assert_eq!(missing, BadTrust::NotSigned(old).into());
    table.ok(&format!("{} --again", signing("b.json", "old")));
    assert_eq!(table.bundle("b.json").sequence(), 2);
}

#[test]
fn nothing_is_signed_without_agreement_or_in_a_dry_run() {
    let table = Table::new();
    table.ok("root trust prepare new/root.pem --first old/root.pem --out 1.json");
    let before = fs::read(table.at("1.json")).unwrap();
    let unasked = signing("1.json", "old").replace(" --yes", "");
    table.refused(&unasked, 1, "not agreed");
    table.ok(&format!("{unasked} --dry-run"));
    assert_eq!(fs::read(table.at("1.json")).unwrap(), before);
    let third = "root trust sign 1.json --dir third --passphrase-file passphrase --yes";
    table.refused(third, 4, "third");
}

#[test]
fn wrong_files_and_wrong_steps_are_refused_in_words() {
    let table = Table::new();
    table.prepared();
    for (arguments, code, why) in [
        ("taint old/root.pem --bundle 1.json --out x", 1, "active"),
        ("retire old/root.pem --bundle 1.json --out x", 1, "active"),
        (
            "activate passphrase --bundle 1.json --out x",
            1,
            "certificate",
        ),
        ("activate 12ab --bundle 1.json --out x", 1, "fingerprint"),
        (
            "activate new/root.pem --bundle passphrase --out x",
            1,
            "not a trust bundle",
        ),
        (
            "activate new/root.pem --bundle none --out x",
            4,
            "no such file",
        ),
        (
            "activate new/root.pem --bundle 1.json --out 1.json",
            4,
            "such a file already",
        ),
        ("prepare new/root.pem --bundle 1.json --out x", 1, "twice"),
        (
            "deny 12ab --bundle 1.json --out x",
            1,
            "64 hexadecimal digits",
        ),
        ("deny old/root.pem --bundle 1.json --out x", 1, "of a root"),
        ("prepare new/root.pem --out x", 2, ""),
    ] {
        let arguments = format!("root trust {arguments}");
        if code == 2 {
            assert_eq!(table.says(&arguments).status.code(), Some(2));
        } else {
            table.refused(&arguments, code, why);
        }
    }
    assert!(!table.at("x").exists());
}

#[tokio::test]
async fn keys_at_hand_sign_in_one_go() {
    let table = Table::new();
    table.prepared();
    let (old, new) = (table.signer("old"), table.signer("new"));
    let change = Change::Activate(table.root("new").fingerprint());
    let draft = Draft::after(&table.bundle("1.json"), &change, 1).unwrap();
    let alone = sign_bundle(draft.clone(), &[&new]).await.unwrap_err();
    let unsigned = BadTrust::NotSigned(table.root("old").fingerprint());
    assert_eq!(alone, unsigned.into());
    let bundle = sign_bundle(draft, &[&new, &old]).await.unwrap();
    assert_eq!(bundle.active(), &table.root("new"));
}
