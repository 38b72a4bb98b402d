//! When does money move, and what is the terminal told?

use authority::store::{
    ChargeStatus, ClaimOutcome, PayOutcome, Payment, PersonKey, REVISIONS_MAX, StoreError,
};
use protocol::token::{Channel, WindowId};
use protocol::wire::claims::ClaimState;
use protocol::wire::push::ChargeStage;

use crate::world::{LATER, NOW, World, epoch_now, eur, live, number, person, screen_windows};

use super::{claim_state, push, stage, status_of};

pub(crate) async fn an_approval_pays_once_and_answers_the_same_again(world: &World) {
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let (anna, ben) = (
        world.shopper("anna", 1_000).await,
        world.shopper("ben", 1_000).await,
    );
    let charge = world.start(terminal, 420).await;
    let record = world.claimed(terminal).await;
    let claim = record.claimed.claim;
    let mut pay = world.pay_of(&record, &anna, eur(420));
    pay.moved = screen_windows(terminal);
    let PayOutcome::Paid(payment) = world.store.pay(pay.clone()).await.unwrap() else {
        panic!("not paid")
    };
    assert_eq!((payment.id, payment.receipt), (pay.payment, pay.receipt));
    assert_eq!(
        (&payment.approved, payment.paid_at),
        (&pay.approved, pay.at)
    );
    assert_eq!(payment.payee_name, merchant.name);
    assert_eq!(payment.receipt_jws, None);
    let stored = world.store.payment_of(claim).await.unwrap();
    assert_eq!(stored.as_ref(), Some(&*payment));
    assert_eq!(
        world.store.receipts_due(9).await.unwrap(),
        [*payment.clone()]
    );
    assert_eq!(status_of(world, charge).await, ChargeStatus::Paid(claim));
    assert_eq!(claim_state(world, claim).await, ClaimState::Paid);
    assert_eq!(
        world.store.turns(screen_windows(terminal)).await.unwrap(),
        [1, 1]
    );

    let mut retry = world.pay_of(&record, &anna, eur(420));
    retry.at = LATER;
    let again = world.store.pay(retry).await;
    assert_eq!(again, Ok(PayOutcome::Already(payment)));
    let other = world.store.pay(world.pay_of(&record, &ben, eur(420))).await;
    assert_eq!(other, Ok(PayOutcome::ClaimOver));
    assert_eq!(world.balance(&anna).await, 580);
    assert_eq!(world.balance(&ben).await, 1_000);
    let earned = world.store.merchant_balance(merchant.account).await;
    assert_eq!(earned, Ok(420));
}

pub(crate) async fn an_approval_that_comes_too_late_moves_nothing(world: &World) {
    let terminal = world.terminal(1).await;
    let poor = world.shopper("poor", 419).await;
    world.start(terminal, 420).await;
    let record = world.claimed(terminal).await;
    let pay = |who| world.pay_of(&record, who, eur(420));
    let short = world.store.pay(pay(&poor)).await;
    assert_eq!(short, Ok(PayOutcome::FundsShort));
    let stranger = person("nobody");
    let nobody = world.store.pay(pay(&stranger)).await;
    assert_eq!(nobody, Ok(PayOutcome::NoAccount));
    let rich = world.shopper("rich", 1_000).await;
    let mut late = pay(&rich);
    late.at = record.claimed.held_until;
    assert_eq!(world.store.pay(late).await, Ok(PayOutcome::ClaimOver));
    let claim = record.claimed.claim;
    assert_eq!(claim_state(world, claim).await, ClaimState::Held);
    world
        .store
        .release_claim(claim, Vec::new(), NOW)
        .await
        .unwrap();
    let over = world.store.pay(pay(&rich)).await;
    assert_eq!(over, Ok(PayOutcome::ClaimOver));
    assert_eq!(world.balance(&rich).await, 1_000);
    assert_eq!(world.store.payment_of(claim).await, Ok(None));
    assert_eq!(world.store.receipts_due(9).await.unwrap(), []);
}

pub(crate) async fn an_open_charge_is_paid_as_approved(world: &World) {
    let merchant = world.merchant_with(None, Some(eur(900))).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 1_000).await;
    let record = world.claimed(terminal).await;
    let charge = || world.store.charge(record.claimed.charge);
    assert_eq!(charge().await.unwrap().unwrap().amount, None);
    let pay = world.pay_of(&record, &anna, eur(333));
    let PayOutcome::Paid(payment) = world.store.pay(pay).await.unwrap() else {
        panic!("not paid")
    };
    assert_eq!(payment.approved.amount(), eur(333));
    assert_eq!(charge().await.unwrap().unwrap().amount, Some(eur(333)));
    let other = world
        .store
        .pay(world.pay_of(&record, &anna, eur(334)))
        .await;
    assert_eq!(other, Ok(PayOutcome::ClaimOver));
}

pub(crate) async fn a_claim_by_a_known_person_is_paid_by_nobody_else(world: &World) {
    let merchant = world.merchant_with(Some(eur(250)), None).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let (anna, ben) = (
        world.shopper("anna", 1_000).await,
        world.shopper("ben", 1_000).await,
    );
    let mut claim = world.claim_of(live(terminal, Channel::Code, 0));
    claim.person = Some(anna.clone());
    let ClaimOutcome::Claimed(record) = world.store.claim(claim).await.unwrap() else {
        panic!("not claimed")
    };
    for other in [&ben, &person("nobody")] {
        let refused = world
            .store
            .pay(world.pay_of(&record, other, eur(250)))
            .await;
        assert_eq!(refused, Ok(PayOutcome::ClaimOver));
    }
    world.paid(&record, &anna).await;
}

