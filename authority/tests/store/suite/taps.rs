//! Do reads of a tag explain claims, and what rings when they do not?

use authority::store::tap_rules::DAYS_KEPT;
use authority::store::{
    CLOSED_ALARMS_KEPT_MS, Claim, ClaimOutcome, JUDGE_AFTER_MS, JUDGE_DAY_EVERY_MS, KeyPurpose,
    Moment, SPAN_EPOCHS_MAX, Source, TAPS_AROUND_MS, TagAdded, TagAlarm, TagAlarmKind, day_of,
};
use pki::lifecycle::KeyState;
use protocol::ids::{ChargeId, EventId, TerminalId};
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TerminalEvent};

use crate::suite::rotation::add_key;
use crate::suite::tags;
use crate::world::{NOW, World, live, new_schedule};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// A terminal that reports, and the counter of its tag.
struct Agent<'a> {
    world: &'a World,
    terminal: TerminalId,
    uid: &'static str,
    /// What is on the tag now, from its own count on.
    window: WindowId,
}

impl<'a> Agent<'a> {
    /// A terminal whose tag was counted before, with the window of [`NOW`] on it, its counter left at 10.
    async fn new(world: &'a World, n: u32) -> Self {
        let terminal = world.terminal(n).await;
        let window = live(terminal, Channel::Nfc, 0).token().window;
        issue(world, terminal, window.epoch + 30).await;
        let agent = Self {
            world,
            terminal,
            uid: "04A1",
            window,
        };
        let before = WindowId {
            epoch: window.epoch - 1,
            ..window
        };
        agent.writes(before, None, 5).await;
        agent.writes(window, Some(5), 10).await;
        agent
    }

    async fn reports(&self, what: Seen, at: Timestamp) {
        let parts = self.world.charge_id().0;
        let events = vec![TerminalEvent {
            id: EventId(parts),
            at,
            what,
        }];
        let stored = self.world.store.add_reports(self.terminal, events, NOW);
        assert_eq!(stored.await.unwrap().len(), 1);
    }

    async fn writes(&self, window: WindowId, found: Option<u32>, left: u32) {
        self.writes_or_not(window, Some(TagCounter { found, left }))
            .await;
    }

    /// The same for another link of the window.
    async fn writes_turn(&self, turn: u16, found: u32, left: u32) {
        let window = SeenWindow {
            turn,
            ..seen(self.window)
        };
        let counter = TagCounter {
            found: Some(found),
            left,
        };
        let what = Seen::TagWritten {
            tag_uid: self.uid.into(),
            pages: 3,
            window,
            signs: None,
            wear: None,
            counter: Some(counter),
        };
        self.reports(what, NOW).await;
    }

    async fn writes_or_not(&self, window: WindowId, counter: Option<TagCounter>) {
        let what = Seen::TagWritten {
            tag_uid: self.uid.into(),
            pages: 3,
            window: seen(window),
            signs: None,
            wear: None,
            counter,
        };
        self.reports(what, NOW).await;
    }

    fn next(&self) -> WindowId {
        WindowId {
            window: self.window.window + 1,
            ..self.window
        }
    }

    /// Phones read it so often, and nothing else is known of the visit.
    async fn read(&self, count: u32, at: Timestamp) {
        let what = Seen::Tap {
            tag_uid: self.uid.into(),
            count,
            window: Some(seen(self.window)),
            counter: None,
        };
        self.reports(what, at).await;
    }

    async fn claims(&self, times: u32) -> ChargeId {
        for n in 0..times {
            let charge = self.world.start(self.terminal, 420).await;
            let claim = self.world.claimed(self.terminal).await.claimed.claim;
            if n + 1 == times {
                return charge;
            }
            let released = self.world.store.release_claim(claim, Vec::new(), NOW);
            assert_eq!(released.await, Ok(true));
            let cancelled = protocol::wire::push::EndReason::Cancelled;
            let ended = self
                .world
                .store
                .end_charge(charge, cancelled, Vec::new(), NOW);
            ended.await.unwrap();
        }
        panic!("no claims")
    }

