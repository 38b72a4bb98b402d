//! Which tags end, and at which pace are epochs told?

use authority::store::{NewSchedule, Pace, Pacing, Scheduled, WornTag};
use protocol::ids::{EventId, TerminalId};
use protocol::time::{Millis, Timestamp};
use protocol::token::Channel;
use protocol::wear::{DAY_MS, TagWear};
use protocol::window::NfcWindows;
use protocol::wire::reports::{Seen, SeenWindow, TerminalEvent};

use crate::world::{NOW, World, epoch_now, new_schedule, number};

fn wear(cycles: u32) -> TagWear {
    TagWear {
        cycles,
        endurance: 100_000,
        per_link: 2,
        cycles_per_day: 1_000,
    }
}

fn written(n: u32, uid: &str, at: Timestamp, wear: Option<TagWear>) -> TerminalEvent {
    let mut random = [0; 10];
    random[..4].copy_from_slice(&n.to_be_bytes());
    TerminalEvent {
        id: EventId::from_parts(NOW.ms() as u64, &random),
        at,
        what: Seen::TagWritten {
            tag_uid: uid.into(),
            pages: 11,
            window: SeenWindow {
                channel: Channel::Nfc,
                version: 1,
                epoch: 1,
                window: 1,
                turn: 0,
            },
            signs: None,
            wear,
            counter: None,
        },
    }
}

async fn tell(world: &World, terminal: TerminalId, event: TerminalEvent) -> Option<WornTag> {
    let stored = world.store.add_reports(terminal, vec![event.clone()], NOW);
    assert_eq!(stored.await, Ok(vec![event.id]));
    world.store.worn_tag(terminal).await.unwrap()
}

pub(crate) async fn a_tag_is_as_worn_as_was_told_last_and_a_lost_count_is_not_lost(world: &World) {
    let terminal = world.terminal(1).await;
    let tell = |n, uid, at, wear| tell(world, terminal, written(n, uid, at, wear));
    assert_eq!(tell(1, "04A1", NOW - 9, None).await, None);
    let tag = tell(2, "04A1", NOW - 8, Some(wear(500))).await.unwrap();
    assert_eq!((tag.uid.as_str(), tag.wear), ("04A1", wear(500)));
    assert_eq!(tag.replace_by, NOW - 8 + 89 * DAY_MS);
    // The same again, out of order, and what no terminal of ours tells.
    assert_eq!(
        tell(2, "04A1", NOW - 8, Some(wear(500))).await,
        Some(tag.clone())
    );
    assert_eq!(
        tell(3, "04A1", NOW - 9, Some(wear(400))).await,
        Some(tag.clone())
    );
    let mad = TagWear {
        per_link: 0,
        ..wear(1)
    };
    assert_eq!(tell(4, "04A1", NOW - 7, Some(mad)).await, Some(tag));
    // A terminal that lost its count begins at 0; one whose clock is ahead is taken for now.
    let tag = tell(5, "04A1", NOW + DAY_MS, Some(wear(2))).await.unwrap();
    assert_eq!((tag.wear.cycles, tag.at), (500, NOW));
    let tag = tell(6, "04A1", NOW, Some(wear(10))).await.unwrap();
    assert_eq!(tag.wear.cycles, 508);
    // One that was restored from an image of a moment before is not twice as worn for it.
    let tag = tell(7, "04A1", NOW, Some(wear(8))).await.unwrap();
    assert_eq!(tag.wear.cycles, 508);
    let tag = tell(8, "04A1", NOW, Some(wear(12))).await.unwrap();
    assert_eq!(tag.wear.cycles, 512);
    // Another tag has its own life.
    let tag = tell(9, "04A2", NOW, Some(wear(4))).await.unwrap();
    assert_eq!((tag.uid.as_str(), tag.wear.cycles), ("04A2", 4));
}

pub(crate) async fn a_tag_is_due_since_it_first_had_the_margin_left(world: &World) {
    let terminal = world.terminal(1).await;
    let tell = |n, uid, at, cycles| tell(world, terminal, written(n, uid, at, Some(wear(cycles))));
    let tag = tell(1, "04A1", NOW - 50, 89_999).await.unwrap();
    assert_eq!(tag.due_since, None);
    for (n, cycles) in [(2, 90_000), (3, 90_002), (4, 0), (5, 200_000)] {
        let tag = tell(n, "04A1", NOW - 50 + i64::from(n), cycles)
            .await
            .unwrap();
        assert_eq!(
            (tag.due_since, tag.replace_by),
            (Some(NOW - 48), NOW - 48),
            "{n}"
        );
    }
    assert_eq!(tell(6, "04A2", NOW, 0).await.unwrap().due_since, None);
}

