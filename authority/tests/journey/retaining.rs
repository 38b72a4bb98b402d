//! Does what was spent go in its time, and no earlier?

use authority::store::{Merchant, Retention as _};
use protocol::token::Channel;

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