pub(crate) async fn the_first_receipt_stays(world: &World) {
    let terminal = world.terminal(1).await;
    let anna = world.shopper("anna", 1_000).await;
    world.start(terminal, 420).await;
    let record = world.claimed(terminal).await;
    let payment = world.paid(&record, &anna).await;
    let store = |jws| world.receipt(&payment, jws);
    assert_eq!(store("first").await.unwrap(), "first");
    assert_eq!(store("second").await.unwrap(), "first");
    let stored = world.store.payment_of(record.claimed.claim).await.unwrap();
    assert_eq!(stored.unwrap().receipt_jws.as_deref(), Some("first"));
    assert_eq!(world.store.receipts_due(9).await.unwrap(), []);
    let unknown = Payment {
        id: world.payment_id(),
        ..payment
    };
    let stored = world.receipt(&unknown, "x").await;
    assert!(matches!(stored, Err(StoreError::Corrupt { .. })));

    // Of another receipt, or at another terminal, than the payment says: nothing is stored, and it stays due.
    world.start(terminal, 420).await;
    let record = world.claimed(terminal).await;
    let second = world.paid(&record, &anna).await;
    let other_receipt = Payment {
        receipt: unknown.receipt,
        ..second.clone()
    };
    let elsewhere = Payment {
        approved: paid_elsewhere(world, &anna).await.approved,
        ..second.clone()
    };
    for wrong in [other_receipt, elsewhere] {
        let stored = world.receipt(&wrong, "x").await;
        assert!(matches!(stored, Err(StoreError::Corrupt { .. })));
    }
    let due = world.store.receipts_due(9).await.unwrap();
    assert!(due.contains(&second), "{due:?}");
}

/// A payment at another terminal.
async fn paid_elsewhere(world: &World, person: &PersonKey) -> Payment {
    let terminal = world.terminal(2).await;
    world.start(terminal, 5).await;
    let record = world.claimed(terminal).await;
    world.paid(&record, person).await
}

pub(crate) async fn the_terminal_is_told_paid_only_with_a_receipt(world: &World) {
    let terminal = world.terminal(1).await;
    let anna = world.shopper("anna", 1_000).await;
    let mut revisions = vec![world.revision(terminal).await];
    let charge = world.start(terminal, 420).await;
    let until = NOW + 600_000;
    let state = push(world, terminal).await;
    revisions.push(state.revision);
    assert_eq!(stage(state), ChargeStage::Offered { until });
    let record = world.claimed(terminal).await;
    let (claim, mark) = (record.claimed.claim, record.claimed.mark);
    let held = ChargeStage::Held {
        claim,
        mark,
        until: record.claimed.held_until,
    };
    let state = push(world, terminal).await;
    revisions.push(state.revision);
    assert_eq!(stage(state), held);
    let payment = world.paid(&record, &anna).await;
    let state = push(world, terminal).await;
    revisions.push(state.revision);
    assert_eq!(stage(state), held);
    let receipt = "a.b.c".to_owned();
    world.receipt(&payment, &receipt).await.unwrap();
    let state = push(world, terminal).await;
    revisions.push(state.revision);
    assert_eq!(state.charge.as_ref().unwrap().charge, charge);
    let paid = ChargeStage::Paid {
        claim,
        mark,
        receipt,
    };
    assert_eq!(stage(state), paid);
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    world.start(terminal, 100).await;
    let state = push(world, terminal).await;
    assert_eq!(stage(state), ChargeStage::Offered { until });
}

pub(crate) async fn the_terminal_is_told_turns_of_its_own_and_of_late_epochs(world: &World) {
    let (terminal, other) = (world.terminal(1).await, world.terminal(2).await);
    let epoch = epoch_now(terminal);
    let window = |terminal, epoch| WindowId {
        terminal,
        version: 1,
        channel: Channel::Qr,
        epoch,
        window: 3,
    };
    for (whose, epochs) in [
        (terminal, [epoch - 5, epoch, epoch + 1]),
        (other, [epoch; 3]),
    ] {
        let mut charge = world.new_charge(whose, 420);
        charge.moved = epochs.map(|epoch| window(whose, epoch)).to_vec();
        world.store.start_charge(charge).await.unwrap();
    }
    let told = |terminal, epoch| async move {
        let state = world
            .store
            .push_state(terminal, epoch)
            .await
            .unwrap()
            .unwrap();
        let turn = |state: &protocol::turn::TurnState| (state.window.epoch, state.turn);
        state.turns.iter().map(turn).collect::<Vec<_>>()
    };
    assert_eq!(told(terminal, epoch).await, [(epoch, 1), (epoch + 1, 1)]);
    assert_eq!(told(terminal, 0).await.len(), 3);
    assert_eq!(told(other, epoch).await, [(epoch, 3)]);
    assert_eq!(told(other, epoch + 1).await, []);
    assert_eq!(world.store.push_state(number(9), 0).await, Ok(None));
    let revisions = |asked| async { world.store.revisions(asked).await.unwrap() };
    let mut both = revisions(vec![terminal, number(9), other]).await;
    both.sort_unstable();
    let mut each = Vec::new();
    for whose in [terminal, other] {
        each.push((whose, super::push(world, whose).await.revision));
    }
    each.sort_unstable();
    assert_eq!(both, each, "of one nobody knows there is none");
    assert_eq!(revisions(vec![terminal; REVISIONS_MAX]).await.len(), 1);
    assert_eq!(revisions(Vec::new()).await, []);
}