pub(crate) async fn tags_end_in_their_order_page_after_page_and_banned_terminals_need_none(
    world: &World,
) {
    // In order of their end: 6, 5, ..., 1; 3 and 4 end together.
    let mut terminals = Vec::new();
    for n in 1..=6 {
        let terminal = world.terminal(n).await;
        let cycles = 10_000 * if n == 4 { 3 } else { n };
        tell(world, terminal, written(n, "04A1", NOW, Some(wear(cycles)))).await;
        terminals.push(terminal);
    }
    world.terminal(7).await;
    let banned = world.store.ban_terminal(terminals[4], "gone".into(), NOW);
    banned.await.unwrap();
    let at = |days: Millis| NOW + days * DAY_MS;
    let until = at(70);
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = world.store.ending_tags(until, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.tag.replace_by, last.tag.terminal));
        seen.extend(page.iter().map(|it| it.tag.terminal));
    }
    let mut together = [terminals[2], terminals[3]];
    together.sort();
    assert_eq!(seen, [terminals[5], together[0], together[1], terminals[1]]);
    let ends = vec![at(0), at(30), at(60), at(70)];
    let counts = world.store.count_ending_tags(ends).await.unwrap();
    assert_eq!(counts, [0, 1, 2, 1, 1]);
    let (first, last) = (
        terminals.iter().min().unwrap(),
        terminals.iter().max().unwrap(),
    );
    let tags = world.store.worn_tags(*first, *last).await.unwrap();
    assert_eq!(tags.len(), 6);
}

fn minutes(longest: i64) -> Option<NfcWindows> {
    Some(NfcWindows {
        shortest_ms: longest * 30_000,
        longest_ms: longest * 60_000,
    })
}

/// Records a schedule; answers which paces there are then, by how much later than now they begin.
async fn paced(
    world: &World,
    terminal: TerminalId,
    epochs: (u32, u32),
    pacing: Pacing,
    at: Timestamp,
) -> Vec<(i64, Option<NfcWindows>)> {
    let schedule = NewSchedule {
        pacing,
        at,
        ..new_schedule(terminal, epochs.0, epochs.1)
    };
    let recorded = world.store.record_schedule(schedule).await.unwrap();
    let paces = world.store.paces(terminal).await.unwrap();
    assert!(
        matches!(&recorded, Scheduled::Under { paces: told, .. } if *told == paces),
        "{recorded:?}"
    );
    let present = i64::from(epoch_now(terminal));
    let told = |pace: &Pace| (i64::from(pace.from_epoch) - present, pace.windows);
    paces.iter().map(told).collect()
}

pub(crate) async fn what_was_told_keeps_its_pace_and_what_was_not_gets_the_new_one(world: &World) {
    let terminal = world.terminal(1).await;
    let now = epoch_now(terminal);
    let issue = |epochs: (u32, u32), windows| {
        paced(
            world,
            terminal,
            (now + epochs.0, now + epochs.1),
            Pacing::Set(windows),
            NOW,
        )
    };
    assert_eq!(issue((0, 24), None).await, []);
    // All of it was told: nothing may change.
    assert_eq!(issue((0, 24), minutes(10)).await, []);
    assert_eq!(issue((5, 20), minutes(10)).await, []);
    let ten = (25, minutes(10));
    assert_eq!(issue((0, 25), minutes(10)).await, [ten]);
    assert_eq!(issue((0, 26), minutes(10)).await, [ten]);
    assert_eq!(issue((26, 26), minutes(15)).await, [ten]);
    let fifteen = (27, minutes(15));
    assert_eq!(issue((26, 30), minutes(15)).await, [ten, fifteen]);
    assert_eq!(issue((0, 30), None).await, [ten, fifteen]);
    let over = (31, None);
    assert_eq!(issue((30, 31), None).await, [ten, fifteen, over]);
    let kinds = world.audit_kinds().await;
    assert_eq!(kinds.iter().filter(|k| *k == "schedule.paced").count(), 3);
}

pub(crate) async fn paces_that_nothing_is_judged_by_any_more_are_forgotten(world: &World) {
    let terminal = world.terminal(1).await;
    let now = epoch_now(terminal);
    let issue = |hours: u32, windows| {
        let at = NOW + i64::from(hours) * 3_600_000;
        paced(
            world,
            terminal,
            (now + hours, now + hours + 1),
            Pacing::Set(windows),
            at,
        )
    };
    assert_eq!(issue(0, minutes(10)).await, [(0, minutes(10))]);
    let both = [(0, minutes(10)), (2, minutes(15))];
    assert_eq!(issue(1, minutes(15)).await, both);
    // Tokens of the hours before may still be judged.
    assert_eq!(issue(3, minutes(15)).await, both);
    assert_eq!(issue(4, minutes(15)).await, [(2, minutes(15))]);
    for hours in 5..60 {
        let paces = issue(hours, minutes(i64::from(hours))).await;
        assert!(paces.len() <= 5, "{hours}: {paces:?}");
    }
}

pub(crate) async fn a_terminal_that_follows_no_paces_gets_none_from_its_schedule_on(world: &World) {
    let terminal = world.terminal(1).await;
    let now = epoch_now(terminal);
    let issue = |epochs: (u32, u32), pacing| {
        paced(
            world,
            terminal,
            (now + epochs.0, now + epochs.1),
            pacing,
            NOW,
        )
    };
    assert_eq!(issue((0, 24), Pacing::Ended).await, []);
    issue((0, 30), Pacing::Set(minutes(10))).await;
    issue((0, 40), Pacing::Set(minutes(15))).await;
    assert_eq!(issue((0, 40), Pacing::Ended).await, [(0, None)]);
    assert_eq!(issue((1, 50), Pacing::Ended).await, [(0, None)]);
    let again = [(0, None), (51, minutes(10))];
    assert_eq!(issue((0, 60), Pacing::Set(minutes(10))).await, again);
    let other = world.terminal(2).await;
    assert_eq!(world.store.paces(other).await, Ok(Vec::new()));
    assert_ne!(other, number(1));
}
