//! What is shown without the authority: for a day, after a sleep, with a wrong clock, with bad schedules?
#![allow(clippy::unwrap_used)]
use super::*;
use crate::tag_plan::{TagPlan, TagStep};
use crate::testing::{Issue, Signer, frame, rank, terminal};
use protocol::code::TypedCode;
use protocol::link::LinkHost;
use protocol::schedule::BadSchedule;
use protocol::token::Channel;
use protocol::window::EpochClock;

const FIRST: u32 = 500_000;
/// The horizon an authority gives unless told otherwise.
const DAY: u32 = 24;
const HOUR: Millis = 3_600_000;

fn opens(epoch: u32) -> Timestamp {
    EpochClock::of(terminal(1)).opens(epoch)
}

/// Follows a day's schedule and has heard the authority once, at the beginning of it.
fn for_a_day() -> Core {
    let mut core = Core::resume(terminal(1), Resumed::default());
    core.handle_keys(Signer::new(1).keys(), opens(FIRST));
    let response = Issue::new(1).epochs(FIRST..FIRST + DAY);
    let followed = core.handle_schedule(response, Fetch::Whole, opens(FIRST));
    followed.1.unwrap();
    core.handle_connected();
    core.handle_state(frame(1, opens(FIRST), None), opens(FIRST));
    core
}

fn away(is_stranger: bool) -> Away {
    Away {
        is_stranger,
        words: "nobody answers".into(),
    }
}

/// Whether every channel shows the token of this moment and of no other.
fn assert_right(board: &Board, now: Timestamp) {
    let issue = Issue::new(1);
    for channel in Channel::ALL {
        let face = board.faces.of(channel).as_ref().unwrap();
        assert!(face.opens <= now && now < face.closes, "{channel} {now}");
        let key = issue.entry(face.window.epoch).key;
        let right = match channel {
            Channel::Code => TypedCode::new(terminal(1), key.code(face.window.window, 0)).shown(),
            _ => {
                let token = key.token(channel, face.window.window, 0);
                LinkHost::parse("pay.example")
                    .unwrap()
                    .link(terminal(1), &token)
            }
        };
        assert_eq!(face.text(), right, "{channel} {now}");
    }
}

fn assert_blank(board: &Board) {
    for channel in Channel::ALL {
        assert!(board.faces.of(channel).is_err(), "{channel}");
    }
}

#[test]
fn a_day_without_the_authority_shows_every_token_then_none_and_comes_back_without_hands() {
    let mut core = for_a_day();
    core.handle_disconnected();
    core.handle_away(away(false));
    let mut tag = TagPlan::default();
    let (mut now, ended) = (opens(FIRST), opens(FIRST + DAY));
    let (mut moments, mut written) = (0, 0);
    while now < ended {
        let board = core.poll(Some(now));
        assert_right(&board, now);
        assert_eq!(board.shown.name(), "offline");
        assert_eq!(board.horizon, Some(ended));
        if let Some(step) = tag.poll(&board.faces.nfc, now.ms()) {
            assert!(matches!(step, TagStep::Show(_)));
            tag.done(&step, &board.faces.nfc, now.ms());
            written += 1;
        }
        // The moment before the boundary still shows what is right then.
        let next = core.poll_timeout(now).unwrap();
        assert_right(&core.poll(Some(next + -1)), next + -1);
        now = next;
        moments += 1;
    }
    assert!(
        moments > 24 * 90 && (240..=480).contains(&written),
        "{moments} {written}"
    );

    // Past the horizon: nothing anywhere, and words.
    for later in [ended, ended + 1, ended + 60 * HOUR] {
        let board = core.poll(Some(later));
        assert_blank(&board);
        assert_eq!(board.shown.name(), "out-of-service");
        assert!(format!("{:?}", board.shown).contains("the schedule ended at"));
    }
    let blank = core.poll(Some(ended)).faces.nfc;
    assert_eq!(tag.poll(&blank, ended.ms()), Some(TagStep::Blank));

    // The authority is back: nobody does anything.
    let back = ended + 7 * HOUR;
    let epoch = core.rotation.epoch_at(back);
    core.handle_connected();
    core.handle_state(frame(2, back, None), back);
    assert_eq!(core.poll_errand(back), Some(Errand::Schedule(Fetch::Whole)));
    let response = Issue::new(2).epochs(epoch..epoch + DAY);
    core.handle_schedule(response, Fetch::Whole, back)
        .1
        .unwrap();
    let board = core.poll(Some(back));
    assert_right(&board, back);
    assert_eq!((board.shown.name(), board.online), ("idle", true));
    assert_eq!(board.away, None);
}

#[test]
fn the_first_look_after_any_sleep_shows_what_is_right_then_or_nothing() {
    for slept in [1, 40_001, HOUR, 23 * HOUR, 24 * HOUR, 60 * HOUR] {
        let mut core = for_a_day();
        assert_right(&core.poll(Some(opens(FIRST) + 1)), opens(FIRST) + 1);
        let resumed = opens(FIRST) + 1 + slept;
        let board = core.poll(Some(resumed));
        match slept < 24 * HOUR - 1 {
            true => assert_right(&board, resumed),
            false => assert_blank(&board),
        }
    }
}

