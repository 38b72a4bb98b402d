use super::*;

fn personalise() -> Errand {
    Errand::Personalise(Box::default())
}

fn reset() -> Errand {
    Errand::Reset(Box::default())
}

pub(super) fn own_tag_with(token: u8) -> (Agent, TagModel) {
    let agent = Agent::default();
    let (tag, _) = done(&agent, VirtualTag::new(1).into(), &personalise());
    let (tag, _) = done(&agent, tag, &show(token));
    (agent, tag)
}

fn chip(tag: &mut TagModel) -> &mut VirtualTag {
    match tag {
        TagModel::Ntag213(chip) => chip,
        _ => panic!("it is an NTAG213"),
    }
}

/// A passer-by writes without a password.
fn is_open_to_all(tag: &mut TagModel) -> bool {
    let chip = chip(tag);
    chip.power_up();
    let is_open = chip.transceive(&[0xA2, 9, 1, 2, 3, 4]) == harness::pcsc::Frame::Ack;
    chip.power_up();
    let locks = chip.transceive(&[0xA2, 2, 0, 0, 0xFF, 0xFF]) == harness::pcsc::Frame::Ack;
    is_open || locks
}

#[test]
fn a_personalised_tag_is_written_by_its_terminal_and_read_by_all() {
    let (agent, tag) = own_tag_with(7);
    let (tag, _) = done(&agent.restarted(), tag, &show(8));
    assert_eq!(seen(&tag), Some(link(8)));
    assert!(!is_open_to_all(&mut tag.clone()));
}

#[test]
fn a_password_cut_anywhere_is_set_by_the_next_one_and_locks_nobody_out() {
    let agent = Agent::default();
    let (fresh, _) = done(&agent, VirtualTag::new(1).into(), &show(7));
    cut_everywhere(&agent, &fresh, &personalise(), |agent, tag, cut| {
        assert_eq!(seen(&tag), Some(link(7)), "{cut:?}");
        // Between the cut and the next try the agent goes on as it was.
        let (tag, _) = done(&agent, tag, &show(8));
        assert_eq!(seen(&tag), Some(link(8)), "{cut:?}");
        let (tag, _) = done(&agent, tag, &personalise());
        let (tag, _) = done(&agent, tag, &show(9));
        assert_eq!(seen(&tag), Some(link(9)), "{cut:?}");
        assert!(!is_open_to_all(&mut tag.clone()), "{cut:?}");
    });
}

#[test]
fn a_reset_cut_anywhere_is_finished_by_the_next_one() {
    let (agent, tag) = own_tag_with(7);
    cut_everywhere(&agent, &tag, &reset(), |agent, tag, cut| {
        assert_eq!(seen(&tag), Some(link(7)), "{cut:?}");
        let (mut tag, _) = done(&agent, tag, &reset());
        assert!(is_open_to_all(&mut tag.clone()), "{cut:?}");
        assert_eq!(chip(&mut tag).memory()[43 * 4..44 * 4], [0xFF; 4]);
        done(&Agent::default(), tag, &personalise());
    });
}

#[test]
fn a_link_cut_anywhere_is_old_none_or_new_and_the_next_visit_heals() {
    let (agent, full) = own_tag_with(7);
    let (blank, _) = done(&agent.restarted(), full.clone(), &BLANK);
    for (tag, old) in [(&blank, None), (&full, Some(link(7)))] {
        for (errand, new) in [(show(8), Some(link(8))), (BLANK, None)] {
            let commands = cut_everywhere(&agent, tag, &errand, |agent, tag, cut| {
                assert_old_none_or_new(&tag, old.as_deref(), new.as_deref(), cut);
                let (tag, _) = done(&agent, tag, &show(9));
                assert_eq!(seen(&tag), Some(link(9)), "{cut:?}");
            });
            assert!(commands > 5, "{commands}");
        }
    }
}

#[test]
fn what_somebody_else_wrote_is_noticed_and_repaired() {
    let agent = Agent::default();
    let (mut tag, first) = done(&agent, VirtualTag::new(1).into(), &show(7));
    assert!(!first.was_altered);
    let (_, quiet) = done(&agent, tag.clone(), &show(8));
    assert!(!quiet.was_altered);
    let (tag_8, _) = done(&agent, tag.clone(), &show(7));
    tag = tag_8;
    chip(&mut tag).transceive(&[0xA2, 9, 1, 2, 3, 4]);
    let (tag, noticed) = done(&agent, tag, &show(8));
    assert!(noticed.was_altered);
    assert_eq!(seen(&tag), Some(link(8)));
    let (_, again) = done(&agent, tag, &show(7));
    assert!(!again.was_altered);
}

