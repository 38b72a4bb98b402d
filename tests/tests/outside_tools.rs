//! Do tools that are not ours accept what we leave behind?
//!
//! One run of the demo for all of them; the screenshot has a world of its own, because it needs a
//! screen that is alive.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use harness::process::Said;
use harness::story::Step;
use harness::{Failure, World, tools};
use serde_json::Value;

/// What DESIGN promises, and the folder in which everything ran.
const LEFT: [&str; 11] = [
    "agent.pem",
    "house",
    "issuing.pem",
    "jwks.json",
    "pin",
    "receipt.jws",
    "root.pem",
    "schedule.jws",
    "softhsm2.conf",
    "summary.json",
    "tag.bin",
];
/// Kinds of objects that hold a secret, as pkcs11-tool calls them.
const SECRETS: [&str; 2] = ["Private Key Object", "Secret Key Object"];
/// How often a screen may change while chromium looks at it, before the test gives up.
const PICTURES: usize = 5;

static DEMO: LazyLock<Demo> = LazyLock::new(Demo::run);

/// A demo that has run once and left its evidence.
struct Demo {
    dir: PathBuf,
    said: Said,
}

impl Demo {
    fn run() -> Self {
        // Cargo's folder for tests: the next run clears it.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo");
        let mut demo = Command::new(env!("CARGO_BIN_EXE_m2key-demo"));
        let said = Said::by(demo.arg("--once").arg("--dir").arg(&dir)).unwrap();
        Self { dir, said }
    }

    /// A file it left, as a command line takes it.
    fn file(&self, name: &str) -> String {
        assert_eq!(self.said.code, 0, "{}{}", self.said.out, self.said.err);
        self.dir.join(name).display().to_string()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    /// What our own words for it are checked against: the claims OpenSSL accepted.
    fn claims(&self, name: &str) -> Value {
        let (jws, jwks) = (self.file(name), self.file("jwks.json"));
        let said = tools::run("python3", &[&script("verify_jws.py"), &jws, &jwks]).unwrap();
        serde_json::from_str::<Value>(&said).unwrap()["claims"].clone()
    }
}

#[test]
fn every_step_held_and_what_was_promised_is_left() {
    let summary: Value = serde_json::from_str(&DEMO.text("summary.json")).unwrap();
    let steps: Vec<Step> = serde_json::from_value(summary["steps"].clone()).unwrap();
    assert!(steps.len() >= 12 && steps.iter().all(|step| step.ok && !step.seen.is_empty()));
    let left: BTreeSet<_> = std::fs::read_dir(&DEMO.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, LEFT.map(str::to_owned).into());
}

#[test]
fn no_epoch_key_and_no_pin_is_in_what_others_may_read() {
    let pin = DEMO.text("pin");
    for name in LEFT
        .iter()
        .filter(|name| !["house", "pin", "tag.bin"].contains(name))
    {
        assert!(!DEMO.text(name).contains(pin.trim()), "{name}");
    }
    assert!(DEMO.claims("schedule.jws").get("epoch_keys").is_none());
    assert!(!DEMO.said.out.contains(pin.trim()));
}

#[test]
fn openssl_verifies_the_chain_and_refuses_it_without_the_issuing_ca() {
    let [root, issuing, agent] = ["root.pem", "issuing.pem", "agent.pem"].map(|n| DEMO.file(n));
    let whole = ["verify", "-CAfile", &root, "-untrusted", &issuing, &agent];
    tools::run("openssl", &whole).unwrap();
    let broken = ["verify", "-CAfile", &root, &agent];
    assert!(!tools::output("openssl", &broken).unwrap().status.success());
}

#[test]
fn openssl_verifies_schedule_and_receipt_with_the_published_keys() {
    let (schedule, receipt) = (DEMO.claims("schedule.jws"), DEMO.claims("receipt.jws"));
    assert_eq!(schedule["terminal"], receipt["terminal"]);
    assert_eq!(receipt["amount"]["amount_minor"], 420);
    assert!(receipt["sub"].is_string() && receipt["jti"].is_string());
}

#[test]
fn openssl_refuses_a_receipt_over_another_amount() {
    let receipt = DEMO.text("receipt.jws");
    let parts: Vec<_> = receipt.trim().split('.').collect();
    // Another 6 bits of the claims: the text stays well formed as base64url.
    let mut claims = parts[1].to_owned();
    let last = claims.pop().unwrap();
    claims.push(if last == 'A' { 'Q' } else { 'A' });
    let forged = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&forged, [parts[0], &claims, parts[2]].join(".")).unwrap();
    let (path, jwks) = (forged.path().display().to_string(), DEMO.file("jwks.json"));
    let said = tools::output("python3", &[&script("verify_jws.py"), &path, &jwks]).unwrap();
    assert!(!said.status.success());
}

