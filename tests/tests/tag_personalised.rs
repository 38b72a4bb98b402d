//! Does a person make a tag the terminal's, at a real reader service, and does the agent then go on with
//! it whatever happens?
//!
//! Real pcscd, virtual reader and tags, the command `m2key-agent`, and the agent's tag service in a
//! process of its own on the same database.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use harness::pcsc::{Pcscd, Probe, TagModel, VirtualNtag424, VirtualReader, VirtualTag};
use harness::process::command;
use protocol::aes_key::AesKey;
use protocol::link::LinkHost;
use protocol::ndef;
use protocol::sun::{SunKeys, SunLink, Tap};
use protocol::token::MachineToken;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const PROBE: &str = env!("CARGO_BIN_EXE_tag-probe");
const TERMINAL: &str = "47110422";
const HOST: &str = "pay.example:8443";

/// Reader, service and the terminal's directory; dropped from the top.
struct Counter {
    pcscd: Pcscd,
    reader: VirtualReader,
    dir: TempDir,
}

impl Counter {
    fn new() -> Counter {
        Counter::with_reader("ACS ACR122U PICC Interface")
    }

    fn with_reader(name: &str) -> Counter {
        let dir = TempDir::new().unwrap();
        let reader = VirtualReader::new(dir.path(), name).unwrap();
        let pcscd = Pcscd::launch(dir.path(), &[reader.entry()]).unwrap();
        let config = format!(
            "authority = \"https://pay.example:8444\"\nterminal = \"{TERMINAL}\"\ndata_dir = \".\"\n"
        );
        fs::write(dir.path().join("agent.toml"), config).unwrap();
        Counter { pcscd, reader, dir }
    }

    /// With an NTAG 424 DNA that was made this terminal's.
    fn with_own_424() -> Counter {
        let counter = Counter::new();
        counter.reader.place(VirtualNtag424::new(1));
        counter.write_keys(1, &VirtualNtag424::new(1));
        counter.tag_ok(&["personalise", "--keys", "1.keys", "--signed-for", HOST]);
        counter
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut agent = command("m2key-agent").unwrap();
        agent
            .arg("tag")
            .args(args)
            .args(["--config", "agent.toml"])
            .current_dir(self.dir.path())
            .env("PCSCLITE_CSOCK_NAME", self.pcscd.socket());
        agent
    }

    fn tag(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn tag_ok(&self, args: &[&str]) -> String {
        let output = self.tag(args);
        let said = String::from_utf8(output.stdout).unwrap();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{said}{failed}{}",
            self.pcscd.log()
        );
        said
    }

