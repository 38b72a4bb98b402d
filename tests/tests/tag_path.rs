//! Does the tag hold the right link, whatever happens to tag, reader and PC/SC service?
//!
//! Every test has a real pcscd of its own, a virtual reader under it, and the agent's tag service in
//! a process of its own.
#![allow(clippy::unwrap_used)]

#[path = "tag_path/faults.rs"]
mod faults;

use harness::pcsc::{ForeignTag, Pcscd, Probe, VirtualReader, VirtualTag, VpcdTag};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const PROBE: &str = env!("CARGO_BIN_EXE_tag-probe");

/// Reader, service and agent of one test; dropped from the top.
struct Bench {
    probe: Probe,
    pcscd: Pcscd,
    reader: VirtualReader,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(|_| {}, &[])
    }

    fn with(prepare: impl FnOnce(&VirtualReader), args: &[&str]) -> Bench {
        let dir = TempDir::new().unwrap();
        let reader = VirtualReader::acr122u(dir.path()).unwrap();
        prepare(&reader);
        let pcscd = Pcscd::launch(dir.path(), &[reader.entry()]).unwrap();
        let mut probe = probe(&pcscd, args);
        probe.wait_for_event("reader_arrived");
        Bench {
            probe,
            pcscd,
            reader,
            _dir: dir,
        }
    }

    /// With a fresh tag that the agent has noticed.
    fn with_tag() -> Bench {
        let mut bench = Bench::new();
        bench.place(VirtualTag::new(1));
        bench
    }

    fn place(&mut self, tag: VirtualTag) {
        let uid = hex(&tag.uid());
        self.reader.place(tag);
        let arrived = self.probe.wait_for_event("tag_arrived");
        assert_eq!(arrived["uid"], uid);
    }

    fn show(&mut self, link: &str) -> Value {
        self.probe.show(&uri_message(link))
    }

    fn show_ok(&mut self, link: &str) -> Value {
        let result = self.show(link);
        assert_eq!(result["ok"], true, "{result}\n{}", self.pcscd.log());
        result
    }

    fn tap(&self) -> Option<Vec<u8>> {
        self.reader.tap().unwrap()
    }
}

fn probe(pcscd: &Pcscd, args: &[&str]) -> Probe {
    Probe::start(Path::new(PROBE), &pcscd.socket(), args).unwrap()
}

/// One well-known URI record with the prefix `https://`.
fn uri_message(link: &str) -> Vec<u8> {
    let mut record = vec![0xD1, 0x01, link.len() as u8 + 1, b'U', 0x04];
    record.extend_from_slice(link.as_bytes());
    record
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const OLD: &str = "pay.example/t/12345674.0123456789ABCDEFGHJKMNPQRS";
const NEW: &str = "pay.example/t/12345674.ZYXWVTSRQPNMKJHGFEDCBA9876";

#[test]
fn a_phone_reads_the_link_that_was_shown() {
    let mut bench = Bench::with_tag();
    let visit = bench.show_ok(NEW);
    assert_eq!(visit["field_off"], true);
    assert_eq!(bench.tap(), Some(uri_message(NEW)));
    let memory = bench.reader.with_tag(|tag| tag.memory()).unwrap();
    assert_eq!(
        hex(&memory[16..16 + visit["area"].as_str().unwrap().len() / 2]),
        visit["area"]
    );
    assert_eq!(memory[16..21], [0x01, 0x03, 0xA0, 0x0C, 0x34]);
}

#[test]
fn only_pages_that_change_are_written() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    let before = bench.reader.with_tag(|tag| tag.clone()).unwrap();
    assert_eq!(bench.show_ok(OLD)["pages_written"], 0);
    let visit = bench.show_ok(NEW);
    let after = bench.reader.with_tag(|tag| tag.clone()).unwrap();
    let worn = after.writes_total() - before.writes_total();
    assert_eq!(visit["pages_written"], worn);
    let (old, new) = (before.memory(), after.memory());
    let changed = old
        .chunks(4)
        .zip(new.chunks(4))
        .filter(|(a, b)| a != b)
        .count();
    // The length page is written twice and changes back.
    assert_eq!(worn as usize, changed + 2);
}

