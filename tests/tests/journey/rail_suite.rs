//! Is a rail what the authority takes it for? Facts that every rail passes, the fake as well as a real one.

use std::sync::Arc;

use authority::services::rails::{Answer, Order, Rail, RailKey, Reason, Refund, Standing};
use protocol::ids::{ChargeId, MerchantId, PaymentId, TerminalId};
use protocol::money::{Currency, Money};

/// What is in every account before a fact.
pub(crate) const IN_ACCOUNT: i64 = 5_000;

/// A rail with one account, and a look into the rail's own books.
pub(crate) struct Subject {
    pub(crate) rail: Arc<dyn Rail>,
    pub(crate) account: String,
    pub(crate) balance: Box<dyn Fn() -> i64>,
}

macro_rules! facts {
    ($($fact:ident),+ $(,)?) => {
        /// How many accounts the suite needs.
        pub(crate) const FACTS: &[&str] = &[$(stringify!($fact)),+];

        /// Runs every fact on a subject of its own.
        pub(crate) async fn check(mut subject: impl FnMut(usize) -> Subject) {
            let mut n = 0;
            $(
                println!("fact: {}", stringify!($fact));
                $fact(&subject(n)).await;
                n += 1;
            )+
            assert_eq!(n, FACTS.len());
        }
    };
}

facts! {
    an_order_is_set_aside_and_taken,
    the_same_again_is_answered_the_same_and_moves_nothing_more,
    calls_that_race_move_money_once,
    what_is_set_aside_goes_back_when_it_is_reversed,
    what_was_taken_goes_back_when_it_is_reversed,
    a_tombstone_refuses_what_comes_late,
    too_much_is_declined,
    an_unknown_account_is_declined,
    nothing_is_taken_that_was_not_set_aside,
    the_same_key_for_another_amount_is_declined,
    refunds_are_never_more_than_was_paid,
}

fn eur(minor: i64) -> Money {
    Money::new(minor, Currency::EUR).unwrap()
}

fn key() -> RailKey {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    RailKey::from_random(bytes)
}

fn order(subject: &Subject, minor: i64) -> Order {
    Order {
        key: key(),
        payment: PaymentId::from_parts(1, &[1; 10]),
        account: subject.account.clone(),
        amount: eur(minor),
        payee: MerchantId::from_parts(1, &[2; 10]),
        payee_name: "Corner Café".into(),
        terminal: TerminalId::from_number(4_711_042).unwrap(),
        charge: ChargeId::from_parts(1, &[3; 10]),
    }
}

#[track_caller]
fn done(answer: Answer) -> String {
    match answer {
        Answer::Done { reference } => reference,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn declined(answer: Answer) -> Reason {
    match answer {
        Answer::Declined { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn holds(subject: &Subject, minor: i64) {
    assert_eq!((subject.balance)(), minor);
}

async fn an_order_is_set_aside_and_taken(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    assert_eq!(rail.query(&order).await, Standing::Unseen);
    let reference = done(rail.authorise(&order).await);
    assert!(matches!(
        rail.query(&order).await,
        Standing::Authorised { .. }
    ));
    assert_eq!(done(rail.capture(&order).await), reference);
    assert_eq!(rail.query(&order).await, Standing::Captured { reference });
    holds(subject, IN_ACCOUNT - 420);
}

async fn the_same_again_is_answered_the_same_and_moves_nothing_more(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    let first = rail.authorise(&order).await;
    assert_eq!(rail.authorise(&order).await, first);
    let taken = rail.capture(&order).await;
    assert_eq!(rail.capture(&order).await, taken);
    assert_eq!(rail.authorise(&order).await, first);
    holds(subject, IN_ACCOUNT - 420);
}

async fn calls_that_race_move_money_once(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    let racing = (0..8).map(|_| rail.authorise(&order));
    for answer in futures_util::future::join_all(racing).await {
        done(answer);
    }
    let racing = (0..8).map(|_| rail.capture(&order));
    for answer in futures_util::future::join_all(racing).await {
        done(answer);
    }
    holds(subject, IN_ACCOUNT - 420);
}

async fn what_is_set_aside_goes_back_when_it_is_reversed(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    done(rail.authorise(&order).await);
    done(rail.reverse(&order).await);
    done(rail.reverse(&order).await);
    declined(rail.capture(&order).await);
    assert_eq!(rail.query(&order).await, Standing::Reversed);
    holds(subject, IN_ACCOUNT);
}

async fn what_was_taken_goes_back_when_it_is_reversed(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    done(rail.authorise(&order).await);
    done(rail.capture(&order).await);
    done(rail.reverse(&order).await);
    done(rail.reverse(&order).await);
    assert_eq!(rail.query(&order).await, Standing::Reversed);
    holds(subject, IN_ACCOUNT);
}

async fn a_tombstone_refuses_what_comes_late(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    done(rail.reverse(&order).await);
    declined(rail.authorise(&order).await);
    declined(rail.capture(&order).await);
    assert_eq!(rail.query(&order).await, Standing::Reversed);
    holds(subject, IN_ACCOUNT);
}

async fn too_much_is_declined(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, IN_ACCOUNT + 1));
    assert_eq!(declined(rail.authorise(&order).await), Reason::FundsShort);
    let reason = Reason::FundsShort;
    assert_eq!(rail.query(&order).await, Standing::Declined { reason });
    declined(rail.capture(&order).await);
    holds(subject, IN_ACCOUNT);
}

async fn an_unknown_account_is_declined(subject: &Subject) {
    let mut order = order(subject, 420);
    order.account = "nobody's".into();
    let reason = declined(subject.rail.authorise(&order).await);
    assert_eq!(reason, Reason::AccountUnknown);
}

async fn nothing_is_taken_that_was_not_set_aside(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    declined(rail.capture(&order).await);
    holds(subject, IN_ACCOUNT);
    // The refusal is no tombstone.
    done(rail.authorise(&order).await);
    done(rail.capture(&order).await);
    holds(subject, IN_ACCOUNT - 420);
}

async fn the_same_key_for_another_amount_is_declined(subject: &Subject) {
    let (rail, mut order) = (&subject.rail, order(subject, 420));
    done(rail.authorise(&order).await);
    order.amount = eur(421);
    declined(rail.authorise(&order).await);
    declined(rail.capture(&order).await);
    order.amount = eur(420);
    done(rail.capture(&order).await);
    holds(subject, IN_ACCOUNT - 420);
}

async fn refunds_are_never_more_than_was_paid(subject: &Subject) {
    let (rail, order) = (&subject.rail, order(subject, 420));
    let part = |minor| Refund {
        key: key(),
        of: order.key,
        account: order.account.clone(),
        amount: eur(minor),
    };
    done(rail.authorise(&order).await);
    declined(rail.refund(&part(1)).await);
    done(rail.capture(&order).await);
    let first = part(300);
    let answer = rail.refund(&first).await;
    assert_eq!(rail.refund(&first).await, answer);
    done(answer);
    declined(rail.refund(&part(121)).await);
    done(rail.refund(&part(120)).await);
    declined(rail.refund(&part(1)).await);
    holds(subject, IN_ACCOUNT);
}