    async fn alarms(&self) -> Vec<TagAlarm> {
        let all = self.world.store.tag_alarms(None, false, 99).await.unwrap();
        let own = |alarm: &TagAlarm| alarm.terminal == self.terminal;
        all.into_iter().filter(own).collect()
    }

    async fn kinds(&self) -> Vec<TagAlarmKind> {
        self.alarms().await.iter().map(|alarm| alarm.kind).collect()
    }
}

/// A schedule that holds the epochs until this one.
async fn issue(world: &World, terminal: TerminalId, last: u32) {
    let schedule = new_schedule(terminal, last, last);
    world.store.record_schedule(schedule).await.unwrap();
}

fn seen(window: WindowId) -> SeenWindow {
    SeenWindow {
        channel: window.channel,
        version: window.version,
        epoch: window.epoch,
        window: window.window,
        turn: 0,
    }
}

async fn judge(world: &World, at: Timestamp) {
    while world.store.reconcile_taps(at, 2).await.unwrap().more {}
}

pub(crate) async fn a_claim_rings_without_a_read_and_only_once_the_terminal_is_past_its_window(
    world: &World,
) {
    let agent = Agent::new(world, 1).await;
    agent.claims(2).await;
    judge(world, NOW + 30 * DAY).await;
    assert_eq!(agent.kinds().await, [], "it is offline: nobody knows");
    agent.writes(agent.next(), Some(11), 12).await;
    judge(world, NOW + JUDGE_AFTER_MS - 1).await;
    assert_eq!(agent.kinds().await, [], "a phone may still claim");
    judge(world, NOW + JUDGE_AFTER_MS).await;
    let alarms = agent.alarms().await;
    assert_eq!(agent.kinds().await, [TagAlarmKind::ClaimsWithoutTaps]);
    assert_eq!(alarms[0].times, 1);
    let reason = &alarms[0].reason;
    assert!(reason.contains("2 claims and 1 reads"), "{reason}");
    judge(world, NOW + 2 * DAY).await;
    assert_eq!(agent.alarms().await, alarms, "judged once");
    let raised = world.audit_kinds().await;
    let raised = raised.iter().filter(|kind| *kind == "tag-alarm.raised");
    assert_eq!(raised.count(), 1);
}

pub(crate) async fn claims_that_were_read_do_not_ring(world: &World) {
    let agent = Agent::new(world, 1).await;
    agent.claims(2).await;
    // The tag is written again within the window, because its token was spent.
    agent.writes(agent.window, Some(11), 12).await;
    agent.writes(agent.next(), Some(13), 14).await;
    judge(world, NOW + DAY).await;
    assert_eq!(agent.kinds().await, []);
}

/// Its counter stands still, as of a reader that passes no native commands on.
pub(crate) async fn a_read_that_the_tag_signed_explains_its_claim(world: &World) {
    let agent = Agent::new(world, 1).await;
    add_key(world, KeyPurpose::Tag, KeyState::Active, 1).await;
    let uid = tags::uid(1);
    assert_eq!(
        tags::add(world, agent.terminal, uid, 1).await,
        TagAdded::Added
    );
    let charge = world.start(agent.terminal, 420).await;
    let claim = Claim {
        tap: Some(tags::tap(uid, 1, 7)),
        ..world.claim_of(world.shown(agent.terminal, Channel::Nfc).await)
    };
    let claimed = world.store.claim(claim).await.unwrap();
    assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
    agent.writes(agent.next(), Some(10), 10).await;
    judge(world, NOW + DAY).await;
    assert_eq!(agent.kinds().await, []);

    let dispute = world.store.dispute(charge.0).await.unwrap().unwrap();
    let of = |what: &str| dispute.moments.iter().find(|it| it.what == what).unwrap();
    let signed = &of("tag signed this read").facts;
    assert_eq!(
        (&*signed["tag"], &*signed["counter"]),
        (&*uid.to_string(), "7")
    );
    let says = &of("reads that explain the claim").facts;
    assert_eq!(says["says"], "the tag itself signed this read");
}

