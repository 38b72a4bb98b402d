//! Which charge does a claim hold, and which tokens does it spend?

use authority::store::{ChargeStatus, ClaimOutcome, Due, StartCharge, StoreError};
use protocol::charge::{ChargeKind, HOLD_MS, RELEASES_MAX};
use protocol::money::Money;
use protocol::token::Channel;
use protocol::turn::TURN_SHUT;
use protocol::wire::claims::ClaimState;
use protocol::wire::push::{ChargeStage, EndReason};

use crate::world::{LATER, NOW, World, eur, live, number, screen_windows};

use super::{claim_state, offer, push, status_of};

pub(crate) async fn a_charge_is_started_once_and_one_at_a_time(world: &World) {
    let (terminal, other) = (world.terminal(1).await, world.terminal(2).await);
    let mut charge = world.new_charge(terminal, 420);
    charge.moved = screen_windows(terminal);
    let StartCharge::Started(record) = world.store.start_charge(charge.clone()).await.unwrap()
    else {
        panic!("not started")
    };
    assert_eq!(record.amount, Some(eur(420)));
    assert_eq!(record.status, ChargeStatus::Offered);
    let turns = || world.store.turns(screen_windows(terminal));
    assert_eq!(turns().await.unwrap(), [1, 1]);

    let again = world.store.start_charge(charge.clone()).await;
    assert_eq!(again, Ok(StartCharge::Already(record)));
    assert_eq!(turns().await.unwrap(), [1, 1]);
    let mut differs = charge.clone();
    differs.amount = eur(421);
    assert_eq!(
        world.store.start_charge(differs).await,
        Ok(StartCharge::Differs)
    );
    let mut elsewhere = charge.clone();
    elsewhere.terminal = other;
    assert_eq!(
        world.store.start_charge(elsewhere).await,
        Ok(StartCharge::Differs)
    );
    let second = world
        .store
        .start_charge(world.new_charge(terminal, 1))
        .await;
    assert_eq!(second, Ok(StartCharge::OtherOpen(charge.id)));
    let mut yen = world.new_charge(other, 1);
    yen.amount = Money::new(1, "JPY".parse().unwrap()).unwrap();
    assert_eq!(
        world.store.start_charge(yen).await,
        Ok(StartCharge::Currency)
    );
    let unknown = world
        .store
        .start_charge(world.new_charge(number(9), 1))
        .await;
    assert_eq!(unknown, Ok(StartCharge::TerminalRefused));
    let mut foreign = world.new_charge(other, 1);
    foreign.moved = screen_windows(terminal);
    let refused = world.store.start_charge(foreign).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
    assert_eq!(push(world, other).await.charge, None);
}

pub(crate) async fn an_overdue_charge_makes_way_for_the_next(world: &World) {
    let terminal = world.terminal(1).await;
    let first = world.start(terminal, 420).await;
    let mut second = world.new_charge(terminal, 100);
    second.at = LATER;
    second.until = LATER + 1;
    let id = second.id;
    let started = world.store.start_charge(second).await.unwrap();
    assert!(matches!(started, StartCharge::Started(_)));
    let expired = ChargeStatus::Ended(EndReason::Expired);
    assert_eq!(status_of(world, first).await, expired);
    assert_eq!(push(world, terminal).await.charge.unwrap().charge, id);
}

pub(crate) async fn an_ended_charge_stays_ended_and_releases_its_claim(world: &World) {
    let terminal = world.terminal(1).await;
    let charge = world.start(terminal, 420).await;
    let claim = world.claimed(terminal).await.claimed.claim;
    let end = |reason| {
        let moved = screen_windows(terminal);
        world.store.end_charge(charge, reason, moved, NOW)
    };
    let ended = end(EndReason::Cancelled).await.unwrap().unwrap();
    assert_eq!(ended.status, ChargeStatus::Ended(EndReason::Cancelled));
    assert_eq!(end(EndReason::Expired).await.unwrap().unwrap(), ended);
    let turns = world.store.turns(screen_windows(terminal)).await.unwrap();
    assert_eq!(turns, [1, 1]);
    assert_eq!(claim_state(world, claim).await, ClaimState::Released);
    let stage = push(world, terminal).await.charge.unwrap().stage;
    let reason = EndReason::Cancelled;
    assert_eq!(stage, ChargeStage::Ended { reason });
    let unknown = world.charge_id();
    let unknown = world
        .store
        .end_charge(unknown, reason, Vec::new(), NOW)
        .await;
    assert_eq!(unknown, Ok(None));
}

