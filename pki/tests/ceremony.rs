//! Does a root serve for twenty years, whatever people and power cuts do to it?
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{DAY, NOW, OneKeyHsm, openssl, openssl_ok};
use pki::crl::{Reason, RevocationList};
use pki::root::{Ceremony, CrlWish, KeyPlace};
use pki::{
    BadCeremony, Certificate, Chain, Passphrase, PkiError, RootKey, RootSigner, SoftwareKey, csr,
};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "271828";

/// A directory with a passphrase, a PIN, and a request of an issuing CA.
struct Table {
    dir: tempfile::TempDir,
}

impl Table {
    fn new() -> Self {
        let table = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for (name, secret) in [("passphrase", "correct horse battery"), ("pin", PIN)] {
            fs::write(table.at(name), secret).unwrap();
            let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(table.at(name), owner_only).unwrap();
        }
        table.request("request.pem");
        table
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.at("root")
    }

    fn place(&self) -> KeyPlace {
        KeyPlace::File {
            path: self.root().join("root.key"),
            passphrase: Passphrase::from_file(&self.at("passphrase")).unwrap(),
        }
    }

    async fn signer(&self) -> RootSigner {
        self.place().open().await.unwrap()
    }

    fn request(&self, name: &str) -> Vec<u8> {
        let key = SoftwareKey::generate().unwrap();
        let der = csr::new_unnamed(&key, &"issuing".parse().unwrap()).unwrap();
        fs::write(self.at(name), csr::to_pem(&der)).unwrap();
        der
    }