pub(crate) async fn what_the_tag_signed_needs_no_count_to_be_explained(world: &World) {
    add_key(world, KeyPurpose::Tag, KeyState::Active, 1).await;
    let does_not_count = Agent::new(world, 1).await;
    let silent = world.terminal(2).await;
    for (n, terminal) in [(1, does_not_count.terminal), (2, silent)] {
        let uid = tags::uid(n);
        assert_eq!(tags::add(world, terminal, uid, 1).await, TagAdded::Added);
        let charge = world.start(terminal, 420).await;
        let claim = Claim {
            tap: Some(tags::tap(uid, 1, 7)),
            ..world.claim_of(world.shown(terminal, Channel::Nfc).await)
        };
        let claimed = world.store.claim(claim).await.unwrap();
        assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
        if n == 1 {
            let next = does_not_count.next();
            does_not_count.writes_or_not(next, None).await;
        }
        let dispute = world.store.dispute(charge.0).await.unwrap().unwrap();
        let explained = |it: &&Moment| it.what == "reads that explain the claim";
        let explained = dispute.moments.iter().find(explained).unwrap();
        assert_eq!(explained.facts["says"], "the tag itself signed this read");
    }
}

/// It says that a link came from an hour far ahead.
pub(crate) async fn a_window_that_was_never_issued_is_no_link_of_a_tag(world: &World) {
    let agent = Agent::new(world, 1).await;
    let charge = agent.claims(1).await;
    let never = WindowId {
        epoch: u32::MAX,
        ..agent.window
    };
    agent.writes(never, Some(10), 11).await;
    judge(world, NOW + JUDGE_AFTER_MS).await;
    assert_eq!(agent.kinds().await, []);
    assert!(says_of(world, charge).await.contains("has not told yet"));
    agent.writes(agent.next(), Some(12), 13).await;
    judge(world, NOW + JUDGE_AFTER_MS).await;
    assert_eq!(agent.kinds().await, [], "its reads count all the same");
    assert!(
        says_of(world, charge)
            .await
            .contains("at the tag for every")
    );
}

pub(crate) async fn a_link_that_was_on_the_tag_too_long_says_nothing(world: &World) {
    let agent = Agent::new(world, 1).await;
    let charge = agent.claims(1).await;
    let later = WindowId {
        epoch: agent.window.epoch + SPAN_EPOCHS_MAX + 1,
        ..agent.window
    };
    issue(world, agent.terminal, u32::MAX).await;
    agent.writes(later, Some(10), 11).await;
    judge(world, NOW + JUDGE_AFTER_MS).await;
    assert_eq!(agent.kinds().await, []);
    let says = says_of(world, charge).await;
    assert!(says.contains("too long; nothing follows"), "{says}");
}

async fn says_of(world: &World, charge: ChargeId) -> String {
    let dispute = world.store.dispute(charge.0).await.unwrap().unwrap();
    let explained = |it: &&Moment| it.what == "reads that explain the claim";
    let explained = dispute.moments.iter().find(explained).unwrap();
    explained.facts["says"].clone()
}

pub(crate) async fn a_claim_of_another_channel_needs_no_read(world: &World) {
    let agent = Agent::new(world, 1).await;
    world.start(agent.terminal, 420).await;
    let claimed = world.claim(agent.terminal, Channel::Qr).await;
    assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
    // Windows of the other channels have numbers of their own, all in this hour.
    let next = WindowId {
        epoch: agent.window.epoch + 1,
        window: 0,
        ..agent.window
    };
    agent.writes(next, Some(10), 11).await;
    judge(world, NOW + DAY).await;
    assert_eq!(agent.kinds().await, []);
}

pub(crate) async fn reads_of_one_link_explain_no_claim_of_the_next(world: &World) {
    let agent = Agent::new(world, 1).await;
    agent.claims(2).await;
    agent.writes_turn(1, 15, 16).await;
    agent.writes(agent.next(), Some(16), 17).await;
    judge(world, NOW + DAY).await;
    let alarms = agent.alarms().await;
    assert_eq!(alarms.len(), 1);
    let reason = &alarms[0].reason;
    assert!(
        reason.contains("1 claims and 0 reads while turn 1"),
        "{reason}"
    );
}