#[test]
fn whoever_stands_in_the_authoritys_place_takes_no_token_from_the_screen() {
    let mut core = for_a_day();
    core.handle_disconnected();
    core.handle_away(away(true));
    let now = opens(FIRST) + HOUR;
    let board = core.poll(Some(now));
    assert_right(&board, now);
    assert_eq!(board.shown.name(), "offline");
    assert!(board.away.unwrap().is_stranger);
}

#[test]
fn a_start_offline_without_a_clock_that_can_be_trusted_shows_nothing() {
    let resumed = || Resumed {
        rank: Some(rank(1)),
        keys: Some(Signer::new(1).keys()),
        schedules: vec![(Issue::new(1).epochs(FIRST..FIRST + DAY), Fetch::Whole)],
        ..Resumed::default()
    };
    let mut core = Core::resume(terminal(1), resumed());
    let board = core.poll(None);
    assert_blank(&board);
    assert_eq!(board.shown.name(), "starting");
    // A clock that is a day off, either way, is outside of what there is.
    for wrong in [opens(FIRST) + -24 * HOUR, opens(FIRST) + 24 * HOUR] {
        let mut core = Core::resume(terminal(1), resumed());
        let board = core.poll(Some(wrong));
        assert_blank(&board);
        assert_eq!(board.shown.name(), "out-of-service");
    }
}

/// Fed as the answer to a fetch; `why` it is refused, and everything goes on as it was.
fn assert_refused(core: &mut Core, response: ScheduleResponse, why: NotFollowed) {
    let now = opens(FIRST) + HOUR;
    let before = core.poll(Some(now)).faces;
    let (saves, refused) = core.handle_schedule(response, Fetch::Whole, now);
    assert_eq!(refused, Err(why));
    assert!(saves.is_empty(), "{why}: nothing of it is kept");
    assert_eq!(core.poll(Some(now)).faces, before, "{why}");
    assert_eq!(core.rotation.rank(), Some(rank(5)), "{why}");
}

#[test]
fn a_schedule_that_is_old_foreign_replayed_retired_or_out_of_bounds_changes_nothing() {
    let mut core = Core::resume(terminal(1), Resumed::default());
    let both = JwkSet {
        keys: [Signer::new(1).keys().keys, Signer::new(2).keys().keys].concat(),
    };
    core.handle_keys(both, opens(FIRST));
    let day = FIRST..FIRST + DAY;
    let replayed = || Issue::new(4).epochs(day.clone());
    for response in [replayed(), Issue::new(5).epochs(day.clone())] {
        let now = opens(FIRST);
        core.handle_schedule(response, Fetch::Whole, now).1.unwrap();
    }
    core.handle_connected();
    core.handle_state(frame(1, opens(FIRST), None), opens(FIRST));
    // The other key is retired.
    core.handle_keys(Signer::new(1).keys(), opens(FIRST));

    let bad = |why| NotFollowed::Schedule(why);
    assert_refused(&mut core, replayed(), bad(BadSchedule::Sequence));
    let restored = Issue {
        generation: 0,
        ..Issue::new(9)
    };
    assert_refused(
        &mut core,
        restored.epochs(day.clone()),
        bad(BadSchedule::Sequence),
    );
    let foreign = Issue {
        terminal: terminal(2),
        ..Issue::new(6)
    };
    assert_refused(
        &mut core,
        foreign.epochs(day.clone()),
        bad(BadSchedule::Terminal),
    );
    let retired = Issue {
        signer: Signer::new(2),
        ..Issue::new(6)
    };
    let unknown = NotFollowed::Signature(BadJws::UnknownKey);
    assert_refused(&mut core, retired.epochs(day.clone()), unknown);
    let endless = Issue::new(6).epochs(FIRST..FIRST + 169);
    assert_refused(&mut core, endless, bad(BadSchedule::Horizon));
    type Bend = fn(&mut Issue);
    let bends: [Bend; 4] = [
        |issue| issue.policy.qr.shortest_ms = 0,
        |issue| issue.policy.nfc.longest_ms = issue.policy.nfc.shortest_ms - 1,
        |issue| issue.policy.code.longest_ms = i64::MAX,
        |issue| issue.policy.qr.grace_ms = -1,
    ];
    for bend in bends {
        let mut issue = Issue::new(6);
        bend(&mut issue);
        assert_refused(
            &mut core,
            issue.epochs(day.clone()),
            bad(BadSchedule::Policy),
        );
    }
    let mut garbled = Issue::new(6).epochs(day.clone());
    garbled.schedule.replace_range(20..21, "!");
    let (saves, refused) = core.handle_schedule(garbled, Fetch::Whole, opens(FIRST));
    assert!(saves.is_empty() && matches!(refused, Err(NotFollowed::Signature(_))));
}

#[test]
fn a_push_from_the_past_changes_nothing_and_one_from_the_future_only_what_it_says() {
    let mut core = for_a_day();
    let now = opens(FIRST) + HOUR;
    core.handle_state(frame(7, now, None), now);
    let before = core.poll(Some(now));
    // Late within the stream, and as the first of a stream that an older process answers.
    assert!(core.handle_state(frame(6, now + -1, None), now).is_empty());
    core.handle_connected();
    assert!(core.handle_state(frame(6, now + -1, None), now).is_empty());
    assert_eq!(core.poll(Some(now)), before);
    // Whatever time it says, tokens follow the clock that is handed in.
    core.handle_state(frame(8, now + 365 * 24 * HOUR, None), now);
    assert_right(&core.poll(Some(now)), now);
}