#[test]
fn blank_leaves_nothing_to_read_and_wears_one_page() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    let blank = bench.probe.show(&[]);
    assert_eq!(blank["pages_written"], 1, "{blank}");
    assert_eq!(bench.tap(), None);
}

#[test]
fn a_phone_cannot_read_in_the_field_and_can_between_visits() {
    let mut bench = Bench::with_tag();
    assert!(bench.reader.tap().is_err(), "the agent watches for the tag");
    bench.show_ok(NEW);
    assert!(!bench.reader.field());
    assert!(bench.reader.tap().is_ok());
    bench.show_ok(OLD);
    assert_eq!(bench.tap(), Some(uri_message(OLD)));
    assert_eq!(bench.probe.status()["field_control"], "Yes");
    assert!(
        !bench.probe.has_event("tag_removed"),
        "our own field is no removal"
    );
}

#[test]
fn a_reader_without_field_control_is_written_and_said_so() {
    let mut bench = Bench::with(VirtualReader::refuse_field_control, &[]);
    bench.place(VirtualTag::new(1));
    let visit = bench.show_ok(NEW);
    assert_eq!(visit["field_off"], false);
    assert_eq!(bench.probe.status()["field_control"], "No");
    let tag = bench.reader.remove().unwrap().read_by_phone();
    assert_eq!(tag, Some(uri_message(NEW)));
}

#[test]
fn taps_between_two_visits_are_counted_and_our_own_reads_are_not() {
    let mut bench = Bench::with_tag();
    assert_eq!(bench.show_ok(OLD)["taps"], Value::Null);
    let before = bench.show_ok(OLD);
    assert_eq!(before["taps"], 0);
    for _ in 0..3 {
        bench.tap();
    }
    let after = bench.show_ok(NEW);
    assert_eq!(after["taps"], 3);
    let counter = |visit: &Value, which: &str| visit[which].as_u64().unwrap();
    let read = counter(&after, "counter_found") - counter(&before, "counter");
    assert_eq!(read, 3, "whoever compares visits sees the same");
    assert_eq!(bench.show_ok(OLD)["taps"], 0);
    let second = VirtualTag::new(2);
    bench.reader.remove();
    bench.reader.place(second);
    assert_eq!(
        bench.show_ok(NEW)["taps"],
        Value::Null,
        "another tag has its own past"
    );
}

#[test]
fn the_counter_is_switched_on_once() {
    let mut bench = Bench::with_tag();
    for link in [OLD, NEW, OLD] {
        bench.show_ok(link);
    }
    assert_eq!(bench.reader.with_tag(|tag| tag.writes(0x2A)), Some(1));
}

#[test]
fn a_tear_at_any_write_leaves_old_nothing_or_new_and_the_next_visit_heals() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    let writes = bench.show_ok(NEW)["pages_written"].as_u64().unwrap();
    for cut in 0..writes as usize {
        bench.show_ok(OLD);
        bench.reader.tear_after(cut);
        let torn = bench.show(NEW);
        assert_eq!(torn["kind"], "removed", "cut {cut}: {torn}");
        bench.probe.wait_for_event("tag_removed");
        let mut tag = bench.reader.remove().unwrap();
        let seen = tag.read_by_phone();
        let whole = [None, Some(uri_message(OLD)), Some(uri_message(NEW))];
        assert!(whole.contains(&seen), "cut {cut}: {seen:?}");
        bench.place(tag);
        bench.show_ok(NEW);
        assert_eq!(bench.tap(), Some(uri_message(NEW)));
    }
}

#[test]
fn a_tag_taken_away_between_visits_is_missed_and_written_when_it_returns() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    let tag = bench.reader.remove().unwrap();
    let missed = bench.show(NEW);
    assert_eq!(missed["kind"], "no_tag", "{missed}");
    bench.probe.wait_for_event("tag_removed");
    assert!(
        bench.reader.field(),
        "the field stays on to see the tag return"
    );
    bench.place(tag);
    bench.show_ok(NEW);
    assert_eq!(bench.tap(), Some(uri_message(NEW)));
}

#[test]
fn a_tag_taken_away_in_the_field_is_noticed_without_a_visit() {
    let mut bench = Bench::with_tag();
    bench.reader.remove();
    bench.probe.wait_for_event("tag_removed");
    assert_eq!(bench.probe.status()["uid"], Value::Null);
}

