#![allow(clippy::unwrap_used)]
use super::*;
use crate::testing::{Issue, Signer, rank, terminal};
use protocol::schedule::NfcPace;
use protocol::window::{EPOCH_MS, NfcWindows};

const FIRST: u32 = 500_000;

fn opens(epoch: u32) -> Timestamp {
    EpochClock::of(terminal(1)).opens(epoch)
}

fn followed(epochs: std::ops::Range<u32>) -> Rotation {
    let mut rotation = Rotation::new(terminal(1));
    give(&mut rotation, &Issue::new(1), epochs, Fetch::Whole).unwrap();
    rotation
}

fn give(
    rotation: &mut Rotation,
    issue: &Issue,
    epochs: std::ops::Range<u32>,
    fetch: Fetch,
) -> Result<Followed, NotFollowed> {
    rotation.handle_schedule(&issue.epochs(epochs), fetch, &Signer::new(1).keys(), None)
}

#[test]
fn a_day_of_rotations_shows_at_every_moment_the_token_the_authority_would_accept() {
    let mut rotation = followed(FIRST..FIRST + 24);
    rotation.handle_turns(&[]);
    let issue = Issue::new(1);
    let (mut now, end) = (opens(FIRST), opens(FIRST + 24));
    let (mut moments, mut changes) = (0, 0);
    while now < end {
        let faces = rotation.poll(now);
        for channel in Channel::ALL {
            let face = faces.of(channel).as_ref().unwrap();
            assert!(face.opens <= now && now < face.closes);
            let key = issue.entry(face.window.epoch).key;
            let right = match channel {
                Channel::Code => {
                    TypedCode::new(terminal(1), key.code(face.window.window, 0)).shown()
                }
                _ => LinkHost::parse("pay.example")
                    .unwrap()
                    .link(terminal(1), &key.token(channel, face.window.window, 0)),
            };
            assert_eq!(face.text(), right);
            changes += usize::from(face.opens == now);
        }
        let next = rotation.poll_timeout(now).unwrap();
        assert!(next > now);
        now = next;
        moments += 1;
    }
    assert!(
        moments > 24 * 90 && changes >= moments,
        "{moments} {changes}"
    );
}

#[test]
fn a_turn_changes_the_token_at_once_and_an_earlier_one_changes_nothing() {
    let mut rotation = followed(FIRST..FIRST + 2);
    rotation.handle_turns(&[]);
    let now = opens(FIRST) + 1;
    let before = rotation.poll(now);
    let window = before.qr.as_ref().unwrap().window;
    rotation.handle_turns(&[TurnState { window, turn: 2 }]);
    let after = rotation.poll(now);
    assert_eq!(after.qr.as_ref().unwrap().turn, 2);
    assert_ne!(after.qr, before.qr);
    assert_eq!((after.nfc, after.code), (before.nfc, before.code));
    rotation.handle_turns(&[TurnState { window, turn: 1 }]);
    assert_eq!(rotation.poll(now).qr, after.qr);
}

#[test]
fn turns_of_another_terminal_change_nothing() {
    let mut rotation = followed(FIRST..FIRST + 1);
    rotation.handle_turns(&[]);
    let now = opens(FIRST);
    let before = rotation.poll(now);
    let mut window = before.qr.as_ref().unwrap().window;
    window.terminal = terminal(2);
    rotation.handle_turns(&[TurnState { window, turn: 9 }]);
    assert_eq!(rotation.poll(now), before);
}

#[test]
fn after_a_restart_offline_each_channel_is_blank_until_its_next_boundary() {
    let mut rotation = followed(FIRST..FIRST + 2);
    let start = opens(FIRST) + 1_000;
    let mut boundaries = Vec::new();
    for shows in
        [Channel::Nfc, Channel::Qr, Channel::Code].map(|c| rotation.poll(start).of(c).clone())
    {
        let Err(Blank::UntilBoundary { at }) = shows else {
            panic!("{shows:?}")
        };
        boundaries.push(at);
    }
    for (channel, at) in [Channel::Nfc, Channel::Qr, Channel::Code]
        .into_iter()
        .zip(boundaries)
    {
        assert!(rotation.poll(at - 1).of(channel).is_err());
        assert!(rotation.poll(at).of(channel).is_ok());
    }
}

