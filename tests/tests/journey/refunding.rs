//! Does money go back from a real till to the account that paid, and only as the merchant's PIN, the payment
//! and the day allow?
//!
//! Till, agent, mutual TLS, daemon and built-in ledger are the real ones.

use harness::World;
use harness::till::Till;
use protocol::ids::ChargeId;
use protocol::jws;
use protocol::problem::ProblemType;
use protocol::refund::RefundClaims;
use protocol::wire::refunds::RefundStage;

use super::{PRICE, assert_refused, offer, published_keys};

const PIN: &str = "480317";
const WRONG_PIN: &str = "480318";
/// Wrong PINs in a row, after which none is looked at for a while.
const MISSES: usize = 5;

/// A world whose merchant has a PIN, and a charge that a shopper has paid.
async fn sold() -> (World, ChargeId) {
    let world = World::new().await.unwrap();
    set_pin(&world);
    let charge = offer(&world).await.charge;
    let phone = world.signed_in_phone("shopper-one").await.unwrap();
    let link = phone.tap(world.terminal()).await.unwrap();
    let claim = phone.must_claim(&link).await.unwrap();
    phone.must_approve(&claim).await.unwrap();
    world.terminal().till().unwrap().paid(charge).await.unwrap();
    (world, charge)
}

fn set_pin(world: &World) {
    let file = world.dir().join("merchant-pin");
    std::fs::write(&file, PIN).unwrap();
    let (merchant, file) = (world.merchant.to_string(), file.display().to_string());
    let pin = ["merchant", "pin", &merchant, "--pin-file", &file];
    world.authority.verb(&pin).unwrap();
}

/// What the shoppers have, and what the merchant has.
fn balances(world: &World) -> (i64, i64) {
    let conn = rusqlite::Connection::open(world.authority.file("store.sqlite")).unwrap();
    let sql = "SELECT sum(balance_minor) FROM accounts WHERE kind = 'shopper'";
    let shoppers = conn.query_row(sql, [], |row| row.get(0)).unwrap();
    let merchants = world.authority.verb(&["merchant", "list"]).unwrap();
    let paid = merchants["merchants"][0]["paid_minor"].as_i64().unwrap();
    (shoppers, paid)
}

#[tokio::test]
async fn a_till_gives_back_once_and_never_more_than_was_paid_or_than_the_day_allows() {
    let (mut world, charge) = sold().await;
    let (had, earned) = balances(&world);
    assert_eq!(earned, PRICE);
    let keys = published_keys(&world).await;
    let refund = |minor| Till::new_refund(charge, minor, PIN).unwrap();

    let request = refund(120);
    let till = world.terminal().till().unwrap();
    let given = till.refund(&request).await.unwrap().unwrap();
    let RefundStage::Refunded { receipt, .. } = &given.stage else {
        panic!("{given:?}")
    };
    let claims = jws::verify::<RefundClaims>(receipt, &keys).unwrap();
    let claims = claims.into_claims();
    assert_eq!((claims.refund, claims.charge), (request.refund, charge));
    assert_eq!(
        (claims.amount, claims.rail.as_str()),
        (request.amount, "ledger")
    );
    assert_eq!(claims.paid.amount_minor(), PRICE);
    assert_eq!(claims.terminal, Some(world.terminal().id()));
    assert_eq!(balances(&world), (had + 120, PRICE - 120));

    let too_much = till.refund(&refund(PRICE - 120 + 1)).await.unwrap();
    assert_refused(too_much.err(), ProblemType::RefundTooMuch);
    let merchant = world.merchant.to_string();
    let cap = [
        "merchant",
        "set",
        &merchant,
        "--refund-day-max-minor",
        "200",
    ];
    world.authority.verb(&cap).unwrap();
    let over_cap = till.refund(&refund(81)).await.unwrap();
    assert_refused(over_cap.err(), ProblemType::RefundCap);
    assert_eq!(balances(&world), (had + 120, PRICE - 120));
    till.refund(&refund(80)).await.unwrap().unwrap();

    // A till that did not hear the answer, and asks a daemon that has died meanwhile.
    world.authority.kill();
    let unheard = world.terminal().till().unwrap().refund(&request).await;
    assert!(!matches!(unheard, Ok(Ok(_))), "nobody is there");
    world.authority.serve().await.unwrap();
    let till = world.terminal().till().unwrap();
    let again = async || till.refund(&request).await.ok()?.ok();
    let again = harness::wait::until("the same refund", again)
        .await
        .unwrap();
    assert_eq!(again, given);
    assert_eq!(balances(&world), (had + 200, PRICE - 200));

    let books = world.authority.verb(&["account", "check"]).unwrap();
    assert_eq!(books["balanced"], true);
    let audit = world.authority.verb(&["audit", "verify"]).unwrap();
    assert_eq!(audit["holds"], true);
    let dispute = ["dispute", "show", &charge.to_string()];
    let dispute = world.authority.verb(&dispute).unwrap();
    assert_eq!(dispute["holds"], true, "{dispute}");
    for log in std::fs::read_dir(world.logs()).unwrap() {
        let path = log.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(PIN), "the PIN is in {}", path.display());
    }
}

#[tokio::test]
async fn a_wrong_pin_gives_nothing_back_and_five_lock_it_until_an_operator_sets_a_new_one() {
    let (world, charge) = sold().await;
    let before = balances(&world);
    let till = world.terminal().till().unwrap();
    for _ in 0..MISSES {
        let wrong = Till::new_refund(charge, 120, WRONG_PIN).unwrap();
        let refused = till.refund(&wrong).await.unwrap();
        assert_refused(refused.err(), ProblemType::PinRefused);
    }
    let right = Till::new_refund(charge, 120, PIN).unwrap();
    let locked = till.refund(&right).await.unwrap();
    assert_refused(locked.err(), ProblemType::PinLocked);
    assert_eq!(balances(&world), before);
    set_pin(&world);
    till.refund(&right).await.unwrap().unwrap();
    assert_eq!(balances(&world), (before.0 + 120, before.1 - 120));
}