pub(crate) async fn after_a_failed_visit_reads_count_for_both_links(world: &World) {
    let agent = Agent::new(world, 1).await;
    agent.claims(2).await;
    // It had written the next link, and a phone read that.
    let reason = "the tag was taken away".into();
    agent.reports(Seen::TagFailed { reason }, NOW).await;
    agent.writes_turn(1, 13, 14).await;
    agent.writes(agent.next(), Some(14), 15).await;
    judge(world, NOW + DAY).await;
    assert_eq!(agent.kinds().await, []);
}

pub(crate) async fn what_was_not_counted_does_not_ring(world: &World) {
    let cannot_count = Agent::new(world, 1).await;
    cannot_count.writes_or_not(cannot_count.window, None).await;
    cannot_count.claims(1).await;
    cannot_count.writes_or_not(cannot_count.next(), None).await;

    let lost_its_memory = Agent::new(world, 2).await;
    lost_its_memory.claims(1).await;
    let next = lost_its_memory.next();
    lost_its_memory.writes(next, None, 40).await;

    let mut exchanged = Agent::new(world, 3).await;
    exchanged.claims(1).await;
    exchanged.uid = "04B2";
    exchanged.writes(exchanged.next(), None, 1).await;

    let begins = world.terminal(4).await;
    let window = live(begins, Channel::Nfc, 0).token().window;
    issue(world, begins, window.epoch).await;
    let begins = Agent {
        world,
        terminal: begins,
        uid: "04A1",
        window,
    };
    begins.claims(1).await;
    begins.writes(window, None, 10).await;
    begins.writes(begins.next(), Some(10), 11).await;

    judge(world, NOW + DAY).await;
    for agent in [cannot_count, lost_its_memory, exchanged, begins] {
        assert_eq!(agent.kinds().await, [], "{:?}", agent.terminal);
    }
}

pub(crate) async fn a_counter_that_went_back_rings_unless_it_is_known_to_begin(world: &World) {
    let agent = Agent::new(world, 1).await;
    // The day of an alarm is not the reporter's to choose.
    let what = Seen::TagWritten {
        tag_uid: agent.uid.into(),
        pages: 3,
        window: seen(agent.next()),
        signs: None,
        wear: None,
        counter: Some(TagCounter {
            found: Some(7),
            left: 8,
        }),
    };
    agent.reports(what, NOW - 20 * DAY).await;
    let alarms = agent.alarms().await;
    assert_eq!(agent.kinds().await, [TagAlarmKind::CounterBack]);
    let reason = &alarms[0].reason;
    assert!(reason.contains("from 10 to 7"), "{reason}");
    assert_eq!(alarms[0].day, day_of(NOW));
    let personalised = Agent::new(world, 2).await;
    personalised.writes(personalised.next(), None, 1).await;
    let mut exchanged = Agent::new(world, 3).await;
    exchanged.uid = "04B2";
    exchanged.writes(exchanged.next(), Some(1), 2).await;
    for agent in [personalised, exchanged] {
        assert_eq!(agent.kinds().await, []);
    }
}

pub(crate) async fn many_more_reads_than_on_the_days_before_ring(world: &World) {
    let agent = Agent::new(world, 1).await;
    let reads = |days_ago: i64| NOW - days_ago * DAY;
    for (days_ago, count) in [(3, 20), (2, 50), (1, 40)] {
        agent.read(count, reads(days_ago)).await;
    }
    agent.read(120, reads(0)).await;
    judge(world, NOW + JUDGE_DAY_EVERY_MS).await;
    assert_eq!(agent.kinds().await, []);
    agent.read(1, reads(0)).await;
    judge(world, NOW + JUDGE_DAY_EVERY_MS - 1).await;
    assert_eq!(agent.kinds().await, [], "not at every read");
    judge(world, NOW + JUDGE_DAY_EVERY_MS).await;
    let alarms = agent.alarms().await;
    assert_eq!(agent.kinds().await, [TagAlarmKind::TapsWithoutClaims]);
    let reason = &alarms[0].reason;
    assert!(
        reason.contains("121 reads without a claim, above the bound of 120"),
        "{reason}"
    );
}

