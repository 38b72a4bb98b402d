//! What does each verb answer, refusals included?

use authority::store::{
    Balance, Certificate, ChargeStatus, ClaimOutcome, Due, JoinToken, KeyRecord, MissCount,
    NewAccount, PayOutcome, PushState, Redeem, StartCharge, StoreError, StoredCheckpoint, Subject,
    TerminalStatus,
};
use hsm::KeyLabel;
use protocol::charge::{ChargeKind, HOLD_MS, RELEASES_MAX};
use protocol::ids::{EventId, MerchantId, TerminalId};
use protocol::money::Money;
use protocol::token::{Channel, WindowId};
use protocol::wire::claims::ClaimState;
use protocol::wire::push::{ChargeStage, EndReason};
use protocol::wire::reports::{Seen, TerminalEvent};

use crate::world::{
    LATER, NOW, World, epoch_now, eur, join_hash, live, new_seed, new_terminal, number, person,
    screen_windows,
};

pub(crate) async fn a_key_is_added_once(world: &World) {
    let key = |kid: &str, label: &str| KeyRecord {
        kid: kid.into(),
        purpose: "receipt".into(),
        state: "active".into(),
        label: KeyLabel(label.into()),
        public_point: Some([4; 65]),
        made_at: NOW,
    };
    assert!(
        world
            .store
            .add_key(key("a", "m2key-receipt-1"))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .add_key(key("a", "m2key-receipt-2"))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .add_key(key("b", "m2key-receipt-1"))
            .await
            .unwrap()
    );
    let keys = world.store.keys().await.unwrap();
    assert_eq!(keys, [key("a", "m2key-receipt-1")]);
    assert_eq!(world.store.generation().await.unwrap(), 1);
}

pub(crate) async fn a_terminal_is_added_once_with_seed_and_join_token(world: &World) {
    let merchant = world.merchant().await;
    let (terminal, seed, token) = new_terminal(merchant.id, 5);
    let add = || {
        let (terminal, seed, token) = new_terminal(merchant.id, 5);
        world.store.add_terminal(terminal, seed, token)
    };
    assert!(add().await.unwrap());
    assert!(!add().await.unwrap());
    let stored = world.store.terminal(terminal.id).await.unwrap();
    assert_eq!(stored, Some(terminal.clone()));
    let stored = world.store.seed_for(terminal.id, 0).await.unwrap();
    assert_eq!(stored, Some(seed));
    let redeemed = world
        .store
        .redeem_join_token(terminal.id, token.hash, [1; 32], NOW)
        .await;
    assert_eq!(redeemed, Ok(Redeem::Good));
    assert_eq!(world.store.terminal(number(6)).await.unwrap(), None);

    let (other, _, token) = new_terminal(merchant.id, 6);
    let foreign = new_seed(terminal.id, 1, 0);
    let refused = world.store.add_terminal(other, foreign, token).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
    let (orphan, seed, token) = new_terminal(MerchantId(world.charge_id().0), 7);
    let refused = world.store.add_terminal(orphan, seed, token).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
    assert_eq!(world.store.terminals(None, 10).await.unwrap(), [terminal]);
}

pub(crate) async fn seeds_are_found_by_epoch(world: &World) {
    let merchant = world.merchant().await;
    let (terminal, _, token) = new_terminal(merchant.id, 5);
    let seed = new_seed(terminal.id, 1, 100);
    let id = terminal.id;
    assert!(
        world
            .store
            .add_terminal(terminal, seed.clone(), token)
            .await
            .unwrap()
    );
    assert_eq!(world.store.seed_for(id, 99).await.unwrap(), None);
    assert_eq!(
        world.store.seed_for(id, 100).await.unwrap(),
        Some(seed.clone())
    );
    assert_eq!(world.store.seed_for(id, 900).await.unwrap(), Some(seed));
    assert_eq!(world.store.seed_for(number(6), 900).await.unwrap(), None);
}

