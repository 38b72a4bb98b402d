#![allow(clippy::unwrap_used)]
use super::*;
use crate::rotation::UNBELIEVED_SHOWN_MS;
use crate::testing::{
    Issue, Signer, charge_id, checkpoint, checkpoint_claims, claim_id, frame, mark, rank,
    receipt_claims, terminal, till_charge,
};
use protocol::window::EpochClock;
use protocol::wire::push::EndReason;

const FIRST: u32 = 500_000;

fn start() -> Timestamp {
    EpochClock::of(terminal(1)).opens(FIRST)
}

/// Online, with keys and a schedule.
fn running() -> Core {
    let mut core = Core::resume(terminal(1), Resumed::default());
    core.handle_keys(Signer::new(1).keys(), start());
    let response = Issue::new(1).epochs(FIRST..FIRST + 3);
    core.handle_schedule(response, Fetch::Whole, start())
        .1
        .unwrap();
    core.handle_connected();
    core.handle_state(frame(1, start(), None), start());
    core
}

fn offered() -> ChargeStage {
    ChargeStage::Offered {
        until: start() + 60_000,
    }
}

fn paid(receipt: String) -> ChargeStage {
    ChargeStage::Paid {
        claim: claim_id(1),
        mark: mark(7),
        receipt,
    }
}

fn shown(core: &mut Core) -> Shown {
    core.poll(Some(start() + 10)).shown
}

#[test]
fn a_charge_goes_from_offered_over_held_to_paid() {
    let mut core = running();
    assert_eq!(shown(&mut core), Shown::Idle { standing: None });
    core.handle_state(frame(2, start(), Some(till_charge(offered()))), start());
    assert_eq!(shown(&mut core).name(), "offered");
    let held = ChargeStage::Held {
        claim: claim_id(1),
        mark: mark(7),
        until: start() + 60_000,
    };
    core.handle_state(frame(3, start(), Some(till_charge(held))), start());
    assert_eq!(shown(&mut core).claim(), Some(claim_id(1)));
    let receipt = Signer::new(1).sign(&receipt_claims(terminal(1), 420));
    core.handle_state(frame(4, start(), Some(till_charge(paid(receipt)))), start());
    assert_eq!(shown(&mut core).name(), "paid");
    let later = Some(start() + DONE_SHOWN_MS);
    assert_eq!(core.poll(later).shown, Shown::Idle { standing: None });
}

#[test]
fn late_and_doubled_frames_change_nothing() {
    let mut core = running();
    let offered = frame(3, start(), Some(till_charge(offered())));
    core.handle_state(offered.clone(), start());
    let before = shown(&mut core);
    assert!(core.handle_state(offered, start()).is_empty());
    assert!(
        core.handle_state(frame(2, start(), None), start())
            .is_empty()
    );
    assert_eq!(shown(&mut core), before);
}

#[test]
fn a_new_stream_may_start_anew_only_with_a_frame_that_is_not_older() {
    let mut core = running();
    let charge = Some(till_charge(offered()));
    core.handle_state(frame(9, start() + 5, charge.clone()), start());
    core.handle_disconnected();
    core.handle_connected();
    assert!(
        core.handle_state(frame(2, start(), None), start())
            .is_empty()
    );
    assert!(
        !core
            .handle_state(frame(2, start() + 6, None), start())
            .is_empty()
    );
    assert_eq!(shown(&mut core), Shown::Idle { standing: None });
}

#[test]
fn a_receipt_of_another_terminal_or_charge_is_never_shown_as_paid() {
    let mut of_another_charge = receipt_claims(terminal(1), 420);
    of_another_charge.charge = charge_id(2);
    for claims in [receipt_claims(terminal(2), 420), of_another_charge] {
        let mut core = running();
        let stage = paid(Signer::new(1).sign(&claims));
        core.handle_state(frame(2, start(), Some(till_charge(stage))), start());
        let shown = shown(&mut core);
        assert_eq!(shown.name(), "out-of-service");
        assert_eq!(shown.charge_state(), None);
    }
}

