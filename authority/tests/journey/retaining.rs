//! Does what was spent go in its time, and no earlier?

use authority::store::{Merchant, Reports as _, Retention as _};
use protocol::ids::EventId;
use protocol::token::Channel;
use protocol::wire::reports::{ReportRequest, Seen, TerminalEvent};

use crate::world::{MINUTE, World, eur};

const DAY: i64 = 24 * 60 * MINUTE;

#[tokio::test]
async fn a_spent_token_goes_after_ninety_days_and_its_claim_stays() {
    let world = World::with(|merchant| Merchant {
        fixed: Some(eur(420)),
        ..merchant
    })
    .await;
    let link = world.shown(Channel::Nfc).await;
    world.claimed(&link, None).await;
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 1);
    world.journey.retain(world.now()).await.unwrap();
    let first = world.store.epoch_fence().await.unwrap();
    world.advance(89 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 1);
    world.advance(4 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 0);
    assert_eq!(world.rows("SELECT count(*) FROM claims"), 1);
    let last = world.store.epoch_fence().await.unwrap();
    assert_eq!((last - first) / 24, 93, "by whole days");
    // A clock that is set back brings no token back.
    world.advance(-93 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.store.epoch_fence().await, Ok(last));
    let again = world.claim(&link, None).await;
    assert!(again.status >= 400, "{again:?}");
    assert_eq!(world.rows("SELECT count(*) FROM spent"), 0);
}

#[tokio::test]
async fn a_report_goes_after_four_hundred_days_and_its_late_repeat_is_forgotten() {
    let world = World::new().await;
    let (terminal, seen_at) = (world.terminal, world.now());
    let report = || ReportRequest {
        events: vec![TerminalEvent {
            id: EventId::from_parts(seen_at.ms() as u64, &[1; 10]),
            at: seen_at,
            what: Seen::TagFailed {
                reason: "no tag".into(),
            },
        }],
    };
    let reports = &world.journey.reports;
    let stored = reports.take(terminal, report(), seen_at).await.unwrap();
    world.advance(399 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.store.reports(terminal, 9).await.unwrap().len(), 1);
    world.advance(2 * DAY);
    world.journey.retain(world.now()).await.unwrap();
    assert_eq!(world.store.reports(terminal, 9).await, Ok(Vec::new()));
    let again = reports.take(terminal, report(), world.now()).await;
    assert_eq!(again.unwrap(), stored, "the terminal may forget it");
    assert_eq!(world.store.reports(terminal, 9).await, Ok(Vec::new()));
}
