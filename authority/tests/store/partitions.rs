//! Does a day of spent tokens lie apart on PostgreSQL, and go as a whole, while others claim?

use std::sync::Arc;

use authority::store::{ClaimOutcome, DAY_EPOCHS};
use protocol::token::Channel;

use crate::cluster::Database;
use crate::suite::retention::keep_house;
use crate::world::{NOW, World, epoch_now, eur, live_at};
use crate::{NODE, among_nodes};

const DAY_MS: i64 = 24 * 3_600_000;
const DAYS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'spent'::regclass";

#[tokio::test(flavor = "multi_thread")]
async fn days_are_made_ahead_and_what_lay_in_none_is_brought_there() {
    let database = Database::new();
    let world = World::new(Arc::new(database.open(NODE, 1)));
    let merchant = world.merchant_with(Some(eur(1)), None).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    for days in 0..3 {
        let live = live_at(NOW - days * DAY_MS, terminal, Channel::Nfc, 0);
        let claimed = world.store.claim(world.claim_of(live)).await.unwrap();
        assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
    }
    assert_eq!(database.sql("SELECT count(*) FROM spent_rest"), "3");
    assert_eq!(
        world.store.rows_without_day().await,
        Ok(6),
        "spent and turns"
    );
    let epoch = epoch_now(terminal);
    keep_house(&world, epoch).await;
    assert_eq!(world.store.rows_without_day().await, Ok(0));
    // Today and two ahead, two that had rows, and the rest.
    assert_eq!(database.sql(DAYS), "6");
    let today = epoch / DAY_EPOCHS * DAY_EPOCHS;
    let of_today = database.sql(&format!("SELECT count(*) FROM spent_{today}"));
    assert_eq!(of_today, "1");
    world.store.raise_epoch_fence(today + 1, NOW).await.unwrap();
    keep_house(&world, epoch).await;
    assert_eq!(database.sql(DAYS), "4", "two days went as a whole");
    assert_eq!(database.sql("SELECT count(*) FROM spent"), "1");
    world.check_books_and_audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_go_on_while_days_are_made_and_dropped() {
    let (world, _kept) = among_nodes();
    let world = Arc::new(world);
    let merchant = world.merchant_with(Some(eur(1)), None).await;
    let mut claims = tokio::task::JoinSet::new();
    for n in 0..8 {
        let terminal = world.terminal_of(&merchant, n).await;
        let world = world.clone();
        claims.spawn(async move {
            for turn in 0..20 {
                let live = live_at(NOW, terminal, Channel::Nfc, turn);
                let outcome = world.any_node().claim(world.claim_of(live)).await;
                assert!(
                    matches!(outcome, Ok(ClaimOutcome::Claimed(_))),
                    "{outcome:?}"
                );
            }
        });
    }
    let epoch = (NOW.ms() / 3_600_000) as u32;
    for back in (1..6).rev() {
        world
            .any_node()
            .make_day(epoch - back * DAY_EPOCHS, 0)
            .await
            .unwrap();
    }
    keep_house(&world, epoch).await;
    world
        .store
        .raise_epoch_fence(epoch - DAY_EPOCHS, NOW)
        .await
        .unwrap();
    keep_house(&world, epoch).await;
    while let Some(claim) = claims.join_next().await {
        claim.unwrap();
    }
    keep_house(&world, epoch).await;
    assert_eq!(world.store.rows_without_day().await, Ok(0));
    world.check_books_and_audit().await;
}