pub(crate) async fn a_day_on_which_nothing_was_counted_tightens_no_bound(world: &World) {
    let agent = Agent::new(world, 1).await;
    for days_ago in 1..=3 {
        let seen = vec![(agent.terminal, 1)];
        let at = NOW - days_ago * DAY;
        world.store.add_second_places(seen, at).await.unwrap();
    }
    agent.read(121, NOW).await;
    judge(world, NOW + JUDGE_DAY_EVERY_MS).await;
    assert_eq!(agent.kinds().await, []);
    // A visit that found no reads is a count, too.
    for days_ago in 1..=3 {
        let what = Seen::TagWritten {
            tag_uid: agent.uid.into(),
            pages: 3,
            window: seen(agent.window),
            signs: None,
            wear: None,
            counter: Some(TagCounter {
                found: Some(10),
                left: 10,
            }),
        };
        agent.reports(what, NOW - days_ago * DAY).await;
    }
    agent.read(1, NOW).await;
    judge(world, NOW + JUDGE_DAY_EVERY_MS).await;
    assert_eq!(agent.kinds().await, [TagAlarmKind::TapsWithoutClaims]);
}

pub(crate) async fn links_used_at_two_places_ring_when_they_are_many(world: &World) {
    let agent = Agent::new(world, 1).await;
    let add = |links| {
        world
            .store
            .add_second_places(vec![(agent.terminal, links)], NOW)
    };
    add(12).await.unwrap();
    judge(world, NOW).await;
    assert_eq!(agent.kinds().await, []);
    add(1).await.unwrap();
    judge(world, NOW).await;
    assert_eq!(agent.kinds().await, [TagAlarmKind::SecondPlace]);
    let nobody = TerminalId::from_number(99).unwrap();
    let unknown = world.store.add_second_places(vec![(nobody, 99)], NOW);
    assert_eq!(unknown.await, Ok(()));
}

pub(crate) async fn a_closed_alarm_stays_closed_until_there_is_twice_as_much(world: &World) {
    let agent = Agent::new(world, 1).await;
    let (kind, store) = (TagAlarmKind::SecondPlace, &world.store);
    let ring = async |links| {
        let seen = vec![(agent.terminal, links)];
        store.add_second_places(seen, NOW).await.unwrap();
        judge(world, NOW).await;
    };
    ring(20).await;
    let day = agent.alarms().await[0].day;
    let close = |day| store.close_tag_alarm(agent.terminal, kind, day, "a class".into(), NOW);
    assert_eq!(close(day + 1).await, Ok(None));
    let closed = close(day).await.unwrap().unwrap().closed.unwrap();
    assert_eq!((closed.at, closed.note.as_str()), (NOW, "a class"));
    ring(19).await;
    assert_eq!(agent.kinds().await, []);
    assert_eq!(store.open_tag_alarms().await, Ok(vec![]));
    let all = store.tag_alarms(None, true, 9).await.unwrap();
    assert_eq!((all.len(), all[0].times), (1, 39));
    ring(1).await;
    assert_eq!(agent.kinds().await, [kind]);
    assert_eq!(store.open_tag_alarms().await, Ok(vec![(kind, 1)]));
    let kinds = world.audit_kinds().await;
    let of = |name: &str| kinds.iter().filter(|kind| *kind == name).count();
    assert_eq!((of("tag-alarm.raised"), of("tag-alarm.closed")), (2, 1));
}