#[test]
fn an_independent_parser_reads_the_link_off_the_tag() {
    let link = tools::run("python3", &[&script("read_ndef.py"), &DEMO.file("tag.bin")]).unwrap();
    let schedule = DEMO.claims("schedule.jws");
    let host = schedule["link_host"].as_str().unwrap();
    let terminal = schedule["terminal"].as_str().unwrap();
    let token = link
        .trim()
        .strip_prefix(&format!("https://{host}/t/{terminal}."));
    assert_eq!(token.map(str::len), Some(26), "{link}");
}

#[test]
fn pkcs11_tool_sees_only_keys_that_cannot_leave_the_hsm() {
    let module = tools::softhsm().unwrap();
    let mut list = Command::new("pkcs11-tool");
    list.env("SOFTHSM2_CONF", DEMO.file("softhsm2.conf"));
    list.env("M2KEY_DEMO_PIN", DEMO.text("pin").trim());
    list.args(["--module", module, "--token-label", "m2key-authority"]);
    list.args(["--login", "--pin", "env:M2KEY_DEMO_PIN", "--list-objects"]);
    let said = Said::by(&mut list).expect("pkcs11-tool: apt-get install -y opensc");
    let secrets = access_of_secrets(&said.ok().unwrap().out);
    assert!(secrets.len() >= 5, "{secrets:?}");
    for access in secrets {
        assert!(access.contains("always sensitive"), "{access}");
        assert!(access.contains("never extractable"), "{access}");
    }
}

#[tokio::test]
async fn zbarimg_reads_the_link_off_the_kiosk_as_chromium_draws_it() {
    let world = World::new().await.unwrap();
    let terminal = world.terminal();
    terminal
        .till()
        .unwrap()
        .must_start(420, "sale 1")
        .await
        .unwrap();
    let kiosk = terminal.kiosk();
    kiosk.shows("offered").await.unwrap();
    let mut last = String::new();
    for attempt in 0..PICTURES {
        let before = kiosk.faces().await.unwrap().link;
        let read = picture_of(&world, attempt).await;
        // A window may have passed in between: another picture.
        match read {
            Ok(read) if kiosk.faces().await.unwrap().link == before => {
                assert_eq!(read, before);
                return;
            }
            Ok(_) => "the QR code changed while the picture was taken".clone_into(&mut last),
            Err(failure) => last = failure.to_string(),
        }
    }
    panic!("none of {PICTURES} pictures can be compared: {last}");
}

/// What zbarimg reads off a picture of the kiosk.
async fn picture_of(world: &World, attempt: usize) -> Result<String, Failure> {
    let dir = world.dir().join(format!("picture-{attempt}"));
    std::fs::create_dir(&dir)?;
    let url = world.terminal().kiosk().url()?;
    let picture = tools::screenshot(&url, "#qr-path[d]", &dir, (1280, 900)).await?;
    tools::decode_qr(&picture)
}

/// The "Access" line of every object that holds a secret.
fn access_of_secrets(objects: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_secret = false;
    for line in objects.lines() {
        match line.trim().strip_prefix("Access:") {
            Some(access) if is_secret => found.push(access.trim().to_owned()),
            Some(_) => {}
            None if line.starts_with(' ') => {}
            None => is_secret = SECRETS.iter().any(|kind| line.starts_with(kind)),
        }
    }
    found
}

fn script(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools");
    dir.join(name).display().to_string()
}