pub(crate) async fn what_is_due_comes_oldest_first(world: &World) {
    let (a, b) = (world.terminal(1).await, world.terminal(2).await);
    world.start(a, 420).await;
    let offered = world.start(b, 420).await;
    let claim = world.claimed(a).await.claimed.claim;
    assert_eq!(world.store.due(NOW, 10).await.unwrap(), []);
    let due_claim = Due::Claim(claim, a);
    let due = world.store.due(NOW + HOLD_MS, 10).await.unwrap();
    assert_eq!(due, [due_claim]);
    let due = world.store.due(LATER, 10).await.unwrap();
    assert_eq!(due, [due_claim, Due::Charge(offered, b)]);
    assert_eq!(world.store.due(LATER, 1).await.unwrap(), [due_claim]);
}

pub(crate) async fn a_claim_spends_moves_and_holds(world: &World) {
    let terminal = world.terminal(1).await;
    let charge = world.start(terminal, 420).await;
    let claim = world.claim_of(live(terminal, Channel::Nfc, 0));
    let token = claim.live.token();
    let ClaimOutcome::Claimed(record) = world.store.claim(claim.clone()).await.unwrap() else {
        panic!("not claimed")
    };
    let claimed = &record.claimed;
    assert_eq!((claimed.charge, claimed.kind), (charge, ChargeKind::Till));
    assert_eq!((claimed.asked, claimed.token), (Some(eur(420)), token));
    assert_eq!(claimed.reference.as_deref(), Some("sale 7"));
    assert_eq!((record.phone, record.state), ([7; 32], ClaimState::Held));
    let stored = world.store.claim_record(claim.id).await.unwrap();
    assert_eq!(stored.as_ref(), Some(&*record));
    assert_eq!(world.store.is_spent(token).await, Ok(true));
    assert_eq!(world.store.turns(vec![token.window]).await.unwrap(), [1]);
    assert_eq!(status_of(world, charge).await, ChargeStatus::Held(claim.id));
    let again = world.store.claim(world.claim_of(claim.live)).await;
    assert_eq!(again, Ok(ClaimOutcome::Spent));
    let unknown = world.store.claim_record(world.claim_id()).await;
    assert_eq!(unknown, Ok(None));
}

pub(crate) async fn a_token_whose_turn_has_moved_on_is_refused(world: &World) {
    let terminal = world.terminal(1).await;
    let window = live(terminal, Channel::Qr, 0).token().window;
    let mut charge = world.new_charge(terminal, 420);
    charge.moved = vec![window; 2];
    world.store.start_charge(charge).await.unwrap();
    for turn in [0, 1, 3] {
        let other = world.claim_of(live(terminal, Channel::Qr, turn));
        let token = other.live.token();
        assert_eq!(world.store.claim(other).await, Ok(ClaimOutcome::Spent));
        assert_eq!(world.store.is_spent(token).await, Ok(false));
    }
    assert_eq!(world.store.turns(vec![window]).await.unwrap(), [2]);
    let shown = world.claim_of(live(terminal, Channel::Qr, 2));
    let claimed = world.store.claim(shown).await.unwrap();
    assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
}

pub(crate) async fn a_refused_claim_spends_nothing(world: &World) {
    let terminal = world.terminal(1).await;
    let revision = world.revision(terminal).await;
    let rows = world.audit_kinds().await.len();
    let nothing = world.claim(terminal, Channel::Nfc).await;
    assert_eq!(nothing, ClaimOutcome::NothingToPay);
    let ahead = world.claim_of(live(terminal, Channel::Nfc, 1));
    assert_eq!(world.store.claim(ahead).await, Ok(ClaimOutcome::Spent));
    let unknown = world.claim_of(live(number(9), Channel::Nfc, 0));
    let refused = ClaimOutcome::TerminalRefused;
    assert_eq!(world.store.claim(unknown).await, Ok(refused));
    for turn in [0, 1] {
        let token = live(terminal, Channel::Nfc, turn).token();
        assert_eq!(world.store.is_spent(token).await, Ok(false));
    }
    assert_eq!(world.revision(terminal).await, revision);
    assert_eq!(world.audit_kinds().await.len(), rows);

    world.start(terminal, 420).await;
    world.claimed(terminal).await;
    // Past its time, but not released yet, a claim still holds.
    let mut late = world.claim_of(world.shown(terminal, Channel::Nfc).await);
    late.at = NOW + HOLD_MS;
    let token = late.live.token();
    assert_eq!(world.store.claim(late).await, Ok(ClaimOutcome::Held));
    assert_eq!(world.store.is_spent(token).await, Ok(false));
    assert_eq!(world.store.turns(vec![token.window]).await.unwrap(), [1]);
}

