//! Is the channel of a tag that nears its end slowed, and is everything good that its terminal shows?

use std::collections::BTreeMap;

use authority::services::operators::{SlowedView, TagForecast, TerminalShow, Verb};
use authority::services::schedules::Follows;
use protocol::derive::EpochKey;
use protocol::ids::EventId;
use protocol::jws;
use protocol::link::LinkHost;
use protocol::live::{candidates, recognise};
use protocol::presented::Presented;
use protocol::schedule::{ScheduleClaims, accept};
use protocol::time::Timestamp;
use protocol::token::{Channel, MachineToken};
use protocol::wear::TagWear;
use protocol::window::{CheckedPolicy, EpochClock, Window, WindowPlan};
use protocol::wire::reports::{ReportRequest, Seen, SeenWindow, TerminalEvent};
use protocol::wire::schedules::ScheduleQuery;

use crate::world::{MINUTE, World};

const HOUR: i64 = 60 * MINUTE;

/// What a terminal holds: each epoch with its key, and the policy of the schedule that told it first.
#[derive(Default)]
struct Agent {
    epochs: BTreeMap<u32, (EpochKey, CheckedPolicy)>,
    reports: u8,
}

impl Agent {
    /// Fetches what follows, or everything anew; an epoch that was told before must be as it was.
    async fn fetch(&mut self, world: &World, follows: Follows, whole: bool) {
        let after = self.epochs.keys().next_back().copied().filter(|_| !whole);
        let (query, now) = (ScheduleQuery { after }, world.now());
        let schedules = &world.journey.schedules;
        let issued = schedules
            .issue_as(world.terminal, &query, follows, now)
            .await;
        let Ok(response) = issued else {
            return;
        };
        let jwks = world.app.keyring().jwks().clone();
        let verified = jws::verify::<ScheduleClaims>(&response.schedule, &jwks).unwrap();
        let schedule = accept(verified, world.terminal, None).unwrap();
        for entry in response.epoch_keys {
            let policy = *schedule.policy_of(entry.epoch);
            if let Some((_, told)) = self.epochs.insert(entry.epoch, (entry.key, policy)) {
                assert_eq!(policy, told, "epoch {}", entry.epoch);
            }
        }
    }

    /// What the tag shows now, of which window.
    fn shown(&self, world: &World) -> (MachineToken, Window) {
        let clock = EpochClock::of(world.terminal);
        let epoch = clock.epoch_at(world.now());
        let (key, policy) = &self.epochs[&epoch];
        let plan = WindowPlan::draw(key, policy, Channel::Nfc, &clock, epoch);
        let window = *plan.at(world.now()).unwrap();
        (key.token(Channel::Nfc, window.index, 0), window)
    }

    fn longest_at(&self, epoch: u32) -> i64 {
        self.epochs[&epoch].1.get().nfc.longest_ms
    }

    async fn tell(&mut self, world: &World, uid: &str, cycles: u32) {
        self.reports += 1;
        let window = SeenWindow {
            channel: Channel::Nfc,
            version: 1,
            epoch: 1,
            window: 1,
            turn: 0,
        };
        let wear = TagWear {
            cycles,
            endurance: 100_000,
            per_link: 2,
            cycles_per_day: 640,
        };
        let event = TerminalEvent {
            id: EventId::from_parts(world.now().ms() as u64, &[self.reports; 10]),
            at: world.now(),
            what: Seen::TagWritten {
                tag_uid: uid.into(),
                pages: 11,
                window,
                signs: None,
                wear: Some(wear),
                counter: None,
            },
        };
        let request = ReportRequest {
            events: vec![event],
        };
        let taken = world
            .journey
            .reports
            .take(world.terminal, request, world.now());
        assert_eq!(taken.await.unwrap().stored.len(), 1);
    }
}

/// Whether the authority takes the token now, by the keys and policies that judge claims.
async fn is_good(world: &World, token: MachineToken) -> bool {
    let keys = &world.journey.epoch_keys;
    let loaded = keys.present(world.terminal, world.now()).await.unwrap();
    let found = candidates(world.terminal, world.now(), &loaded, &[Channel::Nfc]);
    let terminal = world.terminal;
    recognise(&Presented::Machine { terminal, token }, &found).is_ok()
}

fn present(world: &World) -> u32 {
    EpochClock::of(world.terminal).epoch_at(world.now())
}

fn until(world: &World, at: Timestamp) {
    world.advance(at - world.now());
}

