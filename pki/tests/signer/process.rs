//! Does the real command hold, with a real SoftHSM, when it is killed and when it is set up wrongly?

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pki::signer::{ClientOptions, Entry, SignerClient, SignerConfig, read_log};
use pki::{Certificate, Issuer, RootKey, TrustDomain, csr};

use crate::world::request;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "314159";

struct House {
    dir: tempfile::TempDir,
    root_key: RootKey,
    root: Certificate,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the real command has the real clock"
)]
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

impl House {
    fn new() -> Self {
        assert!(
            Path::new(MODULE).exists(),
            "these tests need SoftHSM: apt-get install -y softhsm2"
        );
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("tokens")).unwrap();
        let conf = format!("directories.tokendir = {}\n", at("tokens").display());
        std::fs::write(at("softhsm2.conf"), conf).unwrap();
        private(&at("pin"), PIN);
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", "m2key-issuing"])
            .args(["--so-pin", "12345678", "--pin", PIN])
            .env("SOFTHSM2_CONF", at("softhsm2.conf"))
            .output()
            .expect("these tests need SoftHSM: apt-get install -y softhsm2");
        assert!(made.status.success(), "{made:?}");
        let text = format!(
            "trust_domain = \"m2key.example\"\n[hsm]\nmodule = \"{MODULE}\"\n\
             token_label = \"m2key-issuing\"\npin_file = \"pin\"\n\
             [hsm.environment]\nSOFTHSM2_CONF = \"{}\"\n",
            at("softhsm2.conf").display()
        );
        std::fs::write(at("signer.toml"), text).unwrap();
        let root_key = RootKey::generate().unwrap();
        let root = root_key.certificate(now()).unwrap();
        std::fs::write(at("roots.pem"), root.pem()).unwrap();
        Self {
            dir,
            root_key,
            root,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> SignerConfig {
        SignerConfig::load(&self.at("signer.toml")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_m2key-pki"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.at("signer.toml"))
            .env_remove("SOFTHSM2_CONF")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        for said in [&output.stdout, &output.stderr] {
            assert!(
                !String::from_utf8_lossy(said).contains(PIN),
                "the PIN was printed"
            );
        }
        output
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, error: &str, hint: &str) {
        let output = self.run(arguments);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{err}");
        assert!(err.contains("error: ") && err.contains(error), "{err}");
        assert!(err.contains("hint: ") && err.contains(hint), "{err}");
    }

    fn start(&self) -> Running {
        let mut child = self
            .command(&["signer"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut read = String::new();
        while !read.contains("serving") {
            assert_ne!(
                log.read_line(&mut read).unwrap(),
                0,
                "it does not serve: {read}"
            );
        }
        std::thread::spawn(move || log.lines().for_each(drop));
        Running(child)
    }

    /// The ceremony by commands, as `docs/OPERATIONS.md` has it; the root is this test's.
    fn new_ca(&self) {
        let request = self.ok(&["issuing", "prepare"]);
        assert_eq!(
            csr::check(self.ok(&["issuing", "request"]).as_bytes())
                .unwrap()
                .spki_sha256(),
            csr::check(request.as_bytes()).unwrap().spki_sha256()
        );
        let point = csr::check(request.as_bytes()).unwrap().public_point();
        let issuing = self
            .root_key
            .sign_issuing(&self.root, &point, now())
            .unwrap();
        std::fs::write(self.at("issuing.crt"), issuing.pem()).unwrap();
        self.ok(&[
            "issuing",
            "install",
            self.at("issuing.crt").to_str().unwrap(),
        ]);
        self.ok(&["issuing", "activate"]);
    }

    async fn client(&self) -> SignerClient {
        let options = ClientOptions {
            socket: self.config().socket(),
            deadline: std::time::Duration::from_secs(30),
            queue_max: 256,
            domain: TrustDomain::default(),
            known: self.at("issuing.pem"),
            roots: vec![pki::Certificate::load(&self.at("roots.pem")).unwrap()],
        };
        SignerClient::open(options).await.unwrap()
    }

    fn logged(&self) -> Vec<String> {
        let mut serials = Vec::new();
        read_log(&self.config(), |line| {
            if let Entry::Certificate { serial, .. } = &line.entry {
                serials.push(serial.clone());
            }
        })
        .unwrap();
        serials
    }
}

fn private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_ceremony_by_commands_makes_a_signer_that_issues_and_rotates() {
    let house = House::new();
    let mut running = house.start();
    assert!(
        house
            .ok(&["issuing", "list"])
            .contains("no issuing key yet")
    );
    house.new_ca();
    house.new_ca();
    let list = house.ok(&["issuing", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["state"], "superseded");
    assert_eq!(list[1]["state"], "active");
    house.refused(
        &["issuing", "retire", "m2key-issuing-2"],
        1,
        "cannot be retired",
        "prepare and",
    );
    house.refused(
        &["issuing", "taint", "m2key-issuing-7"],
        1,
        "no issuing key",
        "issuing list",
    );
    house.ok(&["issuing", "retire", "m2key-issuing-1"]);
    let checked = house.ok(&["signer", "check"]);
    assert!(checked.contains("ok       it runs"), "{checked}");
    let pid = running.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let checked = house.ok(&["signer", "check"]);
    assert!(
        checked.contains("every issuing key fits its certificate"),
        "{checked}"
    );
    // Two ceremonies of three steps, and the retirement.
    assert!(checked.contains("the log is whole: 7 lines"), "{checked}");
    assert!(
        !checked.contains("key m2key-issuing-1"),
        "its key is destroyed: {checked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_killed_at_work_has_a_line_for_every_certificate_that_left_it() {
    const KILLS: u32 = 3;
    let house = Arc::new(House::new());
    let mut running = Some(house.start());
    let at_ceremony = house.clone();
    tokio::task::spawn_blocking(move || at_ceremony.new_ca())
        .await
        .unwrap();
    let client = Arc::new(house.client().await);
    let number = Arc::new(AtomicU32::new(0));
    let mut received = Vec::new();
    for _ in 0..KILLS {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let (client, number) = (client.clone(), number.clone());
            asked.spawn(async move {
                let number = number.fetch_add(1, Ordering::SeqCst);
                client
                    .issue(request(number, now()))
                    .await
                    .map(|issued| issued.serial)
            });
        }
        let mut answers = 0;
        while let Some(outcome) = asked.join_next().await {
            received.extend(outcome.unwrap());
            answers += 1;
            if answers == 10 {
                drop(running.take());
            }
        }
        let restarted = house.clone();
        running = Some(
            tokio::task::spawn_blocking(move || restarted.start())
                .await
                .unwrap(),
        );
        // The same client finds it again.
        let number = number.fetch_add(1, Ordering::SeqCst);
        received.push(client.issue(request(number, now())).await.unwrap().serial);
    }
    drop(running);
    let logged = house.logged();
    assert!(received.len() >= KILLS as usize * 11);
    for serial in &received {
        assert!(logged.contains(serial), "{serial} has no line");
    }
}

#[test]
fn a_second_signer_on_the_same_keys_is_refused() {
    let house = House::new();
    let _running = house.start();
    house.refused(&["signer"], 4, "another signer works in", "stop it first");
}

#[test]
fn a_wrong_pin_is_told_without_being_repeated_and_an_absent_token_is_named() {
    let house = House::new();
    private(&house.at("pin"), "000000");
    house.refused(&["signer"], 4, "refused the PIN", "HSM");
    private(&house.at("pin"), PIN);
    let config = std::fs::read_to_string(house.at("signer.toml")).unwrap();
    std::fs::write(
        house.at("signer.toml"),
        config.replace(
            "token_label = \"m2key-issuing\"",
            "token_label = \"elsewhere\"",
        ),
    )
    .unwrap();
    house.refused(&["signer"], 4, "\"elsewhere\"", "HSM");
}

#[test]
fn a_log_in_which_a_line_was_changed_stops_the_signer() {
    let house = House::new();
    let running = house.start();
    house.ok(&["issuing", "prepare"]);
    house.new_ca();
    drop(running);
    let log = house.at("state/log/signed-000001.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("prepare", "retired", 1)).unwrap();
    house.refused(
        &["signer"],
        4,
        "does not follow",
        "compare it with a backup",
    );
    house.refused(
        &["signer", "check"],
        4,
        "does not follow",
        "compare it with a backup",
    );
}

#[test]
fn without_a_running_signer_the_verbs_say_how_to_start_it() {
    let house = House::new();
    house.refused(
        &["issuing", "list"],
        3,
        "does not answer",
        "m2key-pki signer",
    );
}
