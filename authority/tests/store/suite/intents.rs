//! Does an intent take every step once, in order, and never back?

use authority::store::{
    ChargeStatus, ClaimRecord, Due, Intent, IntentState, IntentStep, NewServiceAccount, PayOutcome,
    PersonKey, Reason, ServiceAccount,
};
use protocol::ids::TerminalId;
use protocol::money::Currency;
use protocol::wire::claims::ClaimState;
use protocol::wire::push::EndReason;

use super::{claim_state, status_of};
use crate::world::{LATER, NOW, World, eur, person, screen_windows};

const SOON: i64 = 60_000;

async fn bring(world: &World, who: &PersonKey, reference: &str) -> ServiceAccount {
    let account = NewServiceAccount {
        id: world.account_id(),
        person: who.clone(),
        rail: "bank".into(),
        reference: reference.into(),
        name: "Everyday".into(),
        currency: Currency::EUR,
        at: NOW,
    };
    world.store.bring_service_account(account).await.unwrap()
}

/// A claim that waits for anna's bank.
async fn begun(world: &World) -> (TerminalId, ClaimRecord, Intent) {
    let terminal = world.terminal(1).await;
    let anna = person("anna");
    bring(world, &anna, "anna's").await;
    world.start(terminal, 420).await;
    let record = world.claimed(terminal).await;
    let pay = world.pay_of(&record, &anna, eur(420));
    let key = pay.key;
    let PayOutcome::Begun(intent) = world.store.pay(pay).await.unwrap() else {
        panic!("not begun")
    };
    assert_eq!((intent.key, intent.state), (key, IntentState::Authorising));
    assert_eq!(intent.rail_account, "anna's");
    (terminal, record, *intent)
}

async fn step(world: &World, intent: &Intent, step: IntentStep) -> Intent {
    let stepped = world.store.step_intent(intent.payment, step, NOW + 2_000);
    stepped.await.unwrap().unwrap()
}

fn authorised() -> IntentStep {
    let reference = "set aside 1".into();
    IntentStep::Authorised { reference }
}

fn captured(terminal: TerminalId) -> IntentStep {
    let (reference, moved) = ("taken 1".into(), screen_windows(terminal));
    IntentStep::Captured { reference, moved }
}

async fn is_paying(world: &World, record: &ClaimRecord) -> bool {
    let claim = world.store.claim_record(record.claimed.claim).await;
    claim.unwrap().unwrap().paying
}

pub(crate) async fn an_intent_becomes_a_payment_with_its_last_step(world: &World) {
    let (terminal, record, intent) = begun(world).await;
    let claim = record.claimed.claim;
    assert!(is_paying(world, &record).await);
    assert_eq!(world.store.payment_of(claim).await, Ok(None));
    let intent = step(world, &intent, authorised()).await;
    assert_eq!(intent.state, IntentState::Capturing);
    assert_eq!(intent.rail_reference.as_deref(), Some("set aside 1"));
    let intent = step(world, &intent, captured(terminal)).await;
    assert_eq!((intent.state, intent.next_at), (IntentState::Paid, None));
    let payment = world.store.payment_of(claim).await.unwrap().unwrap();
    assert_eq!(
        (payment.id, payment.receipt),
        (intent.payment, intent.receipt)
    );
    assert_eq!(
        (payment.rail.as_str(), payment.rail_reference.as_str()),
        ("bank", "taken 1")
    );
    assert_eq!(payment.service_account, intent.service_account);
    assert_eq!(
        world.store.receipts_due(9).await.unwrap(),
        std::slice::from_ref(&payment)
    );
    assert_eq!(claim_state(world, claim).await, ClaimState::Paid);
    let charge = status_of(world, record.claimed.charge).await;
    assert_eq!(charge, ChargeStatus::Paid(claim));
    assert_eq!(
        world.store.turns(screen_windows(terminal)).await.unwrap(),
        [1, 1]
    );
    assert_eq!(world.store.ledger_report().await.unwrap().entries, 2);
    // Heard again, late or otherwise: nothing more.
    for late in [authorised(), captured(terminal), IntentStep::Reversed] {
        assert_eq!(step(world, &intent, late).await, intent);
    }
    let mut again = world.pay_of(&record, &person("anna"), eur(420));
    again.at = LATER;
    let again = world.store.pay(again).await;
    assert_eq!(again, Ok(PayOutcome::Already(Box::new(payment))));
    let kinds = world.audit_kinds().await;
    let steps: Vec<_> = kinds
        .iter()
        .filter(|it| it.starts_with("intent."))
        .collect();
    assert_eq!(steps, ["intent.begun", "intent.authorised"]);
}