pub(crate) async fn a_ban_ends_what_is_held_and_stays_the_first(world: &World) {
    let terminal = world.terminal(1).await;
    let charge = world.start(terminal, 420).await;
    let claim = world.claimed(terminal).await.claimed.claim;
    let before = world.revision(terminal).await;
    let ban = |reason: &str, at| world.store.ban_terminal(terminal, reason.into(), at);
    let banned = ban("stolen", NOW).await.unwrap().unwrap();
    let status = TerminalStatus::Banned {
        at: NOW,
        reason: "stolen".into(),
    };
    assert_eq!(banned.status, status);
    assert_eq!(ban("again", LATER).await.unwrap().unwrap(), banned);
    assert_eq!(claim_state(world, claim).await, ClaimState::Released);
    let ended = ChargeStatus::Ended(EndReason::Cancelled);
    assert_eq!(status_of(world, charge).await, ended);
    let state = push(world, terminal).await;
    assert!(state.banned && state.revision == before + 1);
    let unknown = world.store.ban_terminal(number(9), "x".into(), NOW).await;
    assert_eq!(unknown, Ok(None));
}

pub(crate) async fn a_banned_terminal_is_refused_everywhere(world: &World) {
    let merchant = world.merchant_with(Some(eur(100)), None).await;
    let anna = world.shopper("anna", 1_000).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let record = world.claimed(terminal).await;
    let pay = world.pay_of(&record, &anna, eur(100));
    let ban = world.store.ban_terminal(terminal, "stolen".into(), NOW);
    ban.await.unwrap().unwrap();

    assert_eq!(world.store.pay(pay).await, Ok(PayOutcome::TerminalRefused));
    let claimed = world.claim(terminal, Channel::Qr).await;
    assert_eq!(claimed, ClaimOutcome::TerminalRefused);
    let started = world
        .store
        .start_charge(world.new_charge(terminal, 5))
        .await;
    assert_eq!(started, Ok(StartCharge::TerminalRefused));
    let schedule = world.store.record_schedule(terminal, 1, 2, NOW).await;
    assert_eq!(schedule, Ok(None));
    let redeemed = world
        .store
        .redeem_join_token(terminal, join_hash(1), [1; 32], NOW)
        .await;
    assert_eq!(redeemed, Ok(Redeem::Banned));
    let token = JoinToken {
        terminal,
        hash: [8; 32],
        expires_at: LATER,
    };
    assert_eq!(world.store.add_join_token(token, NOW).await, Ok(false));
    assert_eq!(world.store.charge_on_offer(terminal).await, Ok(None));
    let spent = world.store.is_spent(live(terminal, Channel::Qr, 0).token());
    assert_eq!(spent.await, Ok(false));
}

pub(crate) async fn schedule_sequences_rise_and_the_horizon_never_shrinks(world: &World) {
    let terminal = world.terminal(1).await;
    let issue = |first, last| world.store.record_schedule(terminal, first, last, NOW);
    assert_eq!(issue(10, 33).await, Ok(Some(1)));
    assert_eq!(issue(10, 20).await, Ok(Some(2)));
    let stored = world.store.terminal(terminal).await.unwrap().unwrap();
    assert_eq!((stored.sequence, stored.issued_until), (2, Some(33)));
    let unknown = world.store.record_schedule(number(9), 1, 2, NOW).await;
    assert_eq!(unknown, Ok(None));
}

pub(crate) async fn a_join_token_is_bound_to_the_first_key(world: &World) {
    let terminal = world.terminal(1).await;
    let other = world.terminal(2).await;
    let redeem =
        |terminal, hash, key: u8, at| world.store.redeem_join_token(terminal, hash, [key; 32], at);
    let hash = join_hash(1);
    assert_eq!(redeem(terminal, [0; 32], 1, NOW).await, Ok(Redeem::Refused));
    assert_eq!(redeem(other, hash, 1, NOW).await, Ok(Redeem::Refused));
    assert_eq!(redeem(terminal, hash, 1, LATER).await, Ok(Redeem::Refused));
    assert_eq!(redeem(terminal, hash, 1, NOW).await, Ok(Redeem::Good));
    assert_eq!(redeem(terminal, hash, 1, NOW).await, Ok(Redeem::Good));
    assert_eq!(redeem(terminal, hash, 2, NOW).await, Ok(Redeem::Refused));
    assert_eq!(redeem(terminal, hash, 1, LATER).await, Ok(Redeem::Refused));
    let further = |terminal| JoinToken {
        terminal,
        hash: [6; 32],
        expires_at: LATER,
    };
    let added = world.store.add_join_token(further(terminal), NOW).await;
    assert_eq!(added, Ok(true));
    let added = world.store.add_join_token(further(number(9)), NOW).await;
    assert_eq!(added, Ok(false));
    assert_eq!(redeem(terminal, [6; 32], 2, NOW).await, Ok(Redeem::Good));
    let redeemed = world.audit_kinds().await;
    let redeemed = redeemed.iter().filter(|k| *k == "join_token.redeemed");
    assert_eq!(redeemed.count(), 2);
}

