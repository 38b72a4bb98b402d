//! Does a profile show its shopper what is theirs, and do its forms hold?

use authority::ids;
use authority::services::refunds;
use protocol::ids::RefundId;
use protocol::token::Channel;

use crate::browser::{Browser, location};
use crate::pages::{Place, says, text};
use crate::relying::sign_in;
use crate::world::{MINUTE, eur};

#[tokio::test]
async fn a_profile_is_shown_to_its_shopper_and_changed_by_its_forms() {
    let place = Place::new().await;
    place.fund(100).await;
    let browser = Browser::new();
    let asked = browser.get(&place.world, "/me").await;
    says(&asked, "action=\"/sign-in/bank\"");
    sign_in(&place.world, &place.bank, &browser, "ann").await;
    let page = browser.get(&place.world, "/me").await;
    says(&page, "What you pay from");
    says(&page, "Wallet bank");
    says(&page, "This browser");
    let left = browser.post(&place.world, "/me/delete", &[]).await;
    assert_eq!(left.status, 409, "there is money in it");
    says(&left, "The profile cannot go yet");
    place.world.advance(6 * MINUTE);
    let stale = browser.post(&place.world, "/me/delete", &[]).await;
    assert_eq!(stale.status, 403);
    says(&stale, "name=\"fresh\" value=\"1\"");
    let page = browser.get(&place.world, "/me").await;
    says(&page, "name=\"fresh\" value=\"1\"");
    assert!(!text(&page).contains("data-passkey=\"add\""), "a dead end");
    let link = [("purpose", "link")];
    let stale = browser.navigate(&place.world, "/sign-in/bank", &link).await;
    assert_eq!(stale.status, 403);
    says(&stale, "name=\"fresh\" value=\"1\"");
    let out = browser.post(&place.world, "/sign-out", &[]).await;
    assert_eq!(location(&out), "/");
    says(
        &browser.get(&place.world, "/me").await,
        "action=\"/sign-in/bank\"",
    );
}

#[tokio::test]
async fn a_shopper_lowers_their_own_limits_at_once_and_raises_them_after_a_fresh_sign_in() {
    let place = Place::new().await;
    place.fund(5_000).await;
    let (browser, world) = (Browser::new(), &place.world);
    let path = place.to_the_button(&browser, 420).await;
    let set = async |each: &str, day: &str| {
        let fields = [("currency", "EUR"), ("each", each), ("day", day)];
        browser.post(world, "/me/limits", &fields).await
    };
    assert_eq!(location(&set("3", "10,50").await), "/me");
    let page = browser.get(world, "/me").await;
    says(&page, "name=\"each\"");
    says(&page, "value=\"3.00\"");
    says(&page, "value=\"10.50\"");
    let refused = place.approve(&browser, &path, "420").await;
    assert_eq!(refused.status, 403);
    says(&refused, "A limit is reached");
    let slip = set("a lot", "10,50").await;
    assert_eq!(slip.status, 400);
    says(&slip, "That is not an amount");
    says(&slip, "value=\"a lot\"");
    world.advance(6 * MINUTE);
    for (each, day) in [("4", "10.50"), ("", "10.50"), ("3", "")] {
        let stale = set(each, day).await;
        assert_eq!(stale.status, 403, "{each:?} {day:?}");
        says(&stale, "name=\"fresh\" value=\"1\"");
    }
    assert_eq!(location(&set("0", "10.50").await), "/me");
    sign_in(world, &place.bank, &browser, "ann").await;
    assert_eq!(location(&set("", "").await), "/me");
    let page = text(&browser.get(world, "/me").await);
    assert!(!page.contains("10.50"), "{page}");
    let stranger = Browser::new().post(world, "/me/lock", &[]).await;
    assert_eq!(stranger.status, 401);
}

#[tokio::test]
async fn a_shopper_locks_their_profile_and_cannot_unlock_it() {
    let place = Place::new().await;
    place.fund(5_000).await;
    let browser = Browser::new();
    let path = place.to_the_button(&browser, 420).await;
    let page = browser.get(&place.world, "/me").await;
    says(&page, "action=\"/me/lock\"");
    for _ in 0..2 {
        let locked = browser.post(&place.world, "/me/lock", &[]).await;
        assert_eq!(location(&locked), "/me");
    }
    let page = browser.get(&place.world, "/me").await;
    says(&page, "Only the operator unlocks it.");
    assert!(!text(&page).contains("action=\"/me/lock\""));
    let refused = place.approve(&browser, &path, "420").await;
    assert_eq!(refused.status, 403);
    says(&refused, "This profile is locked");
    assert_eq!(
        place.world.balance_at(&place.bank.issuer, "ann").await,
        5_000
    );
}

#[tokio::test]
async fn a_shopper_reads_what_they_paid_and_got_back_the_newest_first() {
    let place = Place::new().await;
    place.fund(50_000).await;
    let (browser, world) = (Browser::new(), &place.world);
    sign_in(world, &place.bank, &browser, "ann").await;
    says(&browser.get(world, "/me").await, "Nothing yet.");
    let mut charge = None;
    for minor in 101..=121 {
        charge = Some(world.charge(minor).await.charge);
        let link = place.link(Channel::Qr).await;
        let path = place.claim(&browser, &link).await;
        let paid = place.approve(&browser, &path, &minor.to_string()).await;
        assert_eq!(location(&paid), path);
        world.advance(1);
    }
    let asked = refunds::Asked {
        refund: ids::fresh(world.now(), RefundId::from_parts),
        charge: charge.unwrap(),
        amount: eur(21),
        reason: None,
    };
    let given = refunds::by_operator(&world.app, "operator", asked, world.now()).await;
    given.unwrap();
    let page = text(&browser.get(world, "/me").await);
    let place_of = |words: &str| {
        page.find(words)
            .unwrap_or_else(|| panic!("{words}: {page}"))
    };
    assert!(place_of("Refund from Corner Café") < place_of("1.21\u{a0}EUR"));
    assert!(place_of("0.21\u{a0}EUR of it given back") < place_of("1.20\u{a0}EUR"));
    place_of("1.03\u{a0}EUR");
    assert!(!page.contains("1.02\u{a0}EUR"), "the twenty newest");
    let start = place_of("/me/history?cursor=");
    let end = start + page[start..].find('"').unwrap();
    let older = browser.get(world, &page[start..end]).await;
    says(&older, "1.02\u{a0}EUR");
    says(&older, "1.01\u{a0}EUR");
    assert!(!text(&older).contains("1.03\u{a0}EUR"));
    assert!(!text(&older).contains("cursor="), "there are none before");
    let nonsense = browser.get(world, "/me/history?cursor=x").await;
    assert_eq!(nonsense.status, 400);
    let stranger = Browser::new().get(world, "/me/history").await;
    says(&stranger, "action=\"/sign-in/bank\"");
}