#[test]
fn a_read_only_tag_is_refused_with_what_to_do() {
    let mut bench = Bench::new();
    let mut tag = VirtualTag::new(1);
    tag.set_read_only();
    bench.place(tag);
    let refused = bench.show(NEW);
    assert_eq!(refused["kind"], "read_only");
    assert!(refused["message"].as_str().unwrap().contains("replace it"));
    assert_eq!(bench.reader.with_tag(|tag| tag.writes_total()), Some(0));
}

#[test]
fn a_locked_tag_is_refused_before_the_first_write() {
    let mut bench = Bench::new();
    let mut tag = VirtualTag::new(1);
    tag.lock();
    bench.place(tag);
    let refused = bench.show(NEW);
    assert_eq!(refused["kind"], "locked");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("replace the tag")
    );
    assert_eq!(bench.reader.with_tag(|tag| tag.writes_total()), Some(0));
}

#[test]
fn a_password_protected_tag_is_not_mistaken_for_a_removed_one() {
    let mut bench = Bench::new();
    let mut tag = VirtualTag::new(1);
    tag.protect(4, *b"evil");
    bench.place(tag);
    assert_eq!(bench.show(NEW)["kind"], "write_refused");
}

#[test]
fn a_worn_out_page_is_reported_and_the_phone_reads_nothing_wrong() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    let worn = bench.reader.with_tag(|tag| tag.writes(10)).unwrap();
    bench.reader.with_tag(|tag| tag.set_endurance(worn + 2));
    let results = [NEW, OLD, NEW, OLD].map(|link| bench.show(link));
    let refused = results.iter().find(|r| r["kind"] == "write_refused");
    let message = refused.expect("more writes than the page survives")["message"].to_string();
    assert!(message.contains("worn out"), "{message}");
    let seen = bench.reader.remove().unwrap().read_by_phone();
    assert!([None, Some(uri_message(OLD)), Some(uri_message(NEW))].contains(&seen));
}

#[test]
fn a_foreign_card_is_named_and_a_good_tag_after_it_is_written() {
    let mut bench = Bench::new();
    bench.reader.place_foreign(ForeignTag::mifare_classic());
    let refused = bench.probe.wait_for_event("tag_refused");
    assert_eq!(refused["kind"], "not_an_ntag");
    let shown = bench.show(NEW);
    assert_eq!(shown["kind"], "not_an_ntag");
    assert!(shown["message"].as_str().unwrap().contains("NTAG213"));
    bench.reader.remove();
    bench.probe.wait_for_event("tag_removed");
    bench.place(VirtualTag::new(1));
    bench.show_ok(NEW);
}

#[test]
fn a_message_larger_than_the_tag_is_refused_with_both_sizes() {
    let mut bench = Bench::with_tag();
    let refused = bench.show(&"x".repeat(140));
    assert_eq!(refused["kind"], "too_small");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("145") && message.contains("137"),
        "{message}"
    );
    assert_eq!(bench.reader.with_tag(|tag| tag.writes_total()), Some(0));
}

#[test]
fn a_reader_that_lies_about_writes_is_caught_by_reading_back() {
    let mut bench = Bench::with_tag();
    bench.reader.lie_about_writes(true);
    assert_eq!(bench.show(NEW)["kind"], "lies_about_writes");
    bench.reader.lie_about_writes(false);
    bench.show_ok(NEW);
}

#[test]
fn the_latest_of_two_waiting_links_wins() {
    let mut bench = Bench::with_tag();
    bench.show_ok("pay.example/before");
    bench.reader.hold();
    let first = bench.probe.begin_show(&uri_message(OLD));
    bench.reader.wait_until_holding();
    let second = bench.probe.begin_show(&uri_message("pay.example/second"));
    let third = bench.probe.begin_show(&uri_message(NEW));
    assert_eq!(bench.probe.result(second)["kind"], "superseded");
    bench.reader.release();
    for job in [first, third] {
        let result = bench.probe.result(job);
        assert_eq!(result["ok"], true, "{result}\n{}", bench.pcscd.log());
    }
    assert_eq!(bench.tap(), Some(uri_message(NEW)));
}