#[test]
fn a_receipt_under_a_new_key_is_shown_once_the_key_was_fetched() {
    let mut core = running();
    let signer = Signer::new(2);
    let stage = paid(signer.sign(&receipt_claims(terminal(1), 420)));
    core.handle_state(frame(2, start(), Some(till_charge(stage))), start());
    assert_eq!(shown(&mut core).name(), "held");
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
    assert_eq!(core.poll_errand(start()), None);
    core.handle_keys(both_keys(), start());
    assert_eq!(shown(&mut core).name(), "paid");
}

#[test]
fn a_receipt_under_a_key_that_stays_unknown_does_not_fetch_keys_in_a_loop() {
    let mut core = running();
    let stage = paid(Signer::new(2).sign(&receipt_claims(terminal(1), 420)));
    core.handle_state(frame(2, start(), Some(till_charge(stage))), start());
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
    core.handle_keys(Signer::new(1).keys(), start());
    assert_eq!(shown(&mut core).name(), "held");
    assert_eq!(core.poll_errand(start()), None);
    let later = start() + REFUSED_PAUSE_MS;
    assert_eq!(core.poll_errand(later), Some(Errand::Keys));
    core.handle_keys(both_keys(), later);
    assert_eq!(shown(&mut core).name(), "paid");
}

fn both_keys() -> JwkSet {
    JwkSet {
        keys: [Signer::new(1).keys().keys, Signer::new(2).keys().keys].concat(),
    }
}

/// A frame of this revision under which keys with this tag are announced.
fn tagged(revision: u64, tag: &str) -> TerminalState {
    let mut frame = frame(revision, start(), None);
    frame.upkeep.keys_tag = tag.into();
    frame
}

#[test]
fn other_keys_are_fetched_once_when_they_are_announced_also_without_a_new_revision() {
    let mut core = running();
    core.handle_state(tagged(1, "one"), start());
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
    // Announced while the answer was on its way: that answer may not hold them yet.
    core.handle_state(tagged(1, "two"), start());
    core.handle_keys(Signer::new(1).keys(), start());
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
    let saves = core.handle_keys(Signer::new(1).keys(), start());
    assert!(matches!(&saves[..], [Save::Keys { tag, .. }] if tag == "two"));
    core.handle_state(tagged(2, "two"), start());
    assert_eq!(core.poll_errand(start()), None);
}

#[test]
fn keys_of_an_earlier_run_are_not_fetched_again_under_the_same_tag() {
    let resumed = Resumed {
        keys: Some(Signer::new(1).keys()),
        keys_tag: "one".into(),
        ..Resumed::default()
    };
    let mut core = Core::resume(terminal(1), resumed);
    core.handle_connected();
    core.handle_state(tagged(1, "one"), start());
    assert_ne!(core.poll_errand(start()), Some(Errand::Keys));
}

#[test]
fn a_schedule_whose_key_is_gone_from_the_set_is_fetched_anew_and_dropped_if_that_takes_long() {
    let mut core = running();
    assert!(core.poll(Some(start() + 10)).faces.qr.is_ok());
    core.handle_keys(Signer::new(2).keys(), start());
    let errand = core.poll_errand(start());
    assert_eq!(errand, Some(Errand::Schedule(Fetch::Whole)));
    let end = start() + UNBELIEVED_SHOWN_MS;
    assert!(core.poll(Some(end - 1)).faces.qr.is_ok());
    assert!(core.poll_timeout(end - 1).unwrap() <= end);
    // The keys once more do not make it last longer.
    core.handle_keys(Signer::new(2).keys(), end - 1);
    let board = core.poll(Some(end));
    assert_eq!(board.faces.qr, Err(Blank::NoSchedule));
}

#[test]
fn a_schedule_under_another_key_takes_the_place_of_one_that_is_believed_no_more() {
    let mut core = running();
    core.handle_keys(Signer::new(2).keys(), start());
    let other = Issue {
        signer: Signer::new(2),
        ..Issue::new(2)
    };
    core.handle_schedule(other.epochs(FIRST..FIRST + 3), Fetch::Whole, start() + 5)
        .1
        .unwrap();
    let later = start() + UNBELIEVED_SHOWN_MS + 1;
    assert!(core.poll(Some(later)).faces.qr.is_ok());
    assert!(core.horizon(later) > Some(later));
}

