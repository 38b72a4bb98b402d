//! Does an operator hear of tags and links that do not fit their claims, and can they close it?

use authority::services::operators::{AlarmClose, AlarmList, Alarms, carry_out};
use protocol::ids::{EventId, TerminalId};
use protocol::token::Channel;
use protocol::wire::reports::{ReportRequest, Seen, TagCounter, TerminalEvent};

use crate::tapping_links::Tag;
use crate::terminals::{issued, slug};
use crate::world::{Answer, MINUTE, World, answer};

async fn listed(world: &World, closed: bool) -> Alarms {
    let terminal = None;
    let verb = AlarmList { terminal, closed };
    carry_out(&world.app, "olga", verb).await.unwrap()
}

/// Somebody on another network with the same link.
async fn from_elsewhere(world: &World, link: &str) -> Answer {
    let client = reqwest::Client::builder().local_address(Some([127, 0, 0, 2].into()));
    let body = serde_json::json!({ "token": link });
    answer(
        client
            .build()
            .unwrap()
            .post(world.url("/v1/claims"))
            .json(&body),
    )
    .await
}

/// Links that are spent here and then brought from there, as often as this.
async fn spread(world: &World, links: usize) {
    spread_as(world, links, |link, _| link).await;
}

/// The same for links as a phone reads them from the tag.
async fn spread_as(world: &World, links: usize, read: impl Fn(String, u32) -> String) {
    for counter in (1..).take(links) {
        let charge = world.charge(100).await.charge;
        let link = read(world.shown(Channel::Nfc).await, counter);
        world.claimed(&link, None).await;
        world.claim(&link, None).await.refused(409, "token-spent");
        for _ in 0..2 {
            let refused = from_elsewhere(world, &link).await;
            refused.refused(409, "token-spent");
        }
        let cancelled = world
            .journey
            .charges
            .cancel(world.terminal, charge, world.now());
        cancelled.await.unwrap();
    }
    world.journey.reconcile_taps(world.now()).await.unwrap();
}

#[tokio::test]
async fn spent_links_that_come_again_from_elsewhere_ring_and_are_closed_by_an_operator() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    spread(&world, 13).await;
    assert!(listed(&world, false).await.tags.is_empty(), "offline");

    let _frames = world.journey.push.open(world.terminal, "01", None);
    spread(&world, 12).await;
    assert!(
        listed(&world, false).await.tags.is_empty(),
        "within the bound"
    );
    spread(&world, 1).await;
    let alarms = listed(&world, false).await.tags;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    let alarm = &alarms[0];
    assert_eq!((alarm.kind.as_str(), alarm.times), ("second-place", 13));
    assert!(alarm.reason.contains("from another network"), "{alarm:?}");
    let open = "m2key_authority_tag_alarms_open{kind=\"second-place\"}";
    let metrics = world.app.metrics.text();
    assert!(metrics.contains(&format!("{open} 1")), "{metrics}");

    let close = |note: &str| AlarmClose {
        terminal: world.terminal,
        kind: alarm.kind.clone(),
        day: alarm.day.clone(),
        note: note.into(),
    };
    let refused = carry_out(&world.app, "olga", close(" ")).await;
    assert_eq!(slug(refused), "malformed-request");
    let closed = carry_out(&world.app, "olga", close("a school class")).await;
    assert_eq!(closed.unwrap().closed_by.as_deref(), Some("olga"));
    assert!(listed(&world, false).await.tags.is_empty());
    let all = listed(&world, true).await.tags;
    assert_eq!(all[0].note.as_deref(), Some("a school class"));
    world.journey.reconcile_taps(world.now()).await.unwrap();
    assert!(world.app.metrics.text().contains(&format!("{open} 0")));
}

#[tokio::test]
async fn a_link_that_the_tag_signed_rings_when_it_comes_again_from_elsewhere() {
    let world = World::new().await;
    issued(&world, "01", 1, None).await;
    let tag = Tag::of(&world, world.terminal, 1).await;
    let _frames = world.journey.push.open(world.terminal, "01", None);
    spread_as(&world, 13, |link, counter| tag.read(&link, counter)).await;
    let alarms = listed(&world, false).await.tags;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!((&*alarms[0].kind, alarms[0].times), ("second-place", 13));
    let of = async |terminal| {
        let (terminal, closed) = (Some(terminal), false);
        let verb = AlarmList { terminal, closed };
        carry_out(&world.app, "olga", verb).await.unwrap().tags
    };
    assert_eq!(of(world.terminal).await.len(), 1);
    let other = TerminalId::from_number(1).unwrap();
    assert_eq!(of(other).await.len(), 0);
}

#[tokio::test]
async fn reads_are_counted_and_a_tag_whose_counter_goes_back_is_told() {
    let world = World::new().await;
    let told = async |n: u8, counter: TagCounter| {
        let what = Seen::Tap {
            tag_uid: "04A1".into(),
            count: 3,
            window: None,
            counter: Some(counter),
        };
        let events = vec![TerminalEvent {
            id: EventId::from_parts(1, &[n; 10]),
            at: world.now(),
            what,
        }];
        let (reports, request) = (&world.journey.reports, ReportRequest { events });
        let taken = reports.take(world.terminal, request, world.now()).await;
        taken.unwrap();
    };
    let counter = |found, left| TagCounter { found, left };
    told(1, counter(None, 90)).await;
    told(2, counter(Some(93), 94)).await;
    world.advance(MINUTE);
    assert!(listed(&world, false).await.tags.is_empty());
    told(3, counter(Some(4), 5)).await;
    let alarms = listed(&world, false).await.tags;
    assert_eq!(alarms[0].kind, "counter-back");
    let metrics = world.app.metrics.text();
    assert!(
        metrics.contains("m2key_authority_taps_total 9"),
        "{metrics}"
    );
    assert!(
        !metrics.contains(&world.terminal.to_string()),
        "no terminal is named"
    );
}
