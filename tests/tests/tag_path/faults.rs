//! Is it said at once what is missing, who keeps the agent out, and that too much lies there?

use super::*;
use std::os::unix::net::UnixListener;

/// A bench whose reader keeps its field on, so that the agent sees what lies there all the time.
fn with_open_eyes() -> Bench {
    let mut bench = Bench::with(VirtualReader::refuse_field_control, &[]);
    bench.place(VirtualTag::new(1));
    bench.show_ok(OLD);
    bench
}

/// What the status says is wrong.
fn complaint(bench: &mut Bench) -> String {
    bench.probe.status()["last_error"]
        .as_str()
        .unwrap_or("nothing")
        .to_owned()
}

#[test]
fn a_tag_that_is_taken_away_is_missed_before_the_next_write_and_no_more_when_it_is_back() {
    let mut bench = with_open_eyes();
    assert_eq!(complaint(&mut bench), "nothing");
    let tag = bench.reader.remove().unwrap();
    bench.probe.wait_for_event("tag_removed");
    assert!(complaint(&mut bench).contains("no tag on the reader"));
    bench.place(tag);
    assert_eq!(complaint(&mut bench), "nothing");
}

#[test]
fn a_tag_that_is_exchanged_is_seen_before_the_next_write() {
    let mut bench = with_open_eyes();
    bench.reader.remove();
    bench.probe.wait_for_event("tag_removed");
    bench.place(VirtualTag::new(2));
    let uid = hex(&VirtualTag::new(2).uid());
    assert_eq!(bench.probe.status()["uid"], uid);
}

#[test]
fn two_tags_at_once_are_told_in_words_and_one_of_them_alone_is_written() {
    let mut bench = with_open_eyes();
    bench.reader.pile(true);
    let shown = bench.show(NEW);
    assert_eq!(shown["kind"], "mute", "{shown}");
    assert_eq!(bench.probe.wait_for_event("tag_refused")["kind"], "mute");
    let message = shown["message"].as_str().unwrap();
    assert!(message.contains("no second card"), "{message}");
    assert_eq!(complaint(&mut bench), message);
    bench.reader.pile(false);
    bench.probe.wait_for_event("tag_arrived");
    bench.show_ok(NEW);
    assert_eq!(complaint(&mut bench), "nothing");
}

#[test]
fn a_card_service_that_lets_nobody_in_is_told_from_one_that_is_not_there() {
    let dir = TempDir::new().unwrap();
    let reader = VirtualReader::acr122u(dir.path()).unwrap();
    reader.place(VirtualTag::new(1));
    let mut pcscd = Pcscd::configure(dir.path(), &[reader.entry()]).unwrap();
    // As pcscd hangs up on whoever polkit does not let in.
    let refuses = UnixListener::bind(pcscd.socket()).unwrap();
    std::thread::spawn(move || {
        while let Ok((client, _)) = refuses.accept() {
            drop(client);
        }
    });
    let mut probe = probe(&pcscd, &[]);
    probe.wait_for_event("pcscd_absent");
    assert_eq!(probe.status()["service_trouble"], "not_let_in");
    let refused = probe.show(&uri_message(NEW));
    assert_eq!(refused["kind"], "not_let_in", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("50-m2key-agent.rules"), "{message}");
    assert!(!message.contains("unplug"), "{message}");

    // It is let in from now on.
    std::fs::remove_file(pcscd.socket()).unwrap();
    pcscd.start().unwrap();
    probe.wait_for_event("pcscd_back");
    probe.wait_for_event("tag_arrived");
    assert_eq!(probe.status()["service_trouble"], Value::Null);
    assert_eq!(probe.show(&uri_message(NEW))["ok"], true);
}

#[test]
fn of_two_readers_the_first_is_used_and_the_other_when_only_that_is_left() {
    let dir = TempDir::new().unwrap();
    let first = VirtualReader::acr122u(dir.path()).unwrap();
    let second = VirtualReader::new(dir.path(), "ACS ACR1252 Reader PICC").unwrap();
    first.place(VirtualTag::new(1));
    second.place(VirtualTag::new(2));
    let both = [first.entry(), second.entry()];
    let mut pcscd = Pcscd::launch(dir.path(), &both).unwrap();
    let mut probe = probe(&pcscd, &[]);
    let arrived = probe.wait_for_event("reader_arrived");
    assert!(
        arrived["name"].as_str().unwrap().contains("ACR122U"),
        "{arrived}"
    );
    probe.wait_for_event("tag_arrived");
    assert_eq!(probe.show(&uri_message(OLD))["ok"], true);
    assert_eq!(first.tap(), Ok(Some(uri_message(OLD))));
    assert_eq!(second.with_tag(|tag| tag.writes_total()), Some(0));

    // Unplugged: the service starts anew without it.
    pcscd.kill();
    pcscd.reconfigure(&both[1..]).unwrap();
    pcscd.start().unwrap();
    let arrived = probe.wait_for_event("reader_arrived");
    assert!(
        arrived["name"].as_str().unwrap().contains("ACR1252"),
        "{arrived}"
    );
    assert_eq!(probe.status()["reader"], arrived["name"]);
    probe.wait_for_event("tag_arrived");
    assert_eq!(probe.show(&uri_message(NEW))["ok"], true);
    assert_eq!(second.tap(), Ok(Some(uri_message(NEW))));

    // Both are unplugged.
    pcscd.kill();
    pcscd.reconfigure(&[]).unwrap();
    pcscd.start().unwrap();
    probe.wait_for_event("reader_gone");
    let missing = probe.show(&uri_message(OLD));
    assert_eq!(missing["kind"], "no_reader", "{missing}");
}

#[test]
fn every_reader_that_has_a_switch_takes_its_field_away_so_that_phones_can_read() {
    for name in [
        "ACS ACR122U PICC Interface",
        "ACS ACR1252 Reader PICC",
        "ACS ACR1552 Reader PICC",
        "Identiv uTrust 3700 F CL Reader",
        "Identiv uTrust 4701 F CL Reader",
    ] {
        let dir = TempDir::new().unwrap();
        let reader = VirtualReader::new(dir.path(), name).unwrap();
        let pcscd = Pcscd::launch(dir.path(), &[reader.entry()]).unwrap();
        let mut probe = probe(&pcscd, &[]);
        reader.place(VirtualTag::new(1));
        probe.wait_for_event("tag_arrived");
        for link in [OLD, NEW] {
            let visit = probe.show(&uri_message(link));
            assert_eq!(visit["field_off"], true, "{name}: {visit}");
            assert_eq!(reader.tap(), Ok(Some(uri_message(link))), "{name}");
        }
        assert!(
            !probe.has_event("tag_removed"),
            "{name}: our own field is no removal"
        );
        let tag = reader.remove().unwrap();
        assert_eq!(probe.show(&uri_message(OLD))["kind"], "no_tag", "{name}");
        reader.place(tag);
        probe.wait_for_event("tag_arrived");
        assert_eq!(probe.show(&uri_message(OLD))["ok"], true, "{name}");
    }
}

#[test]
fn a_link_that_fits_to_the_byte_is_written_and_one_byte_more_is_refused() {
    let mut bench = Bench::with_tag();
    let fits = "x".repeat(132);
    bench.show_ok(&fits);
    assert_eq!(bench.tap(), Some(uri_message(&fits)));
    let refused = bench.show(&"x".repeat(133));
    assert_eq!(refused["kind"], "too_small", "{refused}");
    let seen = bench.reader.remove().unwrap().read_by_phone();
    assert_eq!(seen, Some(uri_message(&fits)), "it holds what it held");
}
