//! Is what a till asks twice done once, whoever died in between?

use futures_util::future::join;
use protocol::problem::ProblemType;

use crate::shop::{
    PRICE, Shop, asked, charge_id, is_cancelled, is_offered, is_paid, one, refund_of,
};

const CHARGES: &str = "SELECT count(*) FROM charges WHERE kind = 'till'";

#[tokio::test]
async fn a_charge_asked_for_twice_is_one_also_after_a_restart_and_an_outage() {
    let mut shop = Shop::open().await;
    let id = charge_id();
    let body = asked(&id, PRICE);
    let first = shop
        .till
        .ask("POST", "/v1/charges", Some(&body))
        .await
        .charge();
    assert!(is_offered(&first) && !first.stale);
    let again = shop
        .till
        .ask("POST", "/v1/charges", Some(&body))
        .await
        .charge();
    assert_eq!(again.state, first.state);
    let other = asked(&id, PRICE + 1);
    let differs = shop.till.ask("POST", "/v1/charges", Some(&other)).await;
    differs.is(ProblemType::ChargeDiffers);

    shop.kill_agent();
    shop.start_agent().await;
    let again = shop
        .till
        .ask("POST", "/v1/charges", Some(&body))
        .await
        .charge();
    assert_eq!(again.state, first.state);

    shop.world.authority.kill();
    shop.till
        .ask("POST", "/v1/charges", Some(&body))
        .await
        .is_away();
    shop.world.authority.serve().await.unwrap();
    let till = shop.till.clone();
    let ask = async || {
        let answer = till.ask("POST", "/v1/charges", Some(&body)).await;
        (answer.status == 200).then(|| answer.charge())
    };
    let again = harness::wait::until("the same charge", ask).await.unwrap();
    assert_eq!(again.state, first.state);
    let differs = shop.till.ask("POST", "/v1/charges", Some(&other)).await;
    differs.is(ProblemType::ChargeDiffers);
    assert_eq!(shop.count(CHARGES), 1);

    shop.pay().await;
    let paid = shop.looks(&id, is_paid).await;
    let again = shop
        .till
        .ask("POST", "/v1/charges", Some(&body))
        .await
        .charge();
    assert_eq!(again.state, paid.state);
    assert_eq!(shop.count("SELECT count(*) FROM payments"), 1);
    shop.till.judged();
}

#[tokio::test]
async fn cancelling_twice_is_cancelling_and_what_was_paid_stays_paid() {
    let mut shop = Shop::open().await;
    let (first, second) = (charge_id(), charge_id());
    shop.till
        .ask("POST", "/v1/charges", Some(&asked(&first, PRICE)))
        .await
        .charge();
    for _ in 0..2 {
        let cancelled = shop.till.ask("DELETE", &one(&first), None).await.charge();
        assert!(is_cancelled(&cancelled), "{cancelled:?}");
    }
    // A till that did not hear that it was cancelled asks for it again, and is told.
    let again = shop
        .till
        .ask("POST", "/v1/charges", Some(&asked(&first, PRICE)))
        .await;
    assert!(is_cancelled(&again.charge()));
    shop.kill_agent();
    shop.start_agent().await;
    let cancelled = shop.till.ask("DELETE", &one(&first), None).await.charge();
    assert!(is_cancelled(&cancelled));

    shop.till
        .ask("POST", "/v1/charges", Some(&asked(&second, PRICE)))
        .await
        .charge();
    shop.pay().await;
    for _ in 0..2 {
        let told = shop.till.ask("DELETE", &one(&second), None).await.charge();
        assert!(is_paid(&told), "{told:?}");
    }
    shop.till.judged();
}

#[tokio::test]
async fn a_refund_asked_for_twice_is_one_also_after_a_restart() {
    let mut shop = Shop::open().await;
    shop.set_pin();
    let id = charge_id();
    shop.till
        .ask("POST", "/v1/charges", Some(&asked(&id, PRICE)))
        .await
        .charge();
    shop.pay().await;
    shop.looks(&id, is_paid).await;
    let refund = refund_of(&id, 120);
    let given = shop
        .till
        .ask("POST", "/v1/refunds", Some(&refund))
        .await
        .json();
    assert_eq!(given["stage"], "refunded");
    shop.kill_agent();
    shop.start_agent().await;
    let again = shop
        .till
        .ask("POST", "/v1/refunds", Some(&refund))
        .await
        .json();
    assert_eq!(again, given);
    let mut other = refund.clone();
    other["amount"]["amount_minor"] = 121.into();
    let differs = shop.till.ask("POST", "/v1/refunds", Some(&other)).await;
    differs.is(ProblemType::RefundDiffers);
    let too_much = shop
        .till
        .ask("POST", "/v1/refunds", Some(&refund_of(&id, PRICE)))
        .await;
    too_much.is(ProblemType::RefundTooMuch);
    let day = shop.till.ask("GET", "/v1/day", None).await.json();
    assert_eq!(day["totals"]["debit_minor"], 120);
    assert_eq!(day["totals"]["credit_minor"], PRICE);
    let page = shop
        .till
        .ask("GET", "/v1/history?limit=1", None)
        .await
        .json();
    assert_eq!(page["entries"][0]["kind"], "refund");
    shop.till.judged();
}

#[tokio::test]
async fn of_two_tills_at_once_one_has_the_terminal_and_the_other_is_told_whose_it_is() {
    let shop = Shop::open().await;
    let (one_id, other_id) = (charge_id(), charge_id());
    let (one_body, other_body) = (asked(&one_id, PRICE), asked(&other_id, 990));
    let other_till = shop.till.clone();
    let answers = join(
        shop.till.ask("POST", "/v1/charges", Some(&one_body)),
        other_till.ask("POST", "/v1/charges", Some(&other_body)),
    );
    let answers = <[_; 2]>::from(answers.await);
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|it| it.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 1), "{answers:?}");
    lost[0].is(ProblemType::ChargeOpen);
    let winner = won[0].charge().state.charge.to_string();
    assert!(lost[0].problem().detail.unwrap().contains(&winner));

    // Both ask for the same one.
    shop.till.ask("DELETE", &one(&winner), None).await.charge();
    let body = asked(&charge_id(), PRICE);
    let (a, b) = join(
        shop.till.ask("POST", "/v1/charges", Some(&body)),
        other_till.ask("POST", "/v1/charges", Some(&body)),
    )
    .await;
    assert_eq!(a.charge().state, b.charge().state);
    assert_eq!(shop.count(CHARGES), 2);
    shop.till.judged();
}