#[test]
fn what_somebody_wrote_while_the_agent_was_off_is_noticed_too() {
    let agent = Agent::default();
    let (mut tag, last) = done(&agent, VirtualTag::new(1).into(), &BLANK);
    let uid = chip(&mut tag).uid();
    let (_, quiet) = done(&agent.resumed(&uid, &last), tag.clone(), &show(7));
    assert!(!quiet.was_altered);
    chip(&mut tag).transceive(&[0xA2, 5, 0x34, 0x03, 0x05, 0xD0]);
    let (_, noticed) = done(&agent.resumed(&uid, &last), tag.clone(), &show(7));
    assert!(noticed.was_altered);
    // After a power cut nobody knows, and nobody is accused.
    let (_, silent) = done(&agent.restarted(), tag, &show(7));
    assert!(!silent.was_altered);
}

#[test]
fn a_chip_that_does_not_say_it_is_an_ntag_gets_no_password() {
    let mut copy = VirtualTag::new(1);
    copy.set_version(None);
    let hand = InHand::new(copy);
    let refused = Agent::default().run(&hand, &personalise());
    assert!(matches!(refused, Err(TagError::NotAnNtag { .. })));
    let mut tag = hand.into_tag();
    assert_eq!(chip(&mut tag).writes_total(), 0);
}

#[test]
fn after_a_cut_nobody_is_accused() {
    let agent = Agent::default();
    let (tag, _) = done(&agent, VirtualTag::new(1).into(), &show(7));
    let cut = Cut {
        after: 15,
        is_heard: true,
    };
    let hand = InHand::cut(tag, Some(cut));
    assert!(agent.run(&hand, &show(8)).is_err());
    let (_, healed) = done(&agent, hand.into_tag(), &show(9));
    assert!(!healed.was_altered);
}

#[test]
fn a_copy_does_not_know_the_password_or_what_to_answer() {
    let (agent, tag) = own_tag_with(7);
    let run = |tag: TagModel| agent.restarted().run(&InHand::new(tag), &show(8));
    assert_eq!(run(VirtualTag::new(1).into()), Err(TagError::Unguarded));
    let mut other_password = VirtualTag::new(1);
    other_password.protect(2, [1, 2, 3, 4]);
    assert_eq!(run(other_password.into()), Err(TagError::ForeignPassword));
    let Some(TagRecord::Ntag21x(record)) = agent.record(&VirtualTag::new(1).uid()) else {
        panic!("the password is written down");
    };
    // Somebody listened to the password, but not to the answer.
    let mut listened = VirtualTag::new(1);
    listened.protect(2, record.password.word);
    assert_eq!(run(listened.into()), Err(TagError::Counterfeit));
    assert!(run(tag).is_ok());
}

#[test]
fn a_tag_under_somebody_elses_password_is_left_alone() {
    let mut foreign = VirtualTag::new(1);
    foreign.protect(2, [1, 2, 3, 4]);
    for errand in [personalise(), reset(), Errand::Check] {
        let hand = InHand::new(foreign.clone());
        let refused = Agent::default().run(&hand, &errand);
        assert_eq!(refused, Err(TagError::ForeignPassword));
        let mut tag = hand.into_tag();
        assert_eq!(chip(&mut tag).writes_total(), 0);
    }
}

#[test]
fn a_reader_that_lets_no_password_through_is_named() {
    let (agent, tag) = own_tag_with(7);
    let hand = InHand::new(tag).at_plain_reader();
    let refused = agent.run(&hand, &show(8));
    assert_eq!(refused, Err(TagError::PasswordNotLetThrough));
    let hand = InHand::new(VirtualTag::new(2)).at_plain_reader();
    let refused = Agent::default().run(&hand, &personalise());
    assert_eq!(refused, Err(TagError::PasswordNotLetThrough));
    let mut tag = hand.into_tag();
    assert_eq!(chip(&mut tag).writes_total(), 0);
}

#[test]
fn a_reader_that_makes_the_tag_forget_is_found_out_before_anybody_is_locked_out() {
    let agent = Agent::default();
    let hand = InHand::new(VirtualTag::new(1)).at_forgetful_reader();
    let refused = agent.run(&hand, &personalise());
    assert_eq!(refused, Err(TagError::PasswordNotLetThrough));
    let mut tag = hand.into_tag();
    assert!(is_open_to_all(&mut tag.clone()));
    tag.power_up();
    let hand = InHand::new(tag).at_forgetful_reader();
    agent.run(&hand, &show(7)).unwrap();
    assert_eq!(seen(&hand.into_tag()), Some(link(7)));
}

#[test]
fn a_check_tells_in_words_whether_anybody_can_write() {
    let open = done(&Agent::default(), VirtualTag::new(1).into(), &Errand::Check).1;
    let said = open.said.join("\n");
    assert!(said.contains("anybody with a phone can write"), "{said}");
    assert!(said.contains("NTAG213"), "{said}");
    let (agent, tag) = own_tag_with(7);
    let said = done(&agent, tag, &Errand::Check).1.said.join("\n");
    assert!(said.contains("password: set, and it is ours"), "{said}");
}