pub(crate) async fn days_and_closed_alarms_are_forgotten_and_open_ones_are_not(world: &World) {
    let (agent, other) = (Agent::new(world, 1).await, Agent::new(world, 2).await);
    let (kind, store) = (TagAlarmKind::SecondPlace, &world.store);
    let seen = vec![(agent.terminal, 20), (other.terminal, 20)];
    store.add_second_places(seen, NOW).await.unwrap();
    judge(world, NOW).await;
    let day = day_of(NOW);
    let closed = store.close_tag_alarm(agent.terminal, kind, day, "a class".into(), NOW);
    assert!(closed.await.unwrap().is_some());
    let forgets = async |at: Timestamp| {
        let due = store.taps_due(at).await.unwrap();
        let mut done = 0;
        loop {
            let run = store.reconcile_taps(at, 1).await.unwrap();
            done += run.done;
            if !run.more {
                return (due, done);
            }
        }
    };
    assert!(forgets(NOW + DAYS_KEPT * DAY).await.0, "links");
    assert_eq!(forgets(NOW + DAYS_KEPT * DAY).await, (false, 0));
    let days_of_two = (true, 2);
    assert_eq!(forgets(NOW + (DAYS_KEPT + 1) * DAY).await, days_of_two);
    forgets(NOW + CLOSED_ALARMS_KEPT_MS - 1).await;
    assert_eq!(store.tag_alarms(None, true, 9).await.unwrap().len(), 2);
    assert_eq!(forgets(NOW + CLOSED_ALARMS_KEPT_MS).await, (true, 1));
    let left = store.tag_alarms(None, true, 9).await.unwrap();
    assert_eq!((left.len(), left[0].terminal), (1, other.terminal));
}

pub(crate) async fn a_dispute_says_what_the_tag_counted_and_what_rings(world: &World) {
    let says = async |charge: ChargeId| {
        let dispute = world.store.dispute(charge.0).await.unwrap().unwrap();
        let of = |what: &str| -> Vec<Moment> {
            let moments = dispute.moments.iter().filter(|it| it.what == what);
            moments.cloned().collect()
        };
        let explained = of("reads that explain the claim").remove(0);
        (
            explained.facts["says"].clone(),
            of("alarm open at this terminal"),
            of("link put on the tag"),
        )
    };
    let agent = Agent::new(world, 1).await;
    let charge = agent.claims(1).await;
    let (words, alarms, written) = says(charge).await;
    assert!(words.contains("has not told yet"), "{words}");
    assert_eq!((alarms.len(), written.len()), (0, 1));
    let facts = &written[0].facts;
    assert_eq!(
        (
            facts["counter_found"].as_str(),
            facts["counter_left"].as_str()
        ),
        ("5", "10")
    );
    agent.writes(agent.next(), Some(10), 11).await;
    judge(world, NOW + JUDGE_AFTER_MS).await;
    let (words, alarms, _) = says(charge).await;
    assert!(
        words.contains("1 of these claims came without a phone"),
        "{words}"
    );
    assert_eq!(alarms[0].facts["kind"], "claims-without-taps");

    let cannot_count = Agent::new(world, 2).await;
    let charge = cannot_count.claims(1).await;
    cannot_count.writes_or_not(cannot_count.next(), None).await;
    let (words, alarms, _) = says(charge).await;
    assert!(words.contains("does not count reads"), "{words}");
    assert_eq!(alarms.len(), 0);

    let silent = world.terminal(3).await;
    let charge = world.start(silent, 420).await;
    world.claimed(silent).await;
    let (words, _, _) = says(charge).await;
    assert!(words.contains("has not told that this link"), "{words}");
}

pub(crate) async fn a_dispute_says_since_when_is_kept_what_the_terminal_saw(world: &World) {
    let agent = Agent::new(world, 1).await;
    let charge = agent.claims(1).await;
    let gone = async || {
        let dispute = world.store.dispute(charge.0).await.unwrap().unwrap();
        let gone = "nothing earlier is kept of what the terminal saw";
        let gone = dispute.moments.into_iter().filter(|it| it.what == gone);
        gone.map(|it| (it.at, it.source)).collect::<Vec<_>>()
    };
    assert_eq!(gone().await, [], "no fence");
    // Exactly what is shown is kept.
    let fence = NOW - TAPS_AROUND_MS;
    world.store.raise_report_fence(fence, NOW).await.unwrap();
    assert_eq!(gone().await, []);
    let fence = fence + 1;
    world.store.raise_report_fence(fence, NOW).await.unwrap();
    assert_eq!(gone().await, [(fence, Source::Terminal)]);
}