    fn tag_refused(&self, args: &[&str]) -> String {
        let output = self.tag(args);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    fn write_keys(&self, version: u8, tag: &VirtualNtag424) {
        let uid: String = tag.uid().iter().map(|b| format!("{b:02X}")).collect();
        let names = ["master", "write", "meta", "mac", "spare"];
        let keys = names.iter().zip(0..).map(|(name, slot)| {
            let key = format!("{:02x}", byte(version, slot)).repeat(16);
            format!("{name} = \"{key}\"\n")
        });
        let text = format!(
            "uid = \"{uid}\"\nversion = {version}\n{}",
            keys.collect::<String>()
        );
        fs::write(self.dir.path().join(format!("{version}.keys")), text).unwrap();
    }

    /// The agent on this terminal, as far as its tag is concerned, once it has noticed the tag.
    fn agent(&self) -> Probe {
        let database = self.dir.path().join("agent.db");
        let args = ["--database", database.to_str().unwrap()];
        let mut probe = Probe::start(Path::new(PROBE), &self.pcscd.socket(), &args).unwrap();
        probe.wait_for_event("tag_arrived");
        probe
    }

    fn tap(&self) -> Option<String> {
        let message = self.reader.tap().unwrap()?;
        Some(ndef::read_uri(&message).unwrap())
    }

    fn proven_tap(&self) -> Tap {
        let link = SunLink::parse(&self.tap().unwrap()).unwrap();
        let key = |slot| AesKey::from_bytes([byte(1, slot); 16]);
        let keys = SunKeys {
            meta: key(2),
            mac: key(3),
        };
        link.verify(&keys).unwrap()
    }
}

fn byte(version: u8, slot: u8) -> u8 {
    0x80 | version << 3 | slot
}

fn link(token: u8) -> String {
    let token = MachineToken::from_bytes([token; 16]);
    let host = LinkHost::parse(HOST).unwrap();
    host.link(TERMINAL.parse().unwrap(), &token)
}

fn show(agent: &mut Probe, token: u8) -> Value {
    agent.show(&ndef::uri_message(&link(token)).unwrap())
}

fn show_ok(agent: &mut Probe, token: u8) -> Value {
    let shown = show(agent, token);
    assert_eq!(shown["ok"], true, "{shown}");
    shown
}

#[test]
fn a_424_is_personalised_written_tapped_checked_and_reset() {
    let counter = Counter::with_own_424();
    let mut agent = counter.agent();
    show_ok(&mut agent, 7);
    assert!(counter.tap().unwrap().starts_with(&link(7)));
    let (first, second) = (counter.proven_tap(), counter.proven_tap());
    assert_eq!(first.uid().as_bytes()[..], VirtualNtag424::new(1).uid());
    assert!(second.counter() > first.counter());
    let shown = show_ok(&mut agent, 8);
    assert_eq!(
        (&shown["taps"], &shown["pages_written"]),
        (&3.into(), &1.into())
    );
    agent.finish();
    let said = counter.tag_ok(&["check"]);
    assert!(said.contains("this terminal's own tag"), "{said}");
    assert!(said.contains("links are signed at every tap"), "{said}");
    counter.tag_ok(&["reset", "--keys", "1.keys"]);
    let versions = counter.reader.with_424(|tag| tag.key_versions());
    assert_eq!(versions, Some([0; 5]));
}

#[test]
fn an_ntag213_gets_a_password_that_its_terminal_knows() {
    let counter = Counter::new();
    counter.reader.place(VirtualTag::new(1));
    let said = counter.tag_ok(&["personalise"]);
    assert!(said.contains("password"), "{said}");
    let mut agent = counter.agent();
    show_ok(&mut agent, 7);
    assert_eq!(counter.tap(), Some(link(7)));
    let refused = counter.reader.with_tag(|tag| {
        tag.power_up();
        tag.transceive(&[0xA2, 9, 0, 0, 0, 0])
    });
    assert_eq!(refused, Some(harness::pcsc::Frame::Nak(4)));
    agent.finish();
    assert!(counter.tag_ok(&["check"]).contains("it is ours"));
    counter.tag_ok(&["reset"]);
    assert!(counter.tag_ok(&["check"]).contains("anybody with a phone"));
}

#[test]
fn every_reader_whose_way_we_know_lets_password_and_counter_through() {
    for name in [
        "ACS ACR1252 Dual Reader PICC",
        "ACS ACR1552 1S CL Reader PICC",
        "Identiv uTrust 3700 F CL Reader",
    ] {
        let counter = Counter::with_reader(name);
        counter.reader.place(VirtualTag::new(1));
        counter.tag_ok(&["personalise"]);
        let mut agent = counter.agent();
        assert!(show_ok(&mut agent, 7)["counter"].is_u64(), "{name}");
        agent.finish();
        let said = counter.tag_ok(&["check"]);
        assert!(said.contains("it is ours"), "{name}: {said}");
        assert!(said.contains("NTAG213"), "{name}: {said}");
    }
}

#[test]
fn keys_made_here_are_in_their_file_before_they_are_on_the_tag() {
    let counter = Counter::new();
    counter.reader.place(VirtualNtag424::new(1));
    counter.reader.tear_after_apdus(21);
    let personalise = ["personalise", "--new-keys", "new.keys"];
    counter.tag_refused(&personalise);
    let kept = fs::read_to_string(counter.dir.path().join("new.keys")).unwrap();
    let tag = counter.reader.remove_any().unwrap();
    counter.reader.place(tag);
    counter.tag_ok(&personalise);
    let again = fs::read_to_string(counter.dir.path().join("new.keys")).unwrap();
    assert_eq!(again, kept);
    let mut agent = counter.agent();
    show_ok(&mut agent, 7);
    assert_eq!(counter.tap(), Some(link(7)));
    agent.finish();
    counter.tag_ok(&["reset", "--keys", "new.keys"]);
    let versions = counter.reader.with_424(|tag| tag.key_versions());
    assert_eq!(versions, Some([0; 5]));
}

#[test]
fn every_refusal_has_a_next_move_and_no_secret() {
    let counter = Counter::new();
    counter.reader.place(VirtualNtag424::new(1));
    counter.write_keys(1, &VirtualNtag424::new(1));
    counter.write_keys(2, &VirtualNtag424::new(2));
    for (args, words) in [
        (&["personalise"][..], "takes the file"),
        (&["personalise", "--keys", "2.keys"], "another one"),
        (&["personalise", "--keys", "absent"], "absent"),
        (&["personalise", "--keys", "agent.toml"], "does not name"),
        (
            &["reset", "--keys", "1.keys"],
            "has no key of this terminal",
        ),
    ] {
        let refused = counter.tag_refused(args);
        assert!(refused.contains(words), "{words} in\n{refused}");
        assert!(refused.contains("hint: "), "{refused}");
        let secret = format!("{:02x}", byte(1, 0)).repeat(4);
        assert!(!refused.contains(&secret), "{refused}");
    }
    let said = counter.tag_ok(&["check"]);
    assert!(said.contains("not personalised"), "{said}");
}

#[test]
fn a_424_torn_at_every_command_holds_old_none_or_new_and_heals() {
    let counter = Counter::with_own_424();
    let mut agent = counter.agent();
    show_ok(&mut agent, 0);
    for apdus in 0.. {
        let (old, new) = (apdus as u8, apdus as u8 + 1);
        counter.reader.tear_after_apdus(apdus);
        let shown = show(&mut agent, new);
        if !counter.reader.is_torn() {
            assert_eq!(shown["ok"], true, "{shown}");
            assert!(apdus > 8, "a visit has more commands than {apdus}");
            return;
        }
        assert_eq!(shown["ok"], false);
        agent.wait_for_event("tag_removed");
        let mut tag = counter.reader.remove_any().unwrap();
        let seen = tag.read_by_phone();
        let seen = seen.map(|message| ndef::read_uri(&message).unwrap());
        let is = |token| seen.as_ref().is_some_and(|s| s.starts_with(&link(token)));
        assert!(seen.is_none() || is(old) || is(new), "{apdus}: {seen:?}");
        counter.reader.place(tag);
        agent.wait_for_event("tag_arrived");
        show_ok(&mut agent, new);
        counter.proven_tap();
    }
}

#[test]
fn a_personalisation_torn_at_any_command_is_finished_by_the_same_command() {
    let counter = Counter::new();
    counter.write_keys(1, &VirtualNtag424::new(1));
    let personalise = ["personalise", "--keys", "1.keys", "--signed-for", HOST];
    // All of them are played in tag_families.rs; here the service and the database are real.
    for apdus in [6, 9, 12, 15, 18, 21, 24, 27] {
        counter.reader.place(VirtualNtag424::new(1));
        counter.reader.tear_after_apdus(apdus);
        counter.tag_refused(&personalise);
        let tag = counter.reader.remove_any().unwrap();
        counter.reader.place(tag);
        counter.tag_ok(&personalise);
        let (versions, failures) = counter
            .reader
            .with_424(|tag| (tag.key_versions(), tag.failures()))
            .unwrap();
        assert_eq!((versions, failures), ([1; 5], 0), "{apdus}");
        counter.tag_ok(&["reset", "--keys", "1.keys"]);
    }
}

#[test]
fn the_command_waits_for_the_tag_and_goes_on_by_itself() {
    let counter = Counter::new();
    let mut command = counter.command(&["personalise"]);
    let mut agent = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut asked = String::new();
    let mut stderr = BufReader::new(agent.stderr.take().unwrap());
    stderr.read_line(&mut asked).unwrap();
    assert_eq!(asked, "lay the tag on the reader\n");
    counter.reader.place(VirtualTag::new(1));
    assert!(agent.wait().unwrap().success());
    assert!(counter.tag_ok(&["check"]).contains("it is ours"));
}

#[test]
fn a_copy_and_another_tag_are_reported() {
    let counter = Counter::with_own_424();
    let mut agent = counter.agent();
    let Some(TagModel::Ntag424(own)) = counter.reader.remove_any() else {
        panic!("it was there");
    };
    agent.wait_for_event("tag_removed");
    counter.reader.place(own.copied());
    agent.wait_for_event("tag_arrived");
    assert_eq!(show(&mut agent, 7)["kind"], "counterfeit");
    counter.reader.remove_any();
    agent.wait_for_event("tag_removed");
    counter.reader.place(VirtualTag::new(9));
    agent.wait_for_event("tag_arrived");
    let replaced = show(&mut agent, 7);
    assert_eq!(replaced["kind"], "replaced");
    assert!(
        replaced["message"]
            .as_str()
            .unwrap()
            .contains("04424D00000001")
    );
    counter.reader.remove_any();
    agent.wait_for_event("tag_removed");
    counter.reader.place(*own);
    agent.wait_for_event("tag_arrived");
    show_ok(&mut agent, 7);
}

#[test]
fn a_lost_tag_does_not_keep_the_terminal_from_another_one() {
    let counter = Counter::with_own_424();
    let lost = counter.reader.remove_any();
    counter.reader.place(VirtualTag::new(9));
    let mut agent = counter.agent();
    assert_eq!(show(&mut agent, 7)["kind"], "replaced");
    counter.tag_ok(&["reset", "--lost"]);
    show_ok(&mut agent, 7);
    agent.finish();
    // Found again, it is still known.
    counter.reader.place(lost.unwrap());
    counter.tag_ok(&["reset", "--keys", "1.keys"]);
}