#[tokio::test]
async fn a_tag_that_nears_its_end_is_slowed_from_the_first_epoch_that_was_not_told_yet() {
    let mut world = World::new().await;
    let mut agent = Agent::default();
    agent.fetch(&world, Follows::Paces, true).await;
    agent.tell(&world, "04A1", 98_000).await;
    let first = present(&world);
    for hour in 0..30 {
        if hour == 26 {
            world = world.restart().await;
        }
        agent
            .fetch(&world, Follows::Paces, [7, 26, 29].contains(&hour))
            .await;
        let ends = EpochClock::of(world.terminal).closes(present(&world));
        while world.now() < ends {
            let (token, window) = agent.shown(&world);
            assert!(is_good(&world, token).await, "hour {hour}: as it opens");
            until(&world, window.closes - 1);
            assert!(
                is_good(&world, token).await,
                "hour {hour}: before it closes"
            );
            let grace = world.app.config.policy.get().nfc.grace_ms;
            until(&world, window.closes + grace - 1);
            assert!(
                is_good(&world, token).await,
                "hour {hour}: within its grace"
            );
            until(&world, window.closes + grace);
            assert!(
                !is_good(&world, token).await,
                "hour {hour}: when its grace is over"
            );
        }
    }
    assert_eq!(agent.longest_at(first + 24), 360_000);
    assert_eq!(agent.longest_at(first + 25), 900_000);
    let shown = TerminalShow {
        terminal: world.terminal,
    };
    let shown = shown.run(&world.app).await.unwrap();
    let from = EpochClock::of(world.terminal).opens(first + 25);
    let longest_window_ms = 900_000;
    let slowed = SlowedView {
        from,
        longest_window_ms,
    };
    assert_eq!(shown.slowed, Some(slowed));
    assert_eq!(shown.tag.unwrap().percent_used, 98);
}

#[tokio::test]
async fn a_phone_pays_at_a_slowed_tag_when_the_policys_own_window_would_be_over() {
    let world = World::new().await;
    let mut agent = Agent::default();
    agent.tell(&world, "04A1", 99_000).await;
    agent.fetch(&world, Follows::Paces, true).await;
    // Nothing was told before, so the present hour is slow already.
    let (token, window) = loop {
        let (token, window) = agent.shown(&world);
        if window.closes - window.opens > 9 * MINUTE {
            break (token, window);
        }
        until(&world, window.closes);
    };
    until(&world, window.closes - 1);
    world.charge(420).await;
    let link = LinkHost::parse("pay.example")
        .unwrap()
        .link(world.terminal, &token);
    let claim = world.claim(&link, None).await;
    assert_eq!(claim.status, 201);
}

#[tokio::test]
async fn a_new_tag_ends_the_slow_pace_and_no_epoch_that_was_told_changes() {
    let world = World::new().await;
    let mut agent = Agent::default();
    agent.tell(&world, "04A1", 99_000).await;
    agent.fetch(&world, Follows::Paces, true).await;
    let first = present(&world);
    agent.tell(&world, "04A2", 10).await;
    world.advance(HOUR);
    agent.fetch(&world, Follows::Paces, true).await;
    assert_eq!(agent.longest_at(first + 24), 900_000);
    assert_eq!(agent.longest_at(first + 25), 360_000);
}

#[tokio::test]
async fn a_terminal_that_follows_no_paces_is_never_slowed() {
    let world = World::new().await;
    let mut agent = Agent::default();
    agent.tell(&world, "04A1", 99_000).await;
    agent.fetch(&world, Follows::PolicyAlone, true).await;
    world.advance(HOUR);
    agent.fetch(&world, Follows::PolicyAlone, false).await;
    assert!(
        agent
            .epochs
            .keys()
            .all(|epoch| agent.longest_at(*epoch) == 360_000)
    );
    // Back to an agent of before: what it is told from now on is what judges it.
    let mut newer = Agent::default();
    world.advance(HOUR);
    newer.fetch(&world, Follows::Paces, true).await;
    let last = *newer.epochs.keys().next_back().unwrap();
    assert_eq!(newer.longest_at(last), 900_000);
    let mut older = Agent::default();
    older.fetch(&world, Follows::PolicyAlone, true).await;
    assert_eq!(older.longest_at(last), 360_000);
    until(&world, EpochClock::of(world.terminal).opens(last));
    let (token, _) = older.shown(&world);
    assert!(is_good(&world, token).await);
}

#[tokio::test]
async fn the_forecast_says_which_terminal_needs_a_tag_in_which_month() {
    let world = World::new().await;
    let app = &world.app;
    let forecast = |within_days| async move {
        let verb = TagForecast {
            within_days,
            after: None,
        };
        verb.run(app).await
    };
    assert!(forecast(0).await.is_err());
    assert!(forecast(u32::MAX).await.is_err());
    let none = forecast(90).await.unwrap();
    assert_eq!((none.overdue, none.later, none.tags.len()), (0, 0, 0));
    let mut agent = Agent::default();
    // 50 days to the margin, 65 to the end.
    agent.tell(&world, "04A1", 58_000).await;
    let found = forecast(90).await.unwrap();
    let [ending] = &found.tags[..] else {
        panic!("{found:?}")
    };
    assert_eq!(ending.terminal, world.terminal);
    assert_eq!((ending.tag.days_left, ending.tag.percent_used), (65, 58));
    let months: u64 = found.months.iter().map(|it| it.tags).sum();
    assert_eq!((found.overdue, months, found.later), (0, 1, 0));
    let soon = forecast(49).await.unwrap();
    assert_eq!((soon.later, soon.tags.len()), (1, 0));
    world.advance(20 * 24 * HOUR);
    let found = forecast(90).await.unwrap();
    assert_eq!(found.tags[0].tag.days_left, 45);
    world.advance(31 * 24 * HOUR);
    assert_eq!(forecast(90).await.unwrap().overdue, 1);
    let counted = authority::services::tag_fleet::measure(&world.app, world.now());
    assert_eq!(counted.await.unwrap(), 1);
    let text = world.app.metrics.text();
    assert!(
        text.contains("tags_to_replace{within_days=\"0\"} 1"),
        "{text}"
    );
}