pub(crate) async fn an_account_is_asked_once_for_a_claim(world: &World) {
    let (_, record, intent) = begun(world).await;
    let anna = person("anna");
    let pay = || world.store.pay(world.pay_of(&record, &anna, eur(420)));
    assert_eq!(pay().await, Ok(PayOutcome::Asked(Box::new(intent.clone()))));
    let reason = Reason::FundsShort;
    let declined = step(world, &intent, IntentStep::Declined { reason }).await;
    assert_eq!(
        (declined.state, declined.reason),
        (IntentState::Declined, Some(reason))
    );
    assert!(!is_paying(world, &record).await);
    assert_eq!(pay().await, Ok(PayOutcome::Asked(Box::new(declined))));
    // Another account may.
    let other = bring(world, &anna, "anna's other").await;
    let mut pay = world.pay_of(&record, &anna, eur(420));
    pay.account = Some(other.id);
    let begun = world.store.pay(pay).await.unwrap();
    assert!(matches!(begun, PayOutcome::Begun(_)), "{begun:?}");
    assert!(is_paying(world, &record).await);
}

pub(crate) async fn while_a_rail_is_asked_nobody_else_pays_or_releases(world: &World) {
    let (_, record, intent) = begun(world).await;
    let claim = record.claimed.claim;
    let ben = world.shopper("ben", 1_000).await;
    let other = world.store.pay(world.pay_of(&record, &ben, eur(420))).await;
    assert_eq!(other, Ok(PayOutcome::ClaimOver));
    // Anna's own ledger account does not pay what her bank is asked for.
    world.shopper("anna", 1_000).await;
    let accounts = world.store.service_accounts(person("anna")).await.unwrap();
    let ledger = accounts.iter().find(|it| it.rail == "ledger").unwrap();
    let mut pay = world.pay_of(&record, &person("anna"), eur(420));
    pay.account = Some(ledger.id);
    let asked = world.store.pay(pay).await;
    assert_eq!(asked, Ok(PayOutcome::Asked(Box::new(intent))));
    assert_eq!(
        world.store.release_claim(claim, Vec::new(), LATER).await,
        Ok(false)
    );
    let due = world.store.due(LATER, 9).await.unwrap();
    assert!(
        !due.iter().any(|it| matches!(it, Due::Claim(..))),
        "{due:?}"
    );
    assert_eq!(world.balance(&ben).await, 1_000);
    assert_eq!(world.balance(&person("anna")).await, 1_000);
}

pub(crate) async fn a_charge_that_ends_turns_an_intent_back_unless_it_is_being_taken(
    world: &World,
) {
    let (terminal, record, intent) = begun(world).await;
    let charge = record.claimed.charge;
    let end = || {
        let reason = EndReason::Cancelled;
        world
            .store
            .end_charge(charge, reason, Vec::new(), NOW + SOON)
    };
    end().await.unwrap();
    let ended = ChargeStatus::Ended(EndReason::Cancelled);
    assert_eq!(status_of(world, charge).await, ended);
    assert_eq!(
        claim_state(world, record.claimed.claim).await,
        ClaimState::Released
    );
    let stands = world.store.intent(intent.payment).await.unwrap().unwrap();
    assert_eq!(
        (stands.state, stands.reason),
        (IntentState::Reversing, Some(Reason::Cancelled))
    );
    // What the rail says now comes too late.
    for late in [authorised(), captured(terminal)] {
        assert_eq!(
            step(world, &intent, late).await.state,
            IntentState::Reversing
        );
    }
    let reversed = step(world, &intent, IntentStep::Reversed).await;
    assert_eq!(
        (reversed.state, reversed.next_at),
        (IntentState::Reversed, None)
    );
    assert_eq!(world.store.ledger_report().await.unwrap().entries, 0);
}