pub(crate) async fn a_certificate_is_recorded_once(world: &World) {
    let certificate = |serial: &str, subject| Certificate {
        serial: serial.into(),
        subject,
        spki_sha256: [2; 32],
        not_before: NOW,
        not_after: LATER,
    };
    let all = [
        certificate("0a", Subject::Terminal(number(1))),
        certificate("0b", Subject::Operator("ops".into())),
        certificate("0c", Subject::Authority("node-1".into())),
    ];
    for one in &all {
        world.store.add_certificate(one.clone(), NOW).await.unwrap();
        let stored = world.store.certificate(&one.serial).await.unwrap();
        assert_eq!(stored.as_ref(), Some(one));
    }
    let again = world.store.add_certificate(all[0].clone(), NOW).await;
    assert!(matches!(again, Err(StoreError::Corrupt { .. })));
    assert_eq!(world.store.certificate("0d").await, Ok(None));
}

pub(crate) async fn merchants_are_listed_in_order(world: &World) {
    let mut added = [
        world.merchant().await,
        world.merchant_with(Some(eur(5)), None).await,
        world.merchant_with(None, Some(eur(900))).await,
    ];
    added.sort_by_key(|merchant| merchant.id);
    assert_eq!(world.store.merchants(None, 2).await.unwrap(), added[..2]);
    let rest = world.store.merchants(Some(added[1].id), 2).await.unwrap();
    assert_eq!(rest, added[2..]);
    let again = world.store.add_merchant(added[0].clone()).await;
    assert_eq!(again, Ok(false));
    let foreign = Money::new(5, "JPY".parse().unwrap()).unwrap();
    let mut odd = added[0].clone();
    (odd.id, odd.fixed) = (MerchantId(world.charge_id().0), Some(foreign));
    odd.account = world.account_id();
    let refused = world.store.add_merchant(odd.clone()).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
    assert_eq!(world.store.merchant(odd.id).await, Ok(None));
}

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
    let many = vec![window; usize::from(u16::MAX) + 2];
    let mut charge = world.new_charge(terminal, 420);
    charge.moved = many;
    world.store.start_charge(charge).await.unwrap();
    assert_eq!(world.store.turns(vec![window]).await.unwrap(), [u16::MAX]);
    let claim = world.claim_of(live(terminal, Channel::Qr, u16::MAX));
    let token = claim.live.token();
    let outcome = world.store.claim(claim).await;
    assert_eq!(outcome, Ok(ClaimOutcome::TurnsExhausted));
    assert_eq!(world.store.is_spent(token).await, Ok(false));
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
    let store = |jws: &str| world.store.store_receipt(payment.id, jws.into(), NOW);
    assert_eq!(store("first").await.unwrap(), "first");
    assert_eq!(store("second").await.unwrap(), "first");
    let stored = world.store.payment_of(record.claimed.claim).await.unwrap();
    assert_eq!(stored.unwrap().receipt_jws.as_deref(), Some("first"));
    assert_eq!(world.store.receipts_due(9).await.unwrap(), []);
    let unknown = world.payment_id();
    let unknown = world.store.store_receipt(unknown, "x".into(), NOW).await;
    assert!(matches!(unknown, Err(StoreError::Corrupt { .. })));
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
    world
        .store
        .store_receipt(payment.id, receipt.clone(), NOW)
        .await
        .unwrap();
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
}

