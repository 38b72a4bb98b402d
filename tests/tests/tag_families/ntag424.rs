use super::*;

fn keys(version: u8) -> TagKeys {
    let uid = TagUid::from_slice(&VirtualNtag424::new(1).uid()).unwrap();
    let key = |slot: u8| AesKey::from_bytes([version ^ (slot << 4) ^ 0x80; 16]);
    TagKeys::new(uid, version, [0, 1, 2, 3, 4].map(key)).unwrap()
}

fn sun_keys(version: u8) -> SunKeys {
    SunKeys {
        meta: keys(version).key(KeySlot::Meta).clone(),
        mac: keys(version).key(KeySlot::Mac).clone(),
    }
}

fn signed_message() -> u8 {
    ndef::uri_message(&template(&link(0))).unwrap().len() as u8
}

fn wish(version: u8) -> Box<Wish> {
    Box::new(Wish {
        keys: Some(keys(version)),
        old_keys: None,
        signed_message: Some(signed_message()),
    })
}

pub(super) fn wish_of(is_signed: bool) -> Box<Wish> {
    Box::new(Wish {
        signed_message: is_signed.then(signed_message),
        ..*wish(1)
    })
}

fn personalise(version: u8) -> Errand {
    Errand::Personalise(wish(version))
}

fn change_keys(from: u8, to: u8) -> Errand {
    Errand::Personalise(Box::new(Wish {
        old_keys: Some(keys(from)),
        ..*wish(to)
    }))
}

pub(super) fn own_tag() -> (Agent, TagModel) {
    let agent = Agent::default();
    let (tag, _) = done(&agent, VirtualNtag424::new(1).into(), &personalise(1));
    (agent, tag)
}

pub(super) fn own_tag_with(token: u8) -> (Agent, TagModel) {
    let (agent, tag) = own_tag();
    let (tag, _) = done(&agent, tag, &show(token));
    (agent, tag)
}

fn chip(tag: &TagModel) -> &VirtualNtag424 {
    match tag {
        TagModel::Ntag424(chip) => chip,
        _ => panic!("it is an NTAG 424 DNA"),
    }
}

fn tap(tag: &mut TagModel, version: u8) -> Tap {
    let text = ndef::read_uri(&tag.read_by_phone().unwrap()).unwrap();
    let link = SunLink::parse(&text).unwrap();
    link.verify(&sun_keys(version)).unwrap()
}

#[test]
fn a_phone_reads_a_link_that_proves_the_tap() {
    let (agent, mut tag) = own_tag_with(7);
    let first = tap(&mut tag, 1);
    assert_eq!(first.uid().as_bytes()[..], chip(&tag).uid());
    assert!(tap(&mut tag, 1).counter() > first.counter());
    let (_, done) = done(&agent, tag, &show(8));
    assert_eq!(done.taps, Some(2));
    assert_eq!(done.counter, Some(2));
    assert_eq!(done.writes, 1, "another token is one frame");
}

#[test]
fn a_tag_that_signs_tells_its_count_with_every_write_and_with_no_other_visit() {
    let (agent, mut tag) = own_tag_with(7);
    let last = tap(&mut tag, 1).counter();
    let (mut tag, again) = done(&agent, tag, &show(7));
    assert_eq!(again.signs, None, "whoever read it since may still use it");
    assert_eq!(tap(&mut tag, 1).counter(), last + 1);
    let (mut tag, written) = done(&agent, tag, &show(8));
    let told = written.signs.unwrap();
    assert_eq!((told.key_version, told.counter), (1, last + 1));
    assert!(tap(&mut tag, 1).counter() > told.counter);
    let (tag, _) = done(&agent, tag, &change_keys(1, 2));
    let (_, written) = done(&agent, tag, &show(9));
    assert_eq!(written.signs.unwrap().key_version, 2);
}

#[test]
fn a_count_that_begins_anew_takes_new_keys() {
    let (agent, tag) = own_tag_with(7);
    let longer = Wish {
        signed_message: Some(signed_message() + 1),
        ..*wish(1)
    };
    let hand = InHand::new(tag);
    let again = Errand::Personalise(Box::new(longer.clone()));
    assert_eq!(agent.run(&hand, &again), Err(TagError::NewKeysWanted));
    let newer = Wish {
        keys: Some(keys(2)),
        old_keys: Some(keys(1)),
        ..longer
    };
    let (tag, _) = done(
        &agent,
        hand.into_tag(),
        &Errand::Personalise(Box::new(newer)),
    );
    assert_eq!(chip(&tag).key_versions(), [2; 5]);
    // The same file as before: nothing is set, and so nothing begins anew.
    let (agent, tag) = own_tag_with(7);
    done(&agent, tag, &personalise(1));
    // Links that are not signed have no count that anybody compares, until they are.
    let (agent, tag) = own_tag_with(7);
    let (tag, _) = done(&agent, tag, &Errand::Personalise(wish_of(false)));
    let refused = agent.run(&InHand::new(tag), &personalise(1));
    assert_eq!(refused, Err(TagError::NewKeysWanted));
}