#[test]
fn a_receipt_whose_key_is_gone_from_the_set_is_not_shown_as_paid_any_longer() {
    let mut core = running();
    core.handle_keys(both_keys(), start());
    let receipt = Signer::new(2).sign(&receipt_claims(terminal(1), 420));
    core.handle_state(frame(2, start(), Some(till_charge(paid(receipt)))), start());
    assert_eq!(shown(&mut core).name(), "paid");
    core.handle_keys(Signer::new(1).keys(), start());
    assert_eq!(shown(&mut core).name(), "held");
}

fn with_checkpoint(revision: u64, jws: String) -> TerminalState {
    let mut frame = frame(revision, start(), None);
    frame.upkeep.checkpoint = Some(jws);
    frame
}

#[test]
fn an_older_checkpoint_never_takes_the_place_of_a_newer_one() {
    let mut core = running();
    let kept = |saves: Vec<Save>| saves.iter().any(|s| matches!(s, Save::Checkpoint(_)));
    let newer = checkpoint(2, 100, 10);
    assert!(kept(
        core.handle_state(with_checkpoint(2, newer.jws.clone()), start())
    ));
    assert!(
        !kept(core.handle_state(with_checkpoint(3, newer.jws), start())),
        "it is kept already"
    );
    for older in [
        checkpoint(1, 900, 90),
        checkpoint(2, 99, 90),
        checkpoint(2, 100, 9),
    ] {
        assert!(!kept(
            core.handle_state(with_checkpoint(4, older.jws), start())
        ));
    }
    assert!(kept(core.handle_state(
        with_checkpoint(5, checkpoint(3, 1, 1).jws),
        start()
    )));
}

#[test]
fn a_checkpoint_of_a_stranger_is_not_kept() {
    let mut core = running();
    let foreign = Signer::new(2).sign(&checkpoint_claims(9, 9, 9));
    let saves = core.handle_state(with_checkpoint(2, foreign), start());
    assert!(!saves.iter().any(|s| matches!(s, Save::Checkpoint(_))));
}

#[test]
fn keys_come_first_then_the_whole_schedule_then_one_renewal_per_epoch() {
    let mut core = Core::resume(terminal(1), Resumed::default());
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
    assert_eq!(core.poll_errand(start()), None);
    core.handle_keys(Signer::new(1).keys(), start());
    assert_eq!(
        core.poll_errand(start()),
        Some(Errand::Schedule(Fetch::Whole))
    );
    assert_eq!(core.poll_errand(start()), None);
    let response = Issue::new(1).epochs(FIRST..FIRST + 3);
    core.handle_schedule(response, Fetch::Whole, start())
        .1
        .unwrap();
    assert_eq!(core.poll_errand(start()), None);
    let next = start() + 3_600_000;
    let renewal = Errand::Schedule(Fetch::After(FIRST + 2));
    assert_eq!(core.poll_errand(next), Some(renewal));
    core.handle_nothing_new(next);
    assert_eq!(core.poll_errand(next), None);
}

#[test]
fn a_schedule_that_everybody_is_asked_to_fetch_is_fetched_at_a_moment_of_its_own() {
    const WITHIN_MS: u32 = 400_000;
    let mut core = running();
    let mut asked = frame(2, start(), None);
    (asked.schedule_due, asked.schedule_within_ms) = (true, WITHIN_MS);
    core.handle_state(asked.clone(), start());
    let turn = start() + crate::spread::place(terminal(1), start(), WITHIN_MS);
    assert!(turn > start());
    assert_eq!(core.poll_errand(turn - 1), None);
    // Asked again a minute later, its turn stays what it was, or comes sooner.
    let again = start() + 60_000;
    (asked.revision, asked.now) = (3, again);
    core.handle_state(asked.clone(), again);
    let errand = core.poll_errand(turn);
    assert_eq!(errand, Some(Errand::Schedule(Fetch::Whole)));
}

#[test]
fn a_schedule_that_is_void_is_fetched_at_once_whatever_was_said_before() {
    let mut core = running();
    let mut asked = frame(2, start(), None);
    (asked.schedule_due, asked.schedule_within_ms) = (true, 400_000);
    core.handle_state(asked.clone(), start());
    assert_eq!(core.poll_errand(start()), None);
    (asked.revision, asked.schedule_within_ms) = (3, 0);
    core.handle_state(asked, start());
    let errand = core.poll_errand(start());
    assert_eq!(errand, Some(Errand::Schedule(Fetch::Whole)));
}