#[test]
fn the_authoritys_word_ends_the_doubt_after_a_restart() {
    let mut rotation = followed(FIRST..FIRST + 1);
    assert!(rotation.poll(opens(FIRST)).qr.is_err());
    rotation.handle_turns(&[]);
    assert!(rotation.poll(opens(FIRST)).qr.is_ok());
}

#[test]
fn past_the_horizon_and_before_it_everything_is_blank_and_says_why() {
    let mut rotation = followed(FIRST..FIRST + 2);
    rotation.handle_turns(&[]);
    let ended = opens(FIRST + 2);
    assert!(rotation.poll(ended - 1).nfc.is_ok());
    let past = Blank::PastHorizon { ended };
    assert_eq!(rotation.poll(ended), Faces::blank(past));
    assert_eq!(rotation.poll(ended + 100 * EPOCH_MS), Faces::blank(past));
    let mut early = followed(FIRST..FIRST + 1);
    let begins = opens(FIRST);
    assert_eq!(
        early.poll(begins - 1),
        Faces::blank(Blank::BeforeSchedule { begins })
    );
    assert_eq!(early.poll_timeout(begins - 1), Some(begins));
}

#[test]
fn a_lower_sequence_is_refused_also_that_of_an_earlier_run() {
    let mut rotation = followed(FIRST..FIRST + 1);
    let lower = NotFollowed::Schedule(BadSchedule::Sequence);
    assert_eq!(
        give(
            &mut rotation,
            &Issue::new(0),
            FIRST..FIRST + 1,
            Fetch::Whole
        ),
        Err(lower)
    );
    let mut fresh = Rotation::new(terminal(1));
    let response = Issue::new(6).epochs(FIRST..FIRST + 1);
    let keys = Signer::new(1).keys();
    let refused = fresh.handle_schedule(&response, Fetch::Whole, &keys, Some(rank(7)));
    assert_eq!(refused, Err(lower));
    assert_eq!(fresh.poll(opens(FIRST)), Faces::blank(Blank::NoSchedule));
}

#[test]
fn a_wrong_key_a_missing_key_a_stranger_and_another_terminal_are_refused() {
    let mut rotation = followed(FIRST..FIRST + 1);
    let before = rotation.poll(opens(FIRST));
    let keys = Signer::new(1).keys();
    let mut bent = Issue::new(2).epochs(FIRST..FIRST + 2);
    bent.epoch_keys[1].key = Issue::new(2).entry(FIRST).key;
    let mut missing = Issue::new(2).epochs(FIRST..FIRST + 2);
    missing.epoch_keys.pop();
    let mut stranger = Issue::new(2);
    stranger.signer = Signer::new(2);
    let mut foreign = Issue::new(2);
    foreign.terminal = terminal(2);
    for (response, why) in [
        (bent, NotFollowed::Key { epoch: FIRST + 1 }),
        (missing, NotFollowed::KeyMissing { epoch: FIRST + 1 }),
        (
            stranger.epochs(FIRST..FIRST + 1),
            NotFollowed::Signature(BadJws::UnknownKey),
        ),
        (
            foreign.epochs(FIRST..FIRST + 1),
            NotFollowed::Schedule(BadSchedule::Terminal),
        ),
    ] {
        let refused = rotation.handle_schedule(&response, Fetch::Whole, &keys, None);
        assert_eq!(refused, Err(why));
    }
    assert_eq!(rotation.poll(opens(FIRST)), before);
}

#[test]
fn a_renewal_extends_the_horizon_and_keeps_what_is_shown() {
    let mut rotation = followed(FIRST..FIRST + 2);
    rotation.handle_turns(&[]);
    let before = rotation.poll(opens(FIRST));
    let renewed = give(
        &mut rotation,
        &Issue::new(2),
        FIRST + 2..FIRST + 3,
        Fetch::After(FIRST + 1),
    );
    assert_eq!(renewed, Ok(Followed::Yes));
    assert_eq!(rotation.poll(opens(FIRST)), before);
    assert_eq!(rotation.horizon(opens(FIRST)), Some(opens(FIRST + 3)));
}

