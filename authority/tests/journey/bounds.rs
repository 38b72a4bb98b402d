//! Is whoever asks too much bounded, and does whoever is over stay over?

use authority::services::sources::POLLS_PER_CLAIM;
use authority::store::{Deleted, Profiles as _};
use protocol::token::Channel;
use serde_json::json;
use tokio::sync::Mutex;

use crate::browser::Browser;
use crate::openid::OpenId;
use crate::relying::{back, begin, sign_in};
use crate::wallet::app::{App, paid};
use crate::world::{MINUTE, More, Phone, SPENDING, World, answer};

/// A shop's phones are all behind one address, and each asks every other second.
#[tokio::test]
async fn a_phone_that_waits_for_its_own_claim_uses_up_nobodys_looks() {
    let few = SPENDING.replace("looks_per_address = 1000000", "looks_per_address = 3");
    let world = World::spending(&few).await;
    let phone = world.held(420).await;
    for n in 0..=POLLS_PER_CLAIM {
        let looked = world.view(&phone).await;
        assert_eq!(looked.status, 200, "look {n}: {looked:?}");
    }
    let own = world.view(&phone).await;
    own.refused(429, "too-many-requests");
    // Who knows the id, and not the secret, looks like anybody else: one look was the phone's first.
    let stranger = Phone {
        cookie: format!("__Host-m2key-claim={}.{}", phone.claim, "A".repeat(43)),
        ..phone.clone()
    };
    for _ in 0..2 {
        world.view(&stranger).await.refused(404, "claim-unknown");
    }
    world
        .view(&stranger)
        .await
        .refused(429, "too-many-requests");
    world.advance(MINUTE);
    assert_eq!(world.view(&phone).await.status, 200);
    let page = Browser::of(&phone);
    let path = format!("/pay/{}/state", phone.claim);
    for _ in 0..9 {
        assert_eq!(page.get(&world, &path).await.status, 200);
    }
}

#[tokio::test]
async fn no_refusal_is_kept_by_anybody_on_the_way() {
    let world = World::new().await;
    let claim = world.held(420).await.claim;
    for path in [
        "/nothing".to_owned(),
        format!("/v1/claims/{claim}"),
        "/v1/claims".to_owned(),
        "/v1/wallet/accounts".to_owned(),
    ] {
        let refused = answer(world.ask("GET", &path)).await;
        assert!(refused.status >= 400, "{path}: {refused:?}");
        assert_eq!(refused.headers["cache-control"], "no-store", "{path}");
    }
}

/// The payer is another profile by now, so the books refuse the approval; the payment is there.
#[tokio::test]
async fn a_refusal_never_stands_in_place_of_a_payment_that_was_made() {
    let world = World::new().await;
    world.charge(5_000).await;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 5_000).await;
    let first = ann.pay("one", &payment).await;
    paid(&first);
    let deleted = world.store.delete_profile(world.person("ann"), world.now());
    assert_eq!(deleted.await, Ok(Deleted::Done));
    let wallet = Mutex::new(ann.wallet.into_inner());
    world.advance(2 * MINUTE);
    let ann = App {
        world: &world,
        wallet,
        person: "ann".into(),
    };
    for _ in 0..2 {
        let again = ann.pay("one", &payment).await;
        assert_eq!((again.status, &again.body), (201, &first.body));
        world.advance(2 * MINUTE);
    }
    let kept = "SELECT count(*) FROM wallet_requests WHERE status IS NOT NULL";
    assert_eq!(world.rows(kept), 0);
    // An attempt that hung paid after another one had been refused, and the refusal was kept.
    world.edit("UPDATE wallet_requests SET status = 409, refusal = x'7b7d'");
    let again = ann.pay("one", &payment).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
}

/// Or the refusal of a second attempt would hide the payment of a first one that hung before its claim.
#[tokio::test]
async fn a_refusal_before_anything_was_claimed_is_not_kept() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 419).await;
    for _ in 0..2 {
        ann.pay("one", &payment)
            .await
            .refused(409, "amount-differs");
    }
    let requests = "SELECT count(*) FROM wallet_requests WHERE status IS NULL";
    assert_eq!(world.rows(requests), 1);
}

#[tokio::test]
async fn a_session_ends_with_its_providers_place_in_the_configuration() {
    let wallet = OpenId::start("wallet").await;
    let mut world = World::where_browsers_sign_in(&[(&wallet, None)]).await;
    let browser = Browser::new();
    sign_in(&world, &wallet, &browser, "ann").await;
    assert!(browser.is_signed_in(&world).await);
    assert_eq!(world.journey.forget_sign_ins(world.now()).await.unwrap(), 0);
    world = world.restart().await;
    assert!(browser.is_signed_in(&world).await);
    let sections = std::mem::take(&mut world.provider.sections);
    world = world.restart().await;
    assert!(!browser.is_signed_in(&world).await, "from the start on");
    let ended = world.journey.forget_sign_ins(world.now()).await.unwrap();
    assert_eq!(ended, 1);
    world.provider.sections = sections;
    world = world.restart().await;
    assert!(!browser.is_signed_in(&world).await, "it is over for good");
}

/// A provider is asked how old the password may be, and believed no further than that.
#[tokio::test]
async fn a_password_that_is_older_than_was_asked_for_signs_nobody_in() {
    let wallet = OpenId::start("wallet").await;
    let world = World::where_browsers_sign_in(&[(&wallet, None)]).await;
    let hour = 60 * MINUTE / 1_000;
    for (fields, ago_s, good) in [
        (vec![("purpose", "profile")], 11 * hour, true),
        (vec![("purpose", "profile")], 13 * hour, false),
        (vec![("purpose", "profile"), ("fresh", "1")], 400, false),
        (vec![("purpose", "profile"), ("fresh", "1")], 200, true),
    ] {
        let browser = Browser::new();
        let request = begin(&world, &wallet, &browser, &fields).await;
        let now_s = world.now().secs();
        let mut claims = wallet.claims(&request, "ann", now_s);
        claims["auth_time"] = json!(now_s - ago_s);
        let came = back(&world, &wallet, &browser, &request, &wallet.code(claims)).await;
        match good {
            true => assert_eq!(came.status, 303, "{fields:?}: {came:?}"),
            false => {
                came.refused(502, "provider-refused");
            }
        }
        assert_eq!(browser.is_signed_in(&world).await, good);
    }
}

#[tokio::test]
async fn a_passkey_is_made_for_the_service_by_its_own_name() {
    let more = More {
        config: "[pages]\nservice_name = \" Corner Bank \"".into(),
        ..More::default()
    };
    let world = World::with_more(more, |merchant| merchant).await;
    let options = world
        .post_as(Some("ann"), "/v1/passkeys/options", None, &json!({}))
        .await;
    assert_eq!(options.json()["publicKey"]["rp"]["name"], "Corner Bank");
}