#[test]
fn a_schedule_under_a_key_that_stays_unknown_is_not_asked_for_in_a_loop() {
    let mut core = running();
    let mut issue = Issue::new(2);
    issue.signer = Signer::new(2);
    let stranger = || issue.epochs(FIRST..FIRST + 3);
    assert!(
        core.handle_schedule(stranger(), Fetch::Whole, start())
            .1
            .is_err()
    );
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
    core.handle_keys(Signer::new(1).keys(), start());
    assert!(
        core.handle_schedule(stranger(), Fetch::Whole, start())
            .1
            .is_err()
    );
    assert_eq!(core.poll_errand(start()), None);
    assert!(core.poll_errand(start() + REFUSED_PAUSE_MS).is_some());
}

#[test]
fn the_sequence_of_an_earlier_run_still_refuses_an_older_schedule() {
    let resumed = Resumed {
        rank: Some(rank(9)),
        keys: Some(Signer::new(1).keys()),
        schedules: vec![(Issue::new(9).epochs(FIRST..FIRST + 2), Fetch::Whole)],
        ..Resumed::default()
    };
    let mut core = Core::resume(terminal(1), resumed);
    let older = Issue::new(8).epochs(FIRST..FIRST + 2);
    let (saves, result) = core.handle_schedule(older, Fetch::Whole, start());
    assert!(saves.is_empty());
    assert_eq!(result, Err(NotFollowed::Schedule(BadSchedule::Sequence)));
}

#[test]
fn a_restart_offline_shows_the_remembered_schedule_from_the_next_boundary() {
    let resumed = Resumed {
        rank: Some(rank(1)),
        keys: Some(Signer::new(1).keys()),
        schedules: vec![(Issue::new(1).epochs(FIRST..FIRST + 2), Fetch::Whole)],
        ..Resumed::default()
    };
    let mut core = Core::resume(terminal(1), resumed);
    assert!(core.poll(Some(start() + 1)).faces.qr.is_err());
    let board = core.poll(Some(start() + 40_001));
    assert!(board.faces.qr.is_ok());
    assert_eq!(board.shown, Shown::Offline { standing: None });
}

#[test]
fn offline_the_till_has_nothing_on_offer_and_is_told_nothing() {
    let mut core = running();
    core.handle_state(frame(2, start(), Some(till_charge(offered()))), start());
    core.handle_disconnected();
    let shown = shown(&mut core);
    assert_eq!(shown, Shown::Offline { standing: None });
    assert_eq!(shown.charge_state(), None);
}

#[test]
fn a_refused_terminal_says_so_until_the_authority_speaks_again() {
    let mut core = running();
    let errand = Errand::Schedule(Fetch::Whole);
    core.handle_refused(Some(errand), "banned".into(), start());
    assert_eq!(shown(&mut core).name(), "out-of-service");
    assert_eq!(core.poll_errand(start()), None);
    core.handle_state(frame(2, start(), None), start());
    assert_eq!(shown(&mut core).name(), "idle");
}

#[test]
fn an_ended_charge_says_why() {
    let mut core = running();
    let ended = ChargeStage::Ended {
        reason: EndReason::Cancelled,
    };
    core.handle_state(frame(2, start(), Some(till_charge(ended.clone()))), start());
    assert_eq!(shown(&mut core).charge_state(), Some(till_charge(ended)));
}

#[test]
fn an_errand_that_was_put_off_while_the_certificate_was_renewed_goes_on_with_the_stream() {
    let mut core = Core::resume(terminal(1), Resumed::default());
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
    core.handle_put_off(Errand::Keys, start());
    assert_eq!(core.poll_errand(start()), None);
    assert_ne!(shown(&mut core).name(), "out-of-service");
    core.handle_connected();
    assert_eq!(core.poll_errand(start()), Some(Errand::Keys));
}