#[test]
fn a_tag_that_signs_nothing_counts_and_leads_to_the_bare_link() {
    let agent = Agent::default();
    let bare = Errand::Personalise(Box::new(Wish {
        signed_message: None,
        ..*wish(1)
    }));
    let (tag, _) = done(&agent, VirtualNtag424::new(1).into(), &bare);
    let (mut tag, _) = done(&agent, tag, &show(7));
    assert_eq!(tag.read_by_phone(), Some(message(7)));
    let (tag, again) = done(&agent, tag, &show(7));
    assert_eq!((again.taps, again.writes), (Some(1), 0));
    let (_, done) = done(&agent, tag, &show(8));
    assert_eq!((done.writes, done.signs), (1, None));
}

#[test]
fn a_tag_cut_anywhere_while_it_is_personalised_leads_nowhere_and_no_key_is_guessed() {
    let fresh = TagModel::from(VirtualNtag424::new(1));
    let agent = Agent::default();
    let commands = cut_everywhere(&agent, &fresh, &personalise(1), |agent, tag, cut| {
        assert_eq!(seen(&tag), None, "{cut:?}");
        let (tag, _) = done(&agent, tag, &personalise(1));
        assert_eq!(chip(&tag).key_versions(), [1; 5], "{cut:?}");
        assert_eq!(chip(&tag).failures(), 0, "{cut:?}");
        let (tag, _) = done(&agent, tag, &show(7));
        assert_eq!(seen(&tag), Some(link(7)), "{cut:?}");
    });
    assert!(commands > 20, "{commands}");
}

#[test]
fn new_keys_cut_anywhere_leave_the_old_link_or_none_and_no_key_is_guessed() {
    let (agent, tag) = own_tag_with(7);
    cut_everywhere(&agent, &tag, &change_keys(1, 2), |agent, tag, cut| {
        assert_old_none_or_new(&tag, Some(&link(7)), None, cut);
        let (tag, _) = done(&agent, tag, &change_keys(1, 2));
        let (mut tag, _) = done(&agent, tag, &show(8));
        assert_eq!(tap(&mut tag, 2).uid().as_bytes()[..], chip(&tag).uid());
        assert_eq!(chip(&tag).failures(), 0, "{cut:?}");
    });
}

#[test]
fn a_reset_cut_anywhere_leaves_the_old_link_or_none_and_ends_as_delivered() {
    let (agent, tag) = own_tag_with(7);
    let reset = Errand::Reset(wish(1));
    cut_everywhere(&agent, &tag, &reset, |agent, tag, cut| {
        assert_old_none_or_new(&tag, Some(&link(7)), None, cut);
        let uid = chip(&tag).uid();
        let tag = match agent.record(&uid) {
            Some(_) => done(&agent, tag, &reset).0,
            None => tag,
        };
        assert_eq!(chip(&tag).key_versions(), [0; 5], "{cut:?}");
        assert_eq!(chip(&tag).failures(), 0, "{cut:?}");
        assert_eq!(seen(&tag), None, "{cut:?}");
        // Whoever finds it may use it as a new one.
        done(&Agent::default(), tag, &personalise(9));
    });
}

#[test]
fn a_link_cut_anywhere_is_old_none_or_new_and_the_next_visit_heals() {
    let (agent, blank) = own_tag();
    let (_, full) = own_tag_with(7);
    let agents = [(&agent, &blank, None), (&agent, &full, Some(link(7)))];
    for (agent, tag, old) in agents {
        for (errand, new) in [(show(8), Some(link(8))), (BLANK, None)] {
            cut_everywhere(agent, tag, &errand, |agent, tag, cut| {
                assert_old_none_or_new(&tag, old.as_deref(), new.as_deref(), cut);
                let (mut tag, _) = done(&agent, tag, &show(9));
                assert_eq!(seen(&tag), Some(link(9)), "{cut:?}");
                tap(&mut tag, 1);
            });
        }
    }
}