pub(crate) async fn what_is_being_taken_is_not_ended_by_till_or_ban(world: &World) {
    let (terminal, record, intent) = begun(world).await;
    step(world, &intent, authorised()).await;
    let (charge, claim) = (record.claimed.charge, record.claimed.claim);
    let reason = EndReason::Cancelled;
    let ended = world
        .store
        .end_charge(charge, reason, Vec::new(), NOW + SOON);
    assert_eq!(
        ended.await.unwrap().unwrap().status,
        ChargeStatus::Held(claim)
    );
    world
        .store
        .ban_terminal(terminal, "stolen".into(), NOW + SOON)
        .await
        .unwrap();
    assert_eq!(status_of(world, charge).await, ChargeStatus::Held(claim));
    let (reference, moved) = ("taken 1".into(), Vec::new());
    let paid = step(world, &intent, IntentStep::Captured { reference, moved }).await;
    assert_eq!(paid.state, IntentState::Paid);
    assert_eq!(status_of(world, charge).await, ChargeStatus::Paid(claim));
}

pub(crate) async fn a_refused_capture_is_taken_back(world: &World) {
    let (_, record, intent) = begun(world).await;
    step(world, &intent, authorised()).await;
    let reason = Reason::Refused;
    let stands = step(world, &intent, IntentStep::Declined { reason }).await;
    assert_eq!(stands.state, IntentState::Reversing);
    assert!(stands.next_at.is_some(), "the rail has to hear of it");
    assert!(!is_paying(world, &record).await);
}

pub(crate) async fn what_is_due_is_found_by_rail_and_time_and_counted(world: &World) {
    let (_, _, intent) = begun(world).await;
    let due = |at| world.store.intents_due("bank".into(), at, 9);
    assert_eq!(due(NOW + 2_000).await.unwrap(), []);
    assert_eq!(
        due(NOW + SOON).await.unwrap(),
        std::slice::from_ref(&intent)
    );
    let elsewhere = world.store.intents_due("carrier".into(), LATER, 9).await;
    assert_eq!(elsewhere.unwrap(), []);
    let next_at = NOW + 2 * SOON;
    let stands = step(world, &intent, IntentStep::Unanswered { next_at }).await;
    assert_eq!((stands.tries, stands.next_at), (1, Some(next_at)));
    assert_eq!(due(NOW + SOON).await.unwrap(), []);
    assert_eq!(due(next_at).await.unwrap(), std::slice::from_ref(&stands));
    assert_eq!(world.store.open_intents(None, 9).await.unwrap(), [stands]);
    let counts = world.store.count_open_intents().await.unwrap();
    assert_eq!(counts.len(), 1);
    assert_eq!(
        (counts[0].state, counts[0].count),
        (IntentState::Authorising, 1)
    );
    assert_eq!(counts[0].oldest, intent.started_at);
    assert!(
        world
            .store
            .is_intent_of(intent.payment, person("anna"))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .is_intent_of(intent.payment, person("ben"))
            .await
            .unwrap()
    );
}

pub(crate) async fn service_accounts_are_listed_as_they_are_offered(world: &World) {
    let anna = world.shopper("anna", 0).await;
    let bank = bring(world, &anna, "anna's").await;
    assert_eq!(bring(world, &anna, "anna's").await, bank, "the same again");
    assert_eq!(bank.brought_by, Some(anna.clone()));
    let listed = world.store.service_accounts(anna).await.unwrap();
    let rails: Vec<_> = listed.iter().map(|it| it.rail.as_str()).collect();
    assert_eq!(rails.len(), 2);
    assert!(rails.contains(&"ledger") && rails.contains(&"bank"));
    let nobody = world.store.service_accounts(person("nobody")).await;
    assert_eq!(nobody.unwrap(), []);
}