#[test]
fn the_till_is_told_the_last_word_whatever_the_screens_show_and_that_it_is_old() {
    let told = |core: &mut Core, ms| core.poll(Some(start() + ms)).charge;
    let mut core = running();
    assert_eq!(told(&mut core, 10), None);
    core.handle_state(frame(2, start(), Some(till_charge(offered()))), start());
    let now = told(&mut core, 1_000).unwrap();
    assert_eq!((now.stale, now.as_of), (false, start()));
    core.handle_alive(start() + 1_500);
    // Nobody has noticed yet that the line is dead.
    let now = told(&mut core, 4_000).unwrap();
    assert_eq!((now.stale, now.as_of), (false, start() + 1_500));
    core.handle_disconnected();
    core.handle_alive(start() + 4_500);
    assert_eq!(
        core.poll(Some(start() + 5_000)).shown.name(),
        "offline",
        "the screens show no charge"
    );
    let old = told(&mut core, 5_000).unwrap();
    assert_eq!((old.stale, old.as_of), (true, start() + 1_500));
    assert_eq!(old.state, now.state);

    // Paid, long off the screen, and not forgotten.
    core.handle_connected();
    let receipt = Signer::new(1).sign(&receipt_claims(terminal(1), 420));
    let state = till_charge(paid(receipt));
    core.handle_state(frame(3, start(), Some(state.clone())), start());
    let later = told(&mut core, 2 * DONE_SHOWN_MS).unwrap();
    assert_eq!((later.state, later.stale), (state, false));
}

#[test]
fn the_till_is_told_nothing_of_a_receipt_that_is_not_believed() {
    let mut core = running();
    let foreign = Signer::new(1).sign(&receipt_claims(terminal(2), 420));
    let state = till_charge(paid(foreign));
    core.handle_state(frame(2, start(), Some(state)), start());
    assert_eq!(core.poll(Some(start() + 10)).charge, None);
}

/// A terminal that asked last in the hour `asked_in`.
fn told(number: u32, asked_in: u32) -> Core {
    let mut core = Core::resume(terminal(number), Resumed::default());
    core.wishes.grown_in = Some(asked_in);
    core
}

fn hour_of(core: &Core, epoch: u32) -> Timestamp {
    EpochClock::of(core.terminal).opens(epoch)
}

#[test]
fn a_day_of_hours_is_made_up_for_every_six_hours() {
    for number in 0..50 {
        let mut core = told(number, FIRST);
        let mut last = FIRST + 24;
        let mut asked = 0;
        for epoch in FIRST..FIRST + 24 * 7 {
            if core.growth_due(last, hour_of(&core, epoch)) {
                (asked, last) = (asked + 1, epoch + 24);
                core.wishes.grown_in = Some(epoch);
            }
            assert!(last - epoch >= 24 - GROWTH_MAX_EPOCHS, "{number}");
        }
        assert!((27..=28).contains(&asked), "{asked} times in a week");
    }
}

#[test]
fn few_hours_are_made_up_for_in_time() {
    for horizon in 2..8 {
        let core = told(7, FIRST);
        let due = (1..=horizon).find(|it| {
            let now = hour_of(&core, FIRST + it);
            core.growth_due(FIRST + horizon, now)
        });
        assert_eq!(due, Some(1), "of {horizon}");
    }
}

#[test]
fn a_fleet_that_was_told_everything_at_one_moment_does_not_ask_together_again() {
    const FLEET: u32 = 6_000;
    let begin = EpochClock::of(terminal(0)).opens(FIRST);
    let mut asked = [0; 6 * 60];
    for number in 0..FLEET {
        let clock = EpochClock::of(terminal(number));
        let present = clock.epoch_at(begin);
        let core = told(number, present);
        let mut minutes = 0..6 * 60 + 60;
        let due = minutes.find(|minute| core.growth_due(present + 24, begin + minute * 60_000));
        let minute = usize::try_from(due.expect("within six hours")).unwrap();
        asked[minute.min(asked.len() - 1)] += 1;
    }
    let of_hour = |hour: usize| -> u32 { asked[hour * 60..][..60].iter().sum() };
    let hours = [0, 1, 2, 3, 4, 5].map(of_hour);
    let share = FLEET / 6;
    assert!(hours.iter().all(|it| *it < 2 * share), "{hours:?}");
    let busiest = asked[..asked.len() - 1].iter().max().unwrap();
    assert!(*busiest < 3 * FLEET / (6 * 60), "{busiest} in a minute");
}

#[test]
fn a_clock_that_was_turned_back_asks_again() {
    let core = told(3, FIRST + 5);
    assert!(core.growth_due(FIRST + 29, hour_of(&core, FIRST)));
}