#[test]
fn a_reader_that_never_answers_is_stuck_and_recovers() {
    let mut bench = Bench::with(|_| {}, &["--call-limit-ms", "1000"]);
    bench.place(VirtualTag::new(1));
    bench.show_ok(OLD);
    bench.reader.hold();
    let stuck = bench.show(NEW);
    assert_eq!(stuck["kind"], "stuck", "{stuck}");
    assert!(stuck["message"].as_str().unwrap().contains("unplug"));
    bench.reader.release();
    bench.probe.wait_for_event("reader_ready");
    bench.show_ok(NEW);
    assert_eq!(bench.tap(), Some(uri_message(NEW)));
}

#[test]
fn a_reader_stuck_again_and_again_costs_a_bounded_number_of_threads() {
    let mut bench = Bench::with(|_| {}, &["--call-limit-ms", "700"]);
    bench.reader.place(VirtualTag::new(1));
    bench.probe.wait_for_event("tag_arrived");
    bench.reader.hold();
    for _ in 0..8 {
        let stuck = bench.show(NEW);
        assert_eq!(stuck["kind"], "stuck", "{stuck}");
    }
    bench.reader.release();
    bench.probe.wait_for_event("reader_ready");
    bench.show_ok(NEW);
}

#[test]
fn a_reader_held_by_other_software_is_said_so_and_used_when_free() {
    let mut bench = Bench::with_tag();
    let mut other = probe(
        &bench.pcscd,
        &["--hold-exclusively", "ACS ACR122U PICC Interface 00 00"],
    );
    other.wait_for_event("held");
    let busy = bench.show(NEW);
    assert_eq!(busy["kind"], "reader_busy", "{busy}");
    assert!(
        busy["message"]
            .as_str()
            .unwrap()
            .contains("another program")
    );
    other.finish();
    bench.probe.wait_for_event("reader_ready");
    bench.show_ok(NEW);
}

#[test]
fn a_transaction_of_other_software_that_does_not_end_is_not_blamed_on_the_reader() {
    let mut bench = Bench::with(|_| {}, &["--call-limit-ms", "1000"]);
    bench.place(VirtualTag::new(1));
    let mut other = probe(
        &bench.pcscd,
        &["--hold-transaction", "ACS ACR122U PICC Interface 00 00"],
    );
    other.wait_for_event("held");
    let busy = bench.show(NEW);
    assert_eq!(busy["kind"], "reader_busy", "{busy}");
    other.finish();
    bench.probe.wait_for_event("reader_ready");
    bench.show_ok(NEW);
}

#[test]
fn an_absent_pcscd_is_reported_and_found_when_it_comes() {
    let dir = TempDir::new().unwrap();
    let reader = VirtualReader::acr122u(dir.path()).unwrap();
    reader.place(VirtualTag::new(1));
    let mut pcscd = Pcscd::configure(dir.path(), &[reader.entry()]).unwrap();
    let mut probe = probe(&pcscd, &[]);
    probe.wait_for_event("pcscd_absent");
    let refused = probe.show(&uri_message(NEW));
    assert_eq!(refused["kind"], "pcscd_absent", "{refused}");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("systemctl start pcscd")
    );
    pcscd.start().unwrap();
    probe.wait_for_event("pcscd_back");
    probe.wait_for_event("reader_arrived");
    probe.wait_for_event("tag_arrived");
    assert_eq!(probe.show(&uri_message(NEW))["ok"], true);
    assert_eq!(reader.tap(), Ok(Some(uri_message(NEW))));
}

#[test]
fn a_pcscd_that_crashes_and_returns_is_followed() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    bench.pcscd.kill();
    bench.probe.wait_for_event("pcscd_absent");
    bench.probe.wait_for_event("reader_gone");
    assert_eq!(
        bench.tap(),
        Some(uri_message(OLD)),
        "phones do not need pcscd"
    );
    bench.pcscd.start().unwrap();
    bench.probe.wait_for_event("tag_arrived");
    bench.show_ok(NEW);
    assert_eq!(bench.tap(), Some(uri_message(NEW)));
}