pub(crate) async fn accounts_are_one_per_person_and_currency(world: &World) {
    let open = |name, currency: &str| {
        world.store.open_account(NewAccount {
            id: world.account_id(),
            person: person(name),
            currency: currency.parse().unwrap(),
            at: NOW,
        })
    };
    assert_eq!(open("anna", "EUR").await, Ok(true));
    assert_eq!(open("anna", "EUR").await, Ok(false));
    assert_eq!(open("anna", "JPY").await, Ok(true));
    assert_eq!(open("ben", "EUR").await, Ok(true));
    let accounts = world.store.accounts_of(person("anna")).await.unwrap();
    let currencies: Vec<_> = accounts.iter().map(|a| a.currency.code()).collect();
    assert_eq!(currencies, ["EUR", "JPY"]);
    assert_eq!(
        world.store.accounts_of(person("nobody")).await,
        Ok(Vec::new())
    );
}

pub(crate) async fn a_credit_reference_counts_once(world: &World) {
    let anna = world.shopper("anna", 0).await;
    let ben = world.shopper("ben", 0).await;
    let account = world.store.accounts_of(anna.clone()).await.unwrap()[0].clone();
    let other = world.store.accounts_of(ben).await.unwrap()[0].id;
    for _ in 0..2 {
        let Balance::Is(now) = world.credit(account.id, 500, "r1").await else {
            panic!("not credited")
        };
        assert_eq!(now.balance_minor, 500);
    }
    assert_eq!(
        world.credit(account.id, 501, "r1").await,
        Balance::ReferenceTaken
    );
    assert_eq!(
        world.credit(other, 500, "r1").await,
        Balance::ReferenceTaken
    );
    let nobody = world.account_id();
    assert_eq!(world.credit(nobody, 5, "r2").await, Balance::NoAccount);
    let payee = world.merchant().await.account;
    assert_eq!(world.credit(payee, 5, "r2").await, Balance::NoAccount);
    let yen = authority::store::Credit {
        account: account.id,
        amount: Money::new(5, "JPY".parse().unwrap()).unwrap(),
        reference: "r2".into(),
        at: NOW,
    };
    assert_eq!(world.store.credit(yen).await, Ok(Balance::Currency));
    assert_eq!(world.balance(&anna).await, 500);
    let report = world.store.ledger_report().await.unwrap();
    assert_eq!(
        (report.entries, report.sums),
        (2, vec![(account.currency, 0)])
    );
}

pub(crate) async fn misses_are_counted_per_person_and_window(world: &World) {
    let window = |n| live(number(n), Channel::Code, 0).token().window;
    let miss = |name, n, at| world.store.add_miss(person(name), window(n), NOW, at);
    let count = |person, window| Ok(MissCount { person, window });
    assert_eq!(miss("anna", 1, NOW - 1).await, count(0, 1));
    assert_eq!(miss("anna", 1, NOW).await, count(1, 2));
    assert_eq!(miss("anna", 1, NOW).await, count(2, 3));
    assert_eq!(miss("anna", 2, NOW + 5).await, count(3, 1));
    assert_eq!(miss("ben", 1, NOW + 5).await, count(1, 4));
    let asked = |name, n| world.store.misses(person(name), window(n), NOW);
    assert_eq!(asked("anna", 1).await, count(3, 4));
    assert_eq!(asked("nobody", 1).await, count(0, 4));
    assert_eq!(asked("nobody", 3).await, count(0, 0));
}

pub(crate) async fn reports_are_stored_once_and_by_their_own_terminal(world: &World) {
    let (a, b) = (world.terminal(1).await, world.terminal(2).await);
    let event = |n: u8| TerminalEvent {
        id: EventId::from_parts(NOW.ms() as u64, &[n; 10]),
        at: NOW + i64::from(n),
        what: Seen::Tap {
            tag_uid: "04a1".into(),
            count: u32::from(n),
            window: None,
        },
    };
    let add = |terminal: TerminalId, events| world.store.add_reports(terminal, events, NOW);
    let ids = |numbers: &[u8]| numbers.iter().map(|n| event(*n).id).collect::<Vec<_>>();
    assert_eq!(add(a, vec![event(1), event(2)]).await, Ok(ids(&[1, 2])));
    assert_eq!(add(a, vec![event(2), event(3)]).await, Ok(ids(&[2, 3])));
    assert_eq!(add(b, vec![event(3), event(4)]).await, Ok(ids(&[4])));
    assert_eq!(add(a, vec![event(1)]).await, Ok(ids(&[1])));
    let stored = world.store.reports(a, 2).await.unwrap();
    assert_eq!(stored, [event(3), event(2)]);
    let kinds = world.audit_kinds().await;
    assert_eq!(kinds.iter().filter(|k| *k == "reports.stored").count(), 3);
}