#[test]
fn a_renewal_under_another_policy_wants_the_whole_horizon_anew() {
    let mut rotation = followed(FIRST..FIRST + 2);
    let mut issue = Issue::new(2);
    issue.policy.qr.shortest_ms = 10_000;
    let renewed = give(
        &mut rotation,
        &issue,
        FIRST + 2..FIRST + 3,
        Fetch::After(FIRST + 1),
    );
    assert_eq!(renewed, Ok(Followed::FetchWhole));
    assert!(rotation.poll(opens(FIRST)).qr.is_err());
}

#[test]
fn a_slower_pace_begins_with_its_epoch_and_what_was_held_stays_as_it_is() {
    let mut rotation = followed(FIRST..FIRST + 2);
    rotation.handle_turns(&[]);
    let before = rotation.poll(opens(FIRST));
    let mut issue = Issue::new(2);
    let windows = NfcWindows {
        shortest_ms: 600_000,
        longest_ms: 1_200_000,
    };
    issue.nfc_paces = vec![NfcPace {
        from_epoch: FIRST + 3,
        windows,
    }];
    let renewed = give(
        &mut rotation,
        &issue,
        FIRST + 2..FIRST + 5,
        Fetch::After(FIRST + 1),
    );
    assert_eq!(renewed, Ok(Followed::Yes));
    assert_eq!(rotation.poll(opens(FIRST)), before);
    for (epoch, longest) in [(0, 360_000), (1, 360_000), (2, 360_000), (3, 1_200_000)] {
        let nfc = rotation.nfc(opens(FIRST + epoch)).unwrap();
        assert_eq!(nfc.longest_ms, longest, "{epoch}");
        let mut now = opens(FIRST + epoch);
        while now < opens(FIRST + epoch + 1) {
            let face = rotation.poll(now).nfc.unwrap();
            assert!(face.length_ms() >= nfc.shortest_ms && face.length_ms() <= longest);
            now = face.closes;
        }
    }
    // The next schedule tells the same and no change; what is held stays.
    issue.sequence = 3;
    issue.nfc_paces[0].from_epoch = FIRST + 5;
    let renewed = give(
        &mut rotation,
        &issue,
        FIRST + 5..FIRST + 6,
        Fetch::After(FIRST + 4),
    );
    assert_eq!(renewed, Ok(Followed::Yes));
    assert_eq!(
        rotation.nfc(opens(FIRST + 4)).unwrap().longest_ms,
        1_200_000
    );
    assert_eq!(rotation.nfc(opens(FIRST + 6)), None);
}

#[test]
fn another_generation_counts_its_turns_anew() {
    let mut rotation = followed(FIRST..FIRST + 1);
    rotation.handle_turns(&[]);
    let window = rotation.poll(opens(FIRST)).qr.unwrap().window;
    rotation.handle_turns(&[TurnState { window, turn: 5 }]);
    let mut issue = Issue::new(2);
    issue.generation = 2;
    rotation.handle_silence();
    give(&mut rotation, &issue, FIRST..FIRST + 1, Fetch::Whole).unwrap();
    assert_eq!(rotation.poll(opens(FIRST)).qr.unwrap().turn, 0);
}

#[test]
fn turns_that_were_heard_before_the_schedule_of_a_new_generation_count_in_it() {
    let mut rotation = followed(FIRST..FIRST + 1);
    rotation.handle_turns(&[]);
    let window = rotation.poll(opens(FIRST)).qr.unwrap().window;
    rotation.handle_turns(&[TurnState { window, turn: 5 }]);
    rotation.handle_silence();
    rotation.handle_turns(&[TurnState { window, turn: 2 }]);
    let mut issue = Issue::new(2);
    issue.generation = 2;
    give(&mut rotation, &issue, FIRST..FIRST + 1, Fetch::Whole).unwrap();
    assert_eq!(rotation.poll(opens(FIRST)).qr.unwrap().turn, 2);
}

#[test]
fn a_face_does_not_print_its_token() {
    let mut rotation = followed(FIRST..FIRST + 1);
    rotation.handle_turns(&[]);
    let face = rotation.poll(opens(FIRST)).qr.unwrap();
    assert!(!format!("{face:?}").contains("pay.example"));
}
