//! Does money move only as the shopper agreed, once, and only for the phone that was there?

use authority::store::Ledger;
use protocol::money::Currency;
use serde_json::json;

use crate::world::{MINUTE, World};

#[tokio::test]
async fn an_approval_must_name_amount_currency_and_payee_as_they_are() {
    let world = World::new().await;
    let phone = world.held(420).await;
    world
        .approve(&phone, "ann", 421)
        .await
        .refused(409, "amount-differs");
    let cookie = Some(phone.cookie.as_str());
    let access_token = world.sign_in("ann");
    let currency = json!({
        "amount": { "amount_minor": 420, "currency": "USD" }, "payee": world.merchant,
    });
    let answer = world
        .approve_with(&phone, cookie, Some(&access_token), &currency)
        .await;
    answer.refused(409, "amount-differs");
    let mut payee = world.approval(420);
    payee["payee"] = json!("01a0c450-6c00-7d65-b263-68616e742020");
    let answer = world
        .approve_with(&phone, cookie, Some(&access_token), &payee)
        .await;
    answer.refused(409, "payee-differs");
    assert_eq!(world.balance("ann").await, 5_000);
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
    assert_eq!(world.balance("ann").await, 4_580);
}

#[tokio::test]
async fn without_the_phones_own_cookie_there_is_no_claim() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let (access_token, body) = (world.sign_in("ann"), world.approval(420));
    let (name, value) = phone.cookie.split_once('=').unwrap();
    let (claim, secret) = value.split_once('.').unwrap();
    let flipped = if secret.starts_with('A') { 'B' } else { 'A' };
    let wrong = format!("{name}={claim}.{flipped}{}", &secret[1..]);
    let short = format!("{name}={claim}.{}", &secret[2..]);
    for cookie in [
        None,
        Some(wrong.as_str()),
        Some(short.as_str()),
        Some("a=b"),
    ] {
        let answer = world
            .approve_with(&phone, cookie, Some(&access_token), &body)
            .await;
        answer.refused(404, "claim-unknown");
        let stranger = crate::world::Phone {
            cookie: cookie.unwrap_or("a=b").into(),
            ..phone.clone()
        };
        world.view(&stranger).await.refused(404, "claim-unknown");
    }
    assert_eq!(world.balance("ann").await, 5_000);
}

#[tokio::test]
async fn one_phones_cookie_opens_no_other_claim() {
    let world = World::new().await;
    let first = world.held(420).await;
    world.approve(&first, "bob", 420).await;
    let second = world.held(420).await;
    let crossed = crate::world::Phone {
        cookie: first.cookie.clone(),
        ..second.clone()
    };
    world
        .approve(&crossed, "ann", 420)
        .await
        .refused(404, "claim-unknown");
}

#[tokio::test]
async fn without_a_sign_in_nothing_is_approved() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let body = world.approval(420);
    let answer = world
        .approve_with(&phone, Some(&phone.cookie), None, &body)
        .await;
    answer.refused(401, "sign-in-needed");
}

#[tokio::test]
async fn what_a_known_shopper_claimed_nobody_else_approves() {
    let world = World::new().await;
    world.charge(420).await;
    let code = world.shown(protocol::token::Channel::Code).await;
    let phone = world.claimed(&code, Some(&world.sign_in("ann"))).await;
    world
        .approve(&phone, "bob", 420)
        .await
        .refused(410, "claim-over");
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
}

#[tokio::test]
async fn a_paid_claim_is_over_for_everybody_but_its_payer() {
    let world = World::new().await;
    let phone = world.held(420).await;
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
    world
        .approve(&phone, "bob", 420)
        .await
        .refused(410, "claim-over");
    assert_eq!(world.balance("bob").await, 5_000);
}

#[tokio::test]
async fn after_its_time_a_claim_is_over_swept_or_not() {
    let world = World::new().await;
    let phone = world.held(420).await;
    world.advance(MINUTE);
    assert_eq!(world.view(&phone).await.json()["state"], "released");
    world
        .approve(&phone, "ann", 420)
        .await
        .refused(410, "claim-over");
    world.journey.sweep(world.now()).await.unwrap();
    world
        .approve(&phone, "ann", 420)
        .await
        .refused(410, "claim-over");
    assert_eq!(world.balance("ann").await, 5_000);
}

#[tokio::test]
async fn a_charge_cancelled_while_held_cannot_be_approved() {
    let world = World::new().await;
    let charge = world.charge(420).await.charge;
    let link = world.shown(protocol::token::Channel::Qr).await;
    let phone = world.claimed(&link, None).await;
    let (charges, now) = (&world.journey.charges, world.now());
    charges.cancel(world.terminal, charge, now).await.unwrap();
    world
        .approve(&phone, "ann", 420)
        .await
        .refused(410, "claim-over");
    assert_eq!(world.balance("ann").await, 5_000);
}

#[tokio::test]
async fn who_has_too_little_or_no_account_pays_nothing_and_may_try_another() {
    let world = World::new().await;
    let phone = world.held(5_001).await;
    world
        .approve(&phone, "ann", 5_001)
        .await
        .refused(402, "funds-short");
    world
        .approve(&phone, "eve", 5_001)
        .await
        .refused(403, "no-account");
    assert_eq!(world.balance("ann").await, 5_000);
    let report = world.store.ledger_report().await.unwrap();
    assert!(report.wrong_accounts.is_empty());
    assert!(
        report
            .sums
            .iter()
            .all(|(currency, sum)| *currency == Currency::EUR && *sum == 0)
    );
}

#[tokio::test]
async fn a_terminal_banned_between_claim_and_approval_takes_no_money() {
    use authority::store::Terminals;
    let world = World::new().await;
    let phone = world.held(420).await;
    let (terminal, now) = (world.terminal, world.now());
    world
        .store
        .ban_terminal(terminal, "stolen".into(), now)
        .await
        .unwrap();
    let answer = world.approve(&phone, "ann", 420).await;
    answer.refused(410, "claim-over");
    assert_eq!(world.balance("ann").await, 5_000);
}

#[tokio::test]
async fn approvals_that_race_pay_once_and_answer_the_same_bytes() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let racing: Vec<_> = (0..6).map(|_| world.approve(&phone, "ann", 420)).collect();
    let answers = futures_util::future::join_all(racing).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    assert_eq!(world.balance("ann").await, 4_580);
}