#[test]
fn no_answer_may_be_changed_on_its_way() {
    let (agent, tag) = own_tag_with(7);
    let counted = InHand::new(tag.clone());
    agent.restarted().run(&counted, &show(8)).unwrap();
    // The UID in the clear is the first; the answer to SELECT is the second.
    for nth in 3..=counted.commands() {
        let hand = InHand::new(tag.clone()).flipping(nth);
        let error = agent.restarted().run(&hand, &show(8)).unwrap_err();
        assert!(
            matches!(
                error,
                TagError::Garbled | TagError::Counterfeit | TagError::Removed
            ),
            "{nth}: {error}"
        );
        assert_old_none_or_new(
            &hand.into_tag(),
            Some(&link(7)),
            Some(&link(8)),
            Cut {
                after: nth,
                is_heard: true,
            },
        );
    }
}

#[test]
fn a_copy_of_the_uid_is_no_tag_of_ours() {
    let (agent, tag) = own_tag_with(7);
    let copy = TagModel::from(chip(&tag).copied());
    let hand = InHand::new(copy);
    assert_eq!(agent.run(&hand, &show(8)), Err(TagError::Counterfeit));
    let check = agent.run(&InHand::new(chip(&tag).copied()), &Errand::Check);
    assert_eq!(check, Err(TagError::Counterfeit));
    // The true one goes on.
    agent.taken_away();
    done(&agent, tag, &show(8));
}

#[test]
fn a_refused_key_is_tried_once_while_the_tag_lies_there_and_anew_when_it_comes_back() {
    let (agent, tag) = own_tag_with(7);
    let copy = InHand::new(chip(&tag).copied());
    for _ in 0..100 {
        assert_eq!(agent.run(&copy, &show(8)), Err(TagError::Counterfeit));
    }
    assert_eq!(chip(&copy.into_tag()).failures(), 1);
    agent.taken_away();
    done(&agent, tag, &show(8));
}

#[test]
fn a_tag_that_was_put_right_is_tried_again_where_it_lies() {
    let (agent, tag) = own_tag_with(7);
    let running = agent.restarted();
    let (tag, _) = done(&agent, tag, &change_keys(1, 2));
    // The running agent has read the record of before.
    let hand = InHand::new(tag);
    assert_eq!(running.run(&hand, &show(8)), Err(TagError::Counterfeit));
    assert_eq!(running.run(&hand, &show(8)), Err(TagError::Counterfeit));
    running.reads_the_disk_of(&agent);
    running.run(&hand, &show(8)).unwrap();
    let tag = hand.into_tag();
    assert_eq!((seen(&tag), chip(&tag).failures()), (Some(link(8)), 1));
}

#[test]
fn a_chip_whose_number_the_reader_does_not_tell_truly_is_a_copy() {
    let (agent, tag) = own_tag_with(7);
    let mut other = chip(&tag).clone();
    other.set_uid([4, 9, 9, 9, 9, 9, 9]);
    let hand = InHand::new(other).claiming(&chip(&tag).uid());
    assert_eq!(agent.run(&hand, &show(8)), Err(TagError::Counterfeit));
}

#[test]
fn our_number_on_another_kind_of_chip_is_a_copy() {
    let (agent, tag) = own_tag();
    let mut other = VirtualTag::new(1);
    other.set_uid(chip(&tag).uid().try_into().unwrap());
    for errand in [show(8), Errand::Check, personalise(1)] {
        let hand = InHand::new(other.clone());
        assert_eq!(agent.run(&hand, &errand), Err(TagError::Counterfeit));
    }
}

#[test]
fn another_tag_is_not_written_while_the_terminal_has_its_own() {
    let (agent, tag) = own_tag();
    let foreign = VirtualNtag424::new(2);
    let refused = agent.run(&InHand::new(foreign.clone()), &show(8));
    let replaced = TagError::Replaced {
        own: chip(&tag).uid(),
        found: foreign.uid(),
    };
    assert_eq!(refused, Err(replaced));
    let other = agent.run(&InHand::new(VirtualTag::new(1)), &show(8));
    assert!(matches!(other, Err(TagError::Replaced { .. })));
}

#[test]
fn a_file_that_does_not_keep_what_is_written_is_found_out() {
    let (agent, tag) = own_tag_with(7);
    let mut worn = chip(&tag).clone();
    worn.wear_out();
    let refused = agent.run(&InHand::new(worn), &show(8));
    assert_eq!(refused, Err(TagError::LiesAboutWrites { page: 0 }));
}

#[test]
fn a_visit_is_ten_exchanges_and_one_frame_of_wear() {
    let (agent, tag) = own_tag_with(7);
    let hand = InHand::new(tag);
    let done = agent.run(&hand, &show(8)).unwrap();
    assert_eq!((hand.commands(), done.writes), (10, 1));
}

#[test]
fn settings_that_somebody_changed_are_noticed() {
    let (agent, mut tag) = own_tag();
    let TagModel::Ntag424(chip) = &mut tag else {
        unreachable!("it is an NTAG 424 DNA");
    };
    chip.change_settings(&[0x01, 0x10, 0xE1]);
    let refused = agent.run(&InHand::new(tag), &show(8));
    assert_eq!(refused, Err(TagError::SettingsChanged));
}