pub(crate) async fn checkpoints_come_in_order(world: &World) {
    let checkpoint = |n: i64| StoredCheckpoint {
        at: NOW + n,
        jws: format!("checkpoint {n}"),
    };
    assert_eq!(world.store.audit_heads().await, Ok(Vec::new()));
    for n in 0..3 {
        world.store.add_checkpoint(checkpoint(n)).await.unwrap();
    }
    let read = |skip, limit| world.store.checkpoints(skip, limit);
    assert_eq!(read(0, 2).await.unwrap(), [checkpoint(0), checkpoint(1)]);
    assert_eq!(read(2, 2).await.unwrap(), [checkpoint(2)]);
    world
        .store
        .note("daemon.started", "{}".into(), NOW)
        .await
        .unwrap();
    world.store.probe().await.unwrap();
    assert_eq!(world.audit_kinds().await, ["daemon.started"]);
}

pub(crate) async fn pseudonyms_differ_between_merchants(world: &World) {
    let anna = world.shopper("anna", 10_000).await;
    let mut seen = Vec::new();
    let mut terminals = vec![world.terminal(1).await, world.terminal(2).await];
    terminals.push(terminals[0]);
    for terminal in terminals {
        world.start(terminal, 420).await;
        let record = world.claimed(terminal).await;
        seen.push(world.paid(&record, &anna).await.pseudonym);
    }
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 22);
}

pub(crate) async fn the_audit_names_nobody(world: &World) {
    let merchant = world.merchant_with(Some(eur(250)), None).await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna-subject", 1_000).await;
    let mut claim = world.claim_of(live(terminal, Channel::Code, 0));
    claim.person = Some(anna.clone());
    let window = claim.live.token().window;
    world
        .store
        .add_miss(anna.clone(), window, NOW, NOW)
        .await
        .unwrap();
    let ClaimOutcome::Claimed(record) = world.store.claim(claim).await.unwrap() else {
        panic!("not claimed")
    };
    let payment = world.paid(&record, &anna).await;
    world
        .store
        .store_receipt(payment.id, "jws".into(), NOW)
        .await
        .unwrap();
    let rows = world.store.audit_rows(crate::NODE, 0, 100).await.unwrap();
    for row in &rows {
        assert!(!row.row.body.contains("anna-subject"), "{row:?}");
        assert!(!row.row.body.contains("id.example"), "{row:?}");
        assert!(!row.row.body.contains(&payment.pseudonym), "{row:?}");
    }
    let about = |kind: &str| {
        let row = rows.iter().find(|row| row.row.kind == kind).unwrap();
        let body: serde_json::Value = serde_json::from_str(&row.row.body).unwrap();
        body["person"].as_str().unwrap().to_owned()
    };
    for kind in ["code.missed", "token.claimed", "payment.paid"] {
        assert_eq!(about(kind), about("account.opened"));
    }
}

async fn push(world: &World, terminal: TerminalId) -> PushState {
    world.store.push_state(terminal, 0).await.unwrap().unwrap()
}

fn stage(state: PushState) -> ChargeStage {
    state.charge.unwrap().stage
}

async fn offer(world: &World, terminal: TerminalId) -> Option<ChargeKind> {
    world.store.charge_on_offer(terminal).await.unwrap()
}

async fn status_of(world: &World, charge: protocol::ids::ChargeId) -> ChargeStatus {
    world.store.charge(charge).await.unwrap().unwrap().status
}

async fn claim_state(world: &World, claim: protocol::ids::ClaimId) -> ClaimState {
    world
        .store
        .claim_record(claim)
        .await
        .unwrap()
        .unwrap()
        .state
}
