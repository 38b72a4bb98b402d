//! Who may take part: terminals, keys, certificates, merchants?

use authority::store::{
    Certificate, ChargeStatus, ClaimOutcome, JoinToken, KeyPurpose, KeyRecord, PayOutcome, Redeem,
    Scheduled, StartCharge, StoreError, Subject, TerminalStatus,
};
use hsm::KeyLabel;
use pki::lifecycle::KeyState;
use protocol::ids::MerchantId;
use protocol::money::Money;
use protocol::token::Channel;
use protocol::wire::claims::ClaimState;
use protocol::wire::push::EndReason;

use crate::world::{
    LATER, NOW, World, eur, join_hash, live, new_schedule, new_seed, new_terminal, number, recorded,
};

use super::{claim_state, push, status_of};

pub(crate) async fn a_key_is_added_once(world: &World) {
    let key = |kid: &str, label: &str| KeyRecord {
        kid: kid.into(),
        ..KeyRecord::new(
            KeyPurpose::Receipt,
            KeyState::Active,
            KeyLabel(label.into()),
            Some([4; 65]),
            NOW,
        )
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
    let stored = world.seed(terminal.id, 0).await;
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
    assert_eq!(world.seed(id, 99).await, None);
    assert_eq!(world.seed(id, 100).await, Some(seed.clone()));
    assert_eq!(world.seed(id, 900).await, Some(seed));
    assert_eq!(world.seed(number(6), 900).await, None);
    let unknown = world.store.judging(number(6), vec![900]).await;
    assert_eq!(unknown, Ok(None));
}

pub(crate) async fn the_last_seeds_come_first_and_no_more_than_asked_for(world: &World) {
    let merchant = world.merchant().await;
    let mut seeds = Vec::new();
    for n in 1..=3 {
        let (terminal, mut seed, token) = new_terminal(merchant.id, n);
        if n == 2 {
            seed.keys.binding = KeyLabel("m2key-binding-2".into());
        }
        seeds.insert(0, seed.clone());
        let added = world.store.add_terminal(terminal, seed, token).await;
        assert!(added.unwrap());
    }
    assert_eq!(world.store.last_seeds(9).await, Ok(seeds.clone()));
    assert_eq!(world.store.last_seeds(2).await, Ok(seeds[..2].to_vec()));
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
    let schedule = world
        .store
        .record_schedule(new_schedule(terminal, 1, 2))
        .await;
    assert_eq!(schedule, Ok(Scheduled::Refused));
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
    let issue = |first, last| {
        let schedule = new_schedule(terminal, first, last);
        world.store.record_schedule(schedule)
    };
    assert_eq!(issue(10, 33).await, Ok(recorded(1)));
    assert_eq!(issue(10, 20).await, Ok(recorded(2)));
    let stored = world.store.terminal(terminal).await.unwrap().unwrap();
    assert_eq!((stored.sequence, stored.issued_until), (2, Some(33)));
    let unknown = world
        .store
        .record_schedule(new_schedule(number(9), 1, 2))
        .await;
    assert_eq!(unknown, Ok(Scheduled::Refused));
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
        issuer_key: "aa01".into(),
        der: serial.as_bytes().to_vec(),
    };
    let all = [
        certificate("0a", Subject::Terminal(number(1))),
        certificate("0b", Subject::Operator("ops".into())),
        certificate("0c", Subject::Authority("node-1".into())),
    ];
    for one in &all {
        world.store.add_certificate(one.clone(), NOW).await.unwrap();
        let stored = world.store.certificate(&one.serial).await.unwrap();
        assert_eq!(stored.map(|it| it.certificate).as_ref(), Some(one));
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