pub(crate) async fn a_terminal_without_a_till_takes_fixed_or_open_charges(world: &World) {
    let fixed = world.merchant_with(Some(eur(250)), Some(eur(900))).await;
    let open = world.merchant_with(None, Some(eur(900))).await;
    let (a, b) = (
        world.terminal_of(&fixed, 1).await,
        world.terminal_of(&open, 2).await,
    );
    assert_eq!(offer(world, a).await, Some(ChargeKind::Fixed));
    assert_eq!(offer(world, b).await, Some(ChargeKind::Open));
    let (one, two) = (world.claimed(a).await, world.claimed(a).await);
    assert_ne!(one.claimed.charge, two.claimed.charge);
    assert_eq!((one.claimed.asked, one.claimed.cap), (Some(eur(250)), None));
    let typed = world.claimed(b).await;
    assert_eq!(
        (typed.claimed.asked, typed.claimed.cap),
        (None, Some(eur(900)))
    );
    assert_eq!(push(world, a).await.charge, None);

    let release = world
        .store
        .release_claim(one.claimed.claim, Vec::new(), NOW);
    assert_eq!(release.await, Ok(true));
    let released = ChargeStatus::Ended(EndReason::Released);
    assert_eq!(status_of(world, one.claimed.charge).await, released);
    // A charge of the till goes first, as long as its time is not over.
    let till = world.start(a, 420).await;
    assert_eq!(offer(world, a).await, Some(ChargeKind::Till));
    let mut late = world.claim_of(world.shown(a, Channel::Qr).await);
    (late.at, late.held_until) = (LATER, LATER + HOLD_MS);
    let ClaimOutcome::Claimed(record) = world.store.claim(late).await.unwrap() else {
        panic!("not claimed")
    };
    assert_eq!(record.claimed.kind, ChargeKind::Fixed);
    assert_eq!(world.claimed(a).await.claimed.charge, till);
}

pub(crate) async fn turns_end_at_the_last_one(world: &World) {
    let merchant = world.merchant_with(Some(eur(250)), None).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let window = live(terminal, Channel::Qr, 0).token().window;
    let last = TURN_SHUT - 1;
    let mut charge = world.new_charge(terminal, 420);
    charge.moved = vec![window; usize::from(last)];
    let id = charge.id;
    world.store.start_charge(charge).await.unwrap();
    assert_eq!(world.store.turns(vec![window]).await.unwrap(), [last]);
    let claim = world.claim_of(live(terminal, Channel::Qr, last));
    let claimed = world.store.claim(claim).await.unwrap();
    assert!(matches!(claimed, ClaimOutcome::Claimed(_)), "{claimed:?}");
    assert_eq!(world.store.turns(vec![window]).await.unwrap(), [TURN_SHUT]);
    let ended = world
        .store
        .end_charge(id, EndReason::Cancelled, vec![window], NOW);
    ended.await.unwrap();
    assert_eq!(world.store.turns(vec![window]).await.unwrap(), [TURN_SHUT]);
}

pub(crate) async fn a_charge_released_three_times_ends(world: &World) {
    let terminal = world.terminal(1).await;
    let charge = world.start(terminal, 420).await;
    for round in 1..=RELEASES_MAX {
        let claim = world.claimed(terminal).await.claimed.claim;
        let release = || {
            let moved = screen_windows(terminal);
            world.store.release_claim(claim, moved, NOW + HOLD_MS)
        };
        assert_eq!(release().await, Ok(true));
        assert_eq!(release().await, Ok(false));
        assert_eq!(claim_state(world, claim).await, ClaimState::Released);
        let turns = world.store.turns(screen_windows(terminal)).await.unwrap();
        assert_eq!(turns, [round as u16; 2]);
        let record = world.store.charge(charge).await.unwrap().unwrap();
        assert_eq!(record.releases, round);
        let ended = record.status == ChargeStatus::Ended(EndReason::Released);
        assert_eq!(ended, round == RELEASES_MAX);
    }
    let nothing = world.claim(terminal, Channel::Nfc).await;
    assert_eq!(nothing, ClaimOutcome::NothingToPay);
    let unknown = world.claim_id();
    let unknown = world.store.release_claim(unknown, Vec::new(), NOW).await;
    assert_eq!(unknown, Ok(false));
}
