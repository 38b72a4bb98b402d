//! Is a till told the truth while the authority is away, when it comes back, and after a power cut?

use protocol::problem::ProblemType;

use crate::shop::{
    PRICE, Shop, asked, charge_id, is_cancelled, is_offered, is_paid, one, refund_of,
};

#[tokio::test]
async fn while_the_authority_is_away_a_till_hears_what_was_said_last_and_then_what_became_of_it() {
    let mut shop = Shop::open().await;
    shop.set_pin();
    let id = charge_id();
    shop.offer(&id).await;
    let mut stream = shop.till.follow(&id, None).await;
    stream.until(|it| is_offered(it) && !it.stale).await;

    shop.world.authority.kill();
    let stale = stream.until(|it| it.stale).await;
    assert!(is_offered(&stale));
    let looked = shop.till.ask("GET", &one(&id), None).await.charge();
    assert_eq!((&looked.state, looked.stale), (&stale.state, true));
    assert_eq!(looked.as_of, stale.as_of);
    let (other, unknown) = (charge_id(), charge_id());
    let refund = refund_of(&id, PRICE);
    for (method, path, body) in [
        ("POST", "/v1/charges".to_owned(), Some(asked(&other, PRICE))),
        ("DELETE", one(&id), None),
        ("GET", one(&unknown), None),
        ("GET", format!("{}/events", one(&unknown)), None),
        ("POST", "/v1/refunds".to_owned(), Some(refund.clone())),
        ("GET", "/v1/history".to_owned(), None),
        ("GET", "/v1/day".to_owned(), None),
    ] {
        shop.till.ask(method, &path, body.as_ref()).await.is_away();
    }

    // Back: on the same stream, without being asked.
    shop.world.authority.serve().await.unwrap();
    stream.until(|it| is_offered(it) && !it.stale).await;
    shop.pay().await;
    let paid = stream.until(is_paid).await;
    assert!(!paid.stale);
    assert!(stream.next().await.is_none(), "there is nothing after paid");
    // What was refused in the meantime was not done behind the till's back.
    shop.till
        .ask("GET", &one(&other), None)
        .await
        .is(ProblemType::ChargeUnknown);
    let given = shop
        .till
        .ask("POST", "/v1/refunds", Some(&refund))
        .await
        .json();
    assert_eq!(given["stage"], "refunded");
    shop.till.judged();
}

#[tokio::test]
async fn a_charge_that_is_paid_while_the_agent_is_dead_is_paid_at_the_tills_next_look() {
    let mut shop = Shop::open().await;
    let id = charge_id();
    shop.offer(&id).await;
    let mut stream = shop.till.follow(&id, None).await;
    let (heard, _) = stream.next().await.unwrap();
    let phone = shop.phone().await;
    let link = phone.scan(shop.world.terminal()).await.unwrap();
    shop.kill_agent();
    while stream.next().await.is_some() {}
    let claim = phone.must_claim(&link).await.unwrap();
    phone.must_approve(&claim).await.unwrap();
    shop.start_agent().await;

    let looked = shop.till.ask("GET", &one(&id), None).await.charge();
    assert!(is_paid(&looked) && !looked.stale, "{looked:?}");
    let mut stream = shop.till.follow(&id, Some(&heard)).await;
    let (last, told) = stream.next().await.unwrap();
    assert_eq!(told.state, looked.state);
    assert!(stream.next().await.is_none());
    // Heard before another restart: nothing is told twice.
    shop.kill_agent();
    shop.start_agent().await;
    let nothing = shop.till.follow(&id, Some(&last)).await;
    assert_eq!(nothing.status(), 204);
    shop.till.judged();
}

#[tokio::test]
async fn an_agent_that_starts_while_the_authority_is_away_says_that_it_does_not_know() {
    let mut shop = Shop::open().await;
    let id = charge_id();
    shop.till
        .ask("POST", "/v1/charges", Some(&asked(&id, PRICE)))
        .await
        .charge();
    shop.world.authority.kill();
    shop.kill_agent();
    shop.start_agent().await;
    shop.till.ask("GET", &one(&id), None).await.is_away();
    shop.till.ask("DELETE", &one(&id), None).await.is_away();
    let stream = shop.till.follow(&id, None).await;
    assert_eq!(stream.status(), 503);

    shop.world.authority.serve().await.unwrap();
    let looked = shop.looks(&id, |it| !it.stale).await;
    assert!(is_offered(&looked));
    let cancelled = shop.till.ask("DELETE", &one(&id), None).await.charge();
    assert!(is_cancelled(&cancelled));
    shop.till.judged();
}

#[tokio::test]
async fn a_new_secret_shuts_the_old_one_out_once_the_agent_has_started_again() {
    let mut shop = Shop::open().await;
    let old = shop.till.clone();
    let said = shop.world.terminal().ask(&["till", "new-secret"]).unwrap();
    let said = said.ok().unwrap();
    old.ask("GET", "/v1/day", None).await.json();
    shop.kill_agent();
    shop.start_agent().await;
    assert_ne!(shop.till.secret, old.secret);
    assert!(!said.out.contains(&shop.till.secret));
    let refused = old.ask("GET", "/v1/day", None).await;
    refused.is(ProblemType::SignInNeeded);
    shop.till.ask("GET", "/v1/day", None).await.json();
    shop.till.judged();
}