    /// Runs a verb of the command in this directory and answers `answer` when it is asked.
    fn says(&self, arguments: &str, answer: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_m2key-pki");
        let mut child = Command::new(program)
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .env("SOFTHSM2_CONF", self.at("softhsm2.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Whoever is not asked closes the pipe; that is told by the output.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), answer.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn ok(&self, arguments: &str, answer: &str) -> String {
        let output = self.says(arguments, answer);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, arguments: &str, code: i32) -> String {
        let output = self.says(arguments, "no\n");
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {words}");
        assert!(
            words.contains("error: ") && words.contains("\nhint: "),
            "{words}"
        );
        words
    }

    fn new_softhsm(&self) {
        fs::create_dir(self.at("tokens")).unwrap();
        let conf = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            self.at("tokens").display()
        );
        fs::write(self.at("softhsm2.conf"), conf).unwrap();
        let made = Command::new("softhsm2-util")
            .args([
                "--init-token",
                "--free",
                "--label",
                "root",
                "--so-pin",
                PIN,
                "--pin",
                PIN,
            ])
            .env("SOFTHSM2_CONF", self.at("softhsm2.conf"))
            .output()
            .expect("these tests need SoftHSM: apt-get install -y softhsm2");
        assert!(made.status.success(), "{made:?}");
    }
}

async fn made(table: &Table) -> (Ceremony, Certificate) {
    let mut ceremony = Ceremony::begin(&table.root(), NOW).unwrap();
    let root = ceremony.init(table.place()).await.unwrap();
    (ceremony, root)
}

fn wish(revoke: &[String]) -> CrlWish {
    CrlWish {
        revoke: revoke.to_vec(),
        reason: Reason::CaCompromise,
        next_days: 180,
        above: 0,
    }
}

fn why<T: std::fmt::Debug>(outcome: Result<T, PkiError>) -> BadCeremony {
    match outcome {
        Err(PkiError::Ceremony(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// The whole life of a root by its command line, wherever the key lies.
fn walk(table: &Table, key: &str) {
    let made = table.ok(&format!("root init --dir root {key}"), "");
    assert!(made.contains("fingerprint"), "{made}");
    let sign = format!("root sign request.pem --out issuing.pem --dir root {key}");
    let planned = table.ok(&format!("{sign} --dry-run"), "");
    assert!(planned.contains("until") && !table.at("issuing.pem").exists());
    table.refused(&sign, 1);
    assert!(!table.at("issuing.pem").exists());
    table.ok(&sign, "yes\n");
    let dir = table.dir.path();
    openssl_ok(
        dir,
        &[
            "verify",
            "-x509_strict",
            "-CAfile",
            "root/root.pem",
            "issuing.pem",
        ],
    );
    let crl = format!("root crl --dir root {key} --yes");
    table.ok(&format!("{crl} --out 1.crl"), "");
    table.ok(&format!("{crl} --out 2.crl --revoke issuing.pem"), "");
    let judge = |list: &str| {
        let arguments = [
            "verify",
            "-crl_check",
            "-CAfile",
            "root/root.pem",
            "-CRLfile",
            list,
            "issuing.pem",
        ];
        openssl(dir, &arguments).status.success()
    };
    assert!(judge("1.crl") && !judge("2.crl"));
    let again = format!("root sign request.pem --out again.pem --dir root {key} --yes --again");
    assert!(table.refused(&again, 1).contains("revoked"));
    let shown = table.ok("root show --dir root", "");
    for step in [
        "root-made",
        "issuing-signed",
        "crl-signed number 1",
        "revoked",
        "crl-signed number 2",
    ] {
        assert!(shown.contains(step), "{step}: {shown}");
    }
}

#[test]
fn a_root_in_a_file_is_made_signs_revokes_and_tells() {
    let table = Table::new();
    walk(&table, "--passphrase-file passphrase");
    let key = fs::read_to_string(table.root().join("root.key")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
}

#[test]
fn a_root_in_an_hsm_token_is_made_signs_revokes_and_tells_and_leaves_no_key_file() {
    let table = Table::new();
    table.new_softhsm();
    walk(
        &table,
        &format!("--module {MODULE} --token root --pin-file pin"),
    );
    assert!(!table.root().join("root.key").exists());
    let other = "root init --dir second --token root --pin-file pin";
    let taken = table.refused(other, 4);
    assert!(taken.contains("m2key-root-1"), "{taken}");
    // What a crash before the certificate was written leaves.
    let before = fs::read(table.root().join("root.pem")).unwrap();
    fs::remove_file(table.root().join("root.pem")).unwrap();
    table.ok("root init --dir root --token root --pin-file pin", "");
    let after = Certificate::load(&table.root().join("root.pem")).unwrap();
    let before = Certificate::from_pem(std::str::from_utf8(&before).unwrap()).unwrap();
    assert_eq!(after.spki_sha256(), before.spki_sha256());
}

#[test]
fn a_ceremony_without_its_hsm_or_with_a_wrong_pin_or_passphrase_signs_nothing() {
    let table = Table::new();
    table.new_softhsm();
    table.ok("root init --dir root --token root --pin-file pin", "");
    fs::write(table.at("wrong"), "314159 or so").unwrap();
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(table.at("wrong"), owner_only).unwrap();
    let sign = "root sign request.pem --out issuing.pem --dir root --yes";
    for key in [
        "--token root --pin-file wrong",
        "--token elsewhere --pin-file pin",
        "--token root --pin-file pin --module /no/such/module.so",
        "--token root --pin-file pin --key-label m2key-root-2",
        "--passphrase-file passphrase",
    ] {
        table.refused(&format!("{sign} {key}"), 4);
    }
    assert!(!table.at("issuing.pem").exists());
    let log = fs::read_to_string(table.root().join("ceremony.log")).unwrap();
    assert!(!log.contains("issuing-signed"), "{log}");
    table.ok("root init --dir file --passphrase-file passphrase", "");
    let sign = "root sign request.pem --out issuing.pem --dir file --yes";
    table.refused(&format!("{sign} --passphrase-file wrong"), 4);
}

#[tokio::test]
async fn a_process_that_holds_the_root_key_leaves_no_core() {
    let table = Table::new();
    drop(made(&table).await);
    let mut child = Command::new(env!("CARGO_BIN_EXE_m2key-pki"))
        .args(["root", "sign", "request.pem", "--out", "issuing.pem"])
        .args(["--dir", "root", "--passphrase-file", "passphrase"])
        .current_dir(table.dir.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut asked, mut errors) = (Vec::new(), child.stderr.take().unwrap());
    while !String::from_utf8_lossy(&asked).contains("Type yes") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut errors, &mut byte).unwrap();
        asked.extend(byte);
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[tokio::test]
async fn an_hsm_that_is_gone_in_the_middle_leaves_nothing_signed_and_the_verb_may_be_repeated() {
    let table = Table::new();
    let label = || hsm::KeyLabel("m2key-root-1".into());
    let signer = |fails| {
        let mut hsm = OneKeyHsm::new(9);
        hsm.fails = fails;
        RootSigner::in_hsm(std::sync::Arc::new(hsm), label())
    };
    let lost = hsm::HsmError::DeviceLost {
        detail: "unplugged".into(),
    };
    let (sound, gone) = (
        signer(None).await.unwrap(),
        signer(Some(lost)).await.unwrap(),
    );
    let root = sound.certificate(NOW).await.unwrap();
    fs::create_dir(table.root()).unwrap();
    fs::write(table.root().join("root.pem"), root.pem()).unwrap();
    let mut ceremony = Ceremony::open(&table.root(), NOW).unwrap();
    let request = table.request("r.pem");
    let plan = ceremony.plan_issuing(&request, false).unwrap();
    let refused = ceremony.sign_issuing(plan, &gone).await.unwrap_err();
    assert_eq!(refused.whose_move(), pki::Move::Operator);
    let plan = ceremony.plan_crl(&wish(&[])).unwrap();
    assert!(ceremony.sign_crl(plan, &gone).await.is_err());
    assert!(!ceremony.steps().contains("signed"), "{}", ceremony.steps());
    assert!(!table.root().join("root.crl").exists());
    let plan = ceremony.plan_issuing(&request, false).unwrap();
    ceremony.sign_issuing(plan, &sound).await.unwrap();
    let plan = ceremony.plan_crl(&wish(&[])).unwrap();
    assert_eq!(ceremony.sign_crl(plan, &sound).await.unwrap().number, 1);
}

#[tokio::test]
async fn an_interrupted_init_goes_on_with_the_key_it_made_and_a_finished_one_does_not() {
    let table = Table::new();
    let (ceremony, first) = made(&table).await;
    drop(ceremony);
    // What a crash after the key was made leaves: the key, its intention in the log, no certificate.
    fs::remove_file(table.root().join("root.pem")).unwrap();
    let (mut ceremony, second) = made(&table).await;
    assert_eq!(first.spki_sha256(), second.spki_sha256());
    assert_eq!(
        why(ceremony.init(table.place()).await),
        BadCeremony::RootThere
    );
}

#[tokio::test]
async fn a_key_that_lies_there_for_another_reason_is_not_taken_for_a_new_root() {
    let table = Table::new();
    let (ceremony, _) = made(&table).await;
    drop(ceremony);
    for file in ["root.pem", "ceremony.log"] {
        fs::remove_file(table.root().join(file)).unwrap();
    }
    let mut ceremony = Ceremony::begin(&table.root(), NOW).unwrap();
    let refused = ceremony.init(table.place()).await.unwrap_err();
    assert!(
        refused.to_string().contains("is not overwritten"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_issuing_certificate_that_was_lost_in_a_crash_is_signed_again_and_a_kept_one_is_not() {
    let table = Table::new();
    let (mut ceremony, root) = made(&table).await;
    let signer = table.signer().await;
    let request = table.request("r.pem");
    let plan = ceremony.plan_issuing(&request, false).unwrap();
    let lost = ceremony.sign_issuing(plan, &signer).await.unwrap();
    let kept = table
        .root()
        .join(format!("issued/{}.pem", lost.serial_hex()));
    let refused = why(ceremony.plan_issuing(&request, false).map(drop));
    assert_eq!(
        refused,
        BadCeremony::AlreadySigned {
            file: kept.display().to_string()
        }
    );
    fs::remove_file(kept).unwrap();
    let plan = ceremony.plan_issuing(&request, false).unwrap();
    let second = ceremony.sign_issuing(plan, &signer).await.unwrap();
    Chain::new(second, root).unwrap();
    ceremony.plan_issuing(&request, true).unwrap();
}

#[tokio::test]
async fn a_request_with_a_name_or_with_the_key_of_the_root_gets_nothing() {
    let table = Table::new();
    let (ceremony, _) = made(&table).await;
    let key = SoftwareKey::generate().unwrap();
    let terminal = pki::SpiffeId::Terminal(common::terminal_id());
    let named = csr::new(&key, &terminal, &common::domain()).unwrap();
    assert!(matches!(
        ceremony.plan_issuing(&named, false),
        Err(PkiError::Csr(_))
    ));
    let dir = table.dir.path();
    let arguments = [
        "req",
        "-new",
        "-key",
        "root/root.key",
        "-passin",
        "file:passphrase",
        "-subj",
        "/CN=x",
        "-out",
        "own.csr",
    ];
    openssl_ok(dir, &arguments);
    let own = fs::read(table.at("own.csr")).unwrap();
    assert_eq!(
        why(ceremony.plan_issuing(&own, false).map(drop)),
        BadCeremony::OwnKey
    );
}

#[tokio::test]
async fn list_numbers_and_revocations_survive_the_loss_of_the_list_and_of_its_log() {
    let table = Table::new();
    let (mut ceremony, root) = made(&table).await;
    let signer = table.signer().await;
    let request = table.request("r.pem");
    let plan = ceremony.plan_issuing(&request, false).unwrap();
    let issuing = ceremony.sign_issuing(plan, &signer).await.unwrap();
    let serial = [issuing.serial_hex()];
    let plan = ceremony.plan_crl(&wish(&serial)).unwrap();
    let first = ceremony.sign_crl(plan, &signer).await.unwrap();
    let read = |der: &[u8]| RevocationList::verified(der, &root).unwrap();
    assert_eq!(read(&first.der).revoked[0].serial, serial[0]);

    fs::remove_file(table.root().join("root.crl")).unwrap();
    let plan = ceremony.plan_crl(&wish(&serial)).unwrap();
    let second = ceremony.sign_crl(plan, &signer).await.unwrap();
    assert_eq!(
        (second.number, read(&second.der).revoked),
        (2, read(&first.der).revoked)
    );

    drop(ceremony);
    fs::remove_file(table.root().join("ceremony.log")).unwrap();
    let mut ceremony = Ceremony::open(&table.root(), NOW + DAY).unwrap();
    let plan = ceremony.plan_crl(&wish(&[])).unwrap();
    let third = ceremony.sign_crl(plan, &signer).await.unwrap();
    assert_eq!(
        (third.number, read(&third.der).revoked),
        (3, read(&first.der).revoked)
    );
    assert!(ceremony.steps().contains("root-adopted"));
    let plan = ceremony
        .plan_crl(&CrlWish {
            above: 41,
            ..wish(&[])
        })
        .unwrap();
    assert_eq!(ceremony.sign_crl(plan, &signer).await.unwrap().number, 42);
}

/// As `init` of an authority did it: a root and an issuing certificate, and no log.
async fn adopted(table: &Table, request: &[u8]) -> Certificate {
    let key = RootKey::generate().unwrap();
    fs::create_dir(table.root()).unwrap();
    let passphrase = Passphrase::from_file(&table.at("passphrase")).unwrap();
    key.save(&table.root().join("root.key"), &passphrase)
        .unwrap();
    let root = key.certificate(NOW).unwrap();
    fs::write(table.root().join("root.pem"), root.pem()).unwrap();
    let point = csr::check(request).unwrap().public_point();
    let issuing = key.sign_issuing(&root, &point, NOW).unwrap();
    fs::write(table.at("issuing.pem"), issuing.pem()).unwrap();
    issuing
}

#[tokio::test]
async fn a_superseded_certificate_whose_key_turns_out_to_be_stolen_is_listed_anew() {
    let table = Table::new();
    let (mut ceremony, _) = made(&table).await;
    let (request, signer) = (table.request("r.pem"), table.signer().await);
    let plan = ceremony.plan_issuing(&request, false).unwrap();
    let issuing = ceremony.sign_issuing(plan, &signer).await.unwrap();
    let serial = [issuing.serial_hex()];
    for (reason, newly) in [
        (Reason::Superseded, 1),
        (Reason::CaCompromise, 1),
        (Reason::Superseded, 0),
    ] {
        let wish = CrlWish {
            reason,
            ..wish(&serial)
        };
        let plan = ceremony.plan_crl(&wish).unwrap();
        assert_eq!(
            plan.words().matches("newly on it").count(),
            newly,
            "{reason}"
        );
        ceremony.sign_crl(plan, &signer).await.unwrap();
    }
    let list = pki::crl::from_file(&table.root().join("root.crl")).unwrap();
    let list = RevocationList::verified(&list, &issuing_root(&table)).unwrap();
    assert_eq!(list.revoked[0].reason, Reason::CaCompromise);
    let refused = why(ceremony.plan_issuing(&request, true).map(drop));
    assert!(
        matches!(refused, BadCeremony::RevokedKey { .. }),
        "{refused}"
    );
}

fn issuing_root(table: &Table) -> Certificate {
    Certificate::load(&table.root().join("root.pem")).unwrap()
}

#[tokio::test]
async fn a_key_revoked_as_compromised_is_not_signed_again_though_no_log_saw_it_signed() {
    let table = Table::new();
    let request = table.request("first.pem");
    let issuing = adopted(&table, &request).await;
    let signer = table.signer().await;
    let mut ceremony = Ceremony::open(&table.root(), NOW).unwrap();
    let file = [table.at("issuing.pem").display().to_string()];
    let plan = ceremony.plan_crl(&wish(&file)).unwrap();
    ceremony.sign_crl(plan, &signer).await.unwrap();
    let serial = issuing.serial_hex();
    for again in [false, true] {
        let refused = why(ceremony.plan_issuing(&request, again).map(drop));
        let serial = serial.clone();
        assert_eq!(refused, BadCeremony::RevokedKey { serial });
    }
    let other = table.request("other.pem");
    ceremony.plan_issuing(&other, false).unwrap();
}

#[tokio::test]
async fn what_this_root_did_not_sign_it_does_not_revoke() {
    let table = Table::new();
    let (ceremony, root) = made(&table).await;
    let foreign = common::issuer_at(NOW).await;
    let path = table.at("foreign.pem");
    fs::write(&path, pki::Issuer::chain(&foreign).issuing().pem()).unwrap();
    for what in [
        path.display().to_string(),
        table.root().join("root.pem").display().to_string(),
        "0a".into(),
        root.serial_hex(),
    ] {
        let refused = why(ceremony
            .plan_crl(&wish(std::slice::from_ref(&what)))
            .map(drop));
        assert_eq!(refused, BadCeremony::NotIssuedHere { what });
    }
}

#[tokio::test]
async fn a_clock_before_the_last_step_or_outside_the_life_of_the_root_signs_nothing() {
    let table = Table::new();
    let (ceremony, root) = made(&table).await;
    drop(ceremony);
    let refused = why(Ceremony::open(&table.root(), NOW - 1).map(drop));
    assert!(matches!(refused, BadCeremony::ClockBehind { .. }));
    let late = Ceremony::open(&table.root(), root.not_after() + 1).unwrap();
    let request = table.request("r.pem");
    let refused = why(late.plan_issuing(&request, false).map(drop));
    assert!(matches!(refused, BadCeremony::RootNotValid { .. }));
    assert!(matches!(
        why(late.plan_crl(&wish(&[])).map(drop)),
        BadCeremony::RootNotValid { .. }
    ));
}

#[tokio::test]
async fn a_tampered_log_or_list_stops_the_ceremony() {
    let table = Table::new();
    let (mut ceremony, _) = made(&table).await;
    let plan = ceremony.plan_crl(&wish(&[])).unwrap();
    ceremony
        .sign_crl(plan, &table.signer().await)
        .await
        .unwrap();
    drop(ceremony);
    let list = table.root().join("root.crl");
    let foreign = common::issuer_at(NOW).await;
    let ca = pki::Issuer::chain(&foreign).issuing().clone();
    let request = pki::crl::CrlRequest {
        issuer: ca.spki_sha256(),
        number: 9,
        this_update: NOW,
        next_update: NOW + DAY,
        revoked: Vec::new(),
    };
    let forged = pki::Issuer::sign_crl(&foreign, request).await.unwrap();
    fs::write(&list, forged.pem()).unwrap();
    let ceremony = Ceremony::open(&table.root(), NOW).unwrap();
    assert!(matches!(
        ceremony.plan_crl(&wish(&[])),
        Err(PkiError::List(_))
    ));
    drop(ceremony);
    let log = table.root().join("ceremony.log");
    let text = fs::read_to_string(&log)
        .unwrap()
        .replace("number=1", "number=0");
    fs::write(&log, text).unwrap();
    let refused = why(Ceremony::open(&table.root(), NOW).map(drop));
    assert!(matches!(refused, BadCeremony::LogBroken { .. }));
}

#[test]
fn a_path_that_is_taken_is_refused_before_anything_is_signed() {
    let table = Table::new();
    let key = "--passphrase-file passphrase --dir root";
    table.ok(&format!("root init {key}"), "");
    fs::write(table.at("taken"), "precious").unwrap();
    table.refused(&format!("root sign request.pem --out taken --yes {key}"), 4);
    table.refused(&format!("root crl --out taken --yes {key}"), 4);
    let log = fs::read_to_string(table.root().join("ceremony.log")).unwrap();
    assert!(!log.contains("signed") && taken_is_whole(&table.at("taken")));
}

#[test]
fn the_root_vouches_for_an_operator_in_words_and_in_its_log() {
    let table = Table::new();
    let key = "--passphrase-file passphrase --dir root";
    table.ok(&format!("root init {key}"), "");
    let bob = SoftwareKey::generate().unwrap();
    let (name, domain) = ("bob".parse().unwrap(), "pay.example".parse().unwrap());
    let id = pki::SpiffeId::Operator(name);
    let request = csr::new(&bob, &id, &domain).unwrap();
    fs::write(table.at("bob.csr"), csr::to_pem(&request)).unwrap();
    let vouch = |operator: &str, more: &str| {
        format!("root vouch bob.csr --operator {operator} --domain pay.example {more} {key}")
    };
    table.refused(&vouch("zoe", "--out zoe --yes"), 1);
    table.refused(&vouch("bob", "--out passphrase --yes"), 4);
    table.refused(&vouch("bob", "--out bob.vouch"), 1);
    let said = table.ok(&vouch("bob", "--out bob.vouch --dry-run"), "");
    assert!(said.contains("no other operator consented to"), "{said}");
    assert!(!table.at("bob.vouch").exists());
    table.ok(&vouch("bob", "--out bob.vouch"), "yes\n");
    let text = fs::read_to_string(table.at("bob.vouch")).unwrap();
    let root = Certificate::load(&table.root().join("root.pem")).unwrap();
    let now = i64::try_from(root.not_before()).unwrap() + 3_600;
    let vouched = pki::consent::Vouch::verify(&text, &[root], now).unwrap();
    let checked = csr::check(&request).unwrap();
    assert!(vouched.is_for("bob", &domain, &checked));
    let shown = table.ok("root show --dir root", "");
    assert_eq!(shown.matches("operator-vouched").count(), 1, "{shown}");
}

fn taken_is_whole(path: &Path) -> bool {
    fs::read_to_string(path).unwrap() == "precious"
}