#[test]
fn a_pcscd_that_crashes_during_a_write_loses_nothing() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    bench.reader.hold();
    let job = bench.probe.begin_show(&uri_message(NEW));
    bench.reader.wait_until_holding();
    bench.pcscd.kill();
    assert_eq!(bench.probe.result(job)["kind"], "pcscd_absent");
    bench.reader.release();
    bench.probe.wait_for_event("reader_gone");
    bench.pcscd.start().unwrap();
    bench.probe.wait_for_event("tag_arrived");
    bench.show_ok(NEW);
}

#[test]
fn a_link_that_was_read_back_counts_whatever_becomes_of_the_field() {
    let mut bench = Bench::with_tag();
    bench.show_ok(OLD);
    bench.reader.hold_field_off();
    let job = bench.probe.begin_show(&uri_message(NEW));
    bench.reader.wait_until_holding();
    bench.pcscd.kill();
    let visit = bench.probe.result(job);
    assert_eq!(visit["ok"], true, "{visit}");
    assert_eq!(visit["field_off"], false);
    bench.reader.release();
}

#[test]
fn a_named_reader_that_is_missing_is_called_by_its_name() {
    let dir = TempDir::new().unwrap();
    let reader = VirtualReader::acr122u(dir.path()).unwrap();
    let pcscd = Pcscd::launch(dir.path(), &[reader.entry()]).unwrap();
    let mut probe = probe(&pcscd, &["--reader", "Identiv"]);
    let refused = probe.show(&uri_message(NEW));
    assert_eq!(refused["kind"], "no_reader", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("Identiv"));
}

#[test]
fn a_reader_that_is_unplugged_does_not_hang_the_agent() {
    let mut bench = Bench::with_tag();
    bench.reader.hang_up();
    bench.probe.wait_for_event("tag_removed");
    bench.probe.wait_for_event("reader_gone");
    assert_eq!(bench.show(NEW)["ok"], false);
}

#[test]
fn sixteen_readers_work_on_one_driver() {
    let dir = TempDir::new().unwrap();
    let readers: Vec<VirtualReader> = (0..16)
        .map(|n| VirtualReader::new(dir.path(), &format!("Reader-{n:02}")).unwrap())
        .collect();
    let entries: Vec<_> = readers.iter().map(VirtualReader::entry).collect();
    let pcscd = Pcscd::launch(dir.path(), &entries).unwrap();
    for (n, reader) in readers.iter().enumerate() {
        reader.place(VirtualTag::new(n as u32));
    }
    let mut last = probe(&pcscd, &["--reader", "Reader-15"]);
    let uid = hex(&VirtualTag::new(15).uid());
    assert_eq!(last.wait_for_event("tag_arrived")["uid"], uid);
    assert_eq!(last.show(&uri_message(NEW))["uid"], uid);
}

#[test]
fn the_virtual_reader_answers_for_attributes_too() {
    let dir = TempDir::new().unwrap();
    let reader = VirtualReader::acr122u(dir.path()).unwrap();
    reader.place(VirtualTag::new(1));
    let pcscd = Pcscd::launch(dir.path(), &[reader.entry()]).unwrap();
    reader.wait_until_connected();
    let args = ["--hold-exclusively", "ACS ACR122U PICC Interface 00 00"];
    let vendor = probe(&pcscd, &args).wait_for_event("held")["vendor"].clone();
    assert_eq!(vendor, "ACS\0");
}

#[test]
fn debians_own_virtual_driver_shows_the_same_tag() {
    let dir = TempDir::new().unwrap();
    let (entry, port) = VpcdTag::entry(dir.path(), "Virtual PCD").unwrap();
    let pcscd = Pcscd::launch(dir.path(), &[entry]).unwrap();
    let mut probe = probe(&pcscd, &["--reader", "Virtual PCD 00 00"]);
    probe.wait_for_event("reader_arrived");
    let tag = VpcdTag::place(port, VirtualTag::new(9)).unwrap();
    probe.wait_for_event("tag_arrived");
    let visit = probe.show(&uri_message(NEW));
    assert_eq!(visit["ok"], true, "{visit}");
    assert_eq!(
        tag.with_tag(VirtualTag::read_by_phone).unwrap(),
        Some(uri_message(NEW))
    );
}