#[test]
fn a_link_of_another_length_wants_other_settings_and_writes_nothing() {
    let (agent, tag) = own_tag_with(7);
    let writes = chip(&tag).writes();
    let longer = ndef::uri_message(&link(8).replace("terminal", "a-longer-terminal")).unwrap();
    let hand = InHand::new(tag);
    let refused = agent.run(&hand, &Errand::Show(longer));
    assert_eq!(refused, Err(TagError::SettingsChanged));
    assert_eq!(chip(&hand.into_tag()).writes(), writes);
}

#[test]
fn nothing_is_sent_that_could_not_be_written_down_first() {
    let fresh = TagModel::from(VirtualNtag424::new(1));
    for records in 0.. {
        let agent = Agent::default();
        agent.fill_disk_after(records);
        let hand = InHand::new(fresh.clone());
        let full = agent.run(&hand, &personalise(1));
        if full.is_ok() {
            assert!(records > 8);
            return;
        }
        assert!(matches!(full, Err(TagError::NotKept(_))), "{full:?}");
        let tag = hand.into_tag();
        let changed = chip(&tag).key_versions().iter().filter(|v| **v > 0).count();
        // One record before all, then two for each key.
        assert_eq!(changed, records / 2, "{records}");
        done(&agent.restarted(), tag, &personalise(1));
    }
    unreachable!("a personalisation ends");
}

#[test]
fn the_wrong_file_is_named_before_any_key_is_tried() {
    let (agent, tag) = own_tag();
    let refused = |errand| {
        let hand = InHand::new(tag.clone());
        let error = agent.restarted().run(&hand, &errand).unwrap_err();
        assert_eq!(chip(&hand.into_tag()).failures(), 0);
        error
    };
    let version = 1;
    assert_eq!(refused(personalise(2)), TagError::OtherKeys { version });
    let own = chip(&tag).uid();
    let mut other = keys(1);
    other.uid = TagUid::from_slice(&VirtualNtag424::new(2).uid()).unwrap();
    let of = other.uid;
    assert_ne!(of.as_bytes()[..], own);
    let wrong = |keys| {
        Errand::Personalise(Box::new(Wish {
            keys,
            ..Wish::default()
        }))
    };
    assert_eq!(refused(wrong(Some(other))), TagError::KeysOfAnother { of });
    assert_eq!(refused(wrong(None)), TagError::KeysWanted);
    let uid = TagUid::from_slice(&own).unwrap();
    let same_version = [7, 8, 9, 10, 11].map(|n| AesKey::from_bytes([n; 16]));
    let same_version = TagKeys::new(uid, 1, same_version).unwrap();
    let refused = refused(wrong(Some(same_version)));
    assert_eq!(refused, TagError::OtherKeys { version });
}

#[test]
fn a_key_that_is_neither_old_nor_new_is_lost_and_stays_so() {
    let (_, elsewhere) = own_tag();
    let agent = Agent::default();
    let lost = agent.run(&InHand::new(elsewhere.clone()), &personalise(5));
    assert!(matches!(lost, Err(TagError::KeyLost { .. })), "{lost:?}");
    let record = agent.record(&chip(&elsewhere).uid());
    let Some(TagRecord::Ntag424(record)) = record else {
        panic!("what was found is written down");
    };
    assert_eq!(record.state(KeySlot::Master), KeyState::Lost);
    assert_eq!(chip(&elsewhere).failures(), 0);
}

#[test]
fn an_agent_that_lost_its_memory_takes_its_tag_back_with_the_file() {
    let (_, tag) = own_tag_with(7);
    let agent = Agent::default();
    let refused = agent.run(&InHand::new(tag.clone()), &show(8));
    assert_eq!(refused, Err(TagError::NotPersonalised));
    let (tag, _) = done(&agent, tag, &personalise(1));
    let (tag, _) = done(&agent, tag, &show(8));
    assert_eq!(seen(&tag), Some(link(8)));
    assert_eq!(chip(&tag).failures(), 0);
}

#[test]
fn a_check_tells_in_words_and_writes_nothing() {
    let (agent, tag) = own_tag_with(7);
    let writes = chip(&tag).writes();
    let (tag, checked) = done(&agent, tag, &Errand::Check);
    let said = checked.said.join("\n");
    for words in [
        "this terminal's own tag",
        "key master: ours, version 1",
        "signed",
    ] {
        assert!(said.contains(words), "{words} in\n{said}");
    }
    assert_eq!(chip(&tag).writes(), writes);
}
