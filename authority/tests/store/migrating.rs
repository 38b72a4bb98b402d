//! Does what earlier versions kept come through every migration?

use std::sync::Arc;

use authority::store::{IntentStep, PayOutcome, Reason};
use protocol::token::Channel;
use rusqlite::Connection;

use crate::suite::allowances::{at_a_bank, pays};
use crate::suite::sign_ins::{new_session, start};
use crate::world::{NOW, World, eur, person};

#[tokio::test(flavor = "multi_thread")]
async fn persons_accounts_and_payments_of_before_profiles_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m2key.db");
    let world = World::new(Arc::new(crate::open(&file)));
    let ann = world.shopper("ann", 1_000).await;
    world.shopper("bob", 200).await;
    let terminal = world.terminal(1).await;
    world.start(terminal, 420).await;
    let record = world.claimed(terminal).await;
    let paid = world.paid(&record, &ann).await;
    let jws = "e30.e30.".to_owned();
    assert_eq!(world.receipt(&paid, &jws).await, Ok(jws.clone()));
    world.start(terminal, 100).await;
    let held = world.claimed(terminal).await;
    drop(world);
    crate::old::make(&file, 8);
    let conn = Connection::open(&file).unwrap();
    let sql = "SELECT count(*) FROM persons WHERE subject IN ('ann', 'bob')";
    let persons: u32 = conn.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(persons, 2, "they are what they were then");
    drop(conn);

    let world = World::new(Arc::new(crate::open(&file)));
    assert_eq!(world.balance(&ann).await, 580);
    assert_eq!(world.balance(&person("bob")).await, 200);
    let store = &world.store;
    let claim = record.claimed.claim;
    let payment = store.payment_of(claim).await.unwrap().unwrap();
    assert_eq!((payment.id, payment.receipt_jws), (paid.id, Some(jws)));
    assert_eq!(payment.pseudonym, paid.pseudonym, "the salts are the same");
    let profile = store.profile(ann.clone()).await.unwrap().unwrap();
    assert_eq!(profile.identities.len(), 1);
    assert_eq!((profile.accounts.len(), profile.locked), (1, None));
    assert_eq!(profile.accounts[0].rail, "ledger");
    let pay = world.pay_of(&held, &ann, eur(100));
    let paid = store.pay(pay).await;
    assert!(matches!(paid, Ok(PayOutcome::Paid(_))), "{paid:?}");
    assert_eq!(world.balance(&ann).await, 480);
    start(&world, &new_session(1, "ann", NOW)).await;
    assert_eq!(store.sessions_of(ann, 9).await.unwrap().len(), 1);
    world.start(terminal, 50).await;
    world.claim(terminal, Channel::Qr).await;
    world.check_books_and_audit().await;
}

/// Since then an intent says itself what it took.
#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_was_open_at_the_upgrade_gives_back_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m2key.db");
    let world = World::new(Arc::new(crate::open(&file)));
    let carl = at_a_bank(&world, "carl").await;
    let PayOutcome::Begun(asked) = pays(&world, &carl, 1, 900).await else {
        panic!("a rail is asked");
    };
    drop(world);
    crate::old::make(&file, 15);

    let world = World::new(Arc::new(crate::open(&file)));
    let standings = world.store.standings(carl.clone()).await.unwrap();
    assert_eq!(standings[0].1.unaided_minor, 900);
    let declined = IntentStep::Declined {
        reason: Reason::FundsShort,
    };
    let step = world.store.step_intent(asked.payment, declined, NOW);
    step.await.unwrap();
    let standings = world.store.standings(carl).await.unwrap();
    assert_eq!(standings[0].1.unaided_minor, 0);
}
