//! Is there never more paid than is allowed, whoever pays at the same time?

use authority::store::{
    About, AccountCaps, AddPasskey, Barred, CHALLENGES_MAX, Challenge, ClaimOutcome, Confirmation,
    Exemption, IntentStep, Limit, Locked, NewPasskey, NewServiceAccount, OwnLimits, PASSKEYS_MAX,
    Pay, PayOutcome, PersonKey, Reason, SpendRules, StepUpCause, Strength, unhurried,
};
use protocol::money::Currency;
use protocol::time::Timestamp;
use protocol::token::Channel;

use crate::world::{LATER, NOW, World, eur, live, person};

pub(super) const LAW: SpendRules = SpendRules {
    exemption: Some(Exemption {
        each_minor: 3_000,
        in_all_minor: 10_000,
        payments: 5,
    }),
    shopper_day_minor: None,
    merchant_day_minor: None,
};

/// A payment of a new charge at a terminal of its own.
pub(super) async fn payment(world: &World, who: &PersonKey, n: u32, minor: i64) -> Pay {
    let terminal = world.terminal(n).await;
    world.start(terminal, minor).await;
    let record = world.claimed(terminal).await;
    let mut pay = world.pay_of(&record, who, eur(minor));
    pay.rules = LAW;
    pay.at = NOW + i64::from(n);
    pay
}

/// Somebody with an account that an outside rail is asked for.
pub(crate) async fn at_a_bank(world: &World, name: &str) -> PersonKey {
    let account = NewServiceAccount {
        id: world.account_id(),
        person: person(name),
        rail: "bank".into(),
        reference: format!("{name}'s"),
        name: "Giro".into(),
        currency: Currency::EUR,
        at: NOW,
    };
    world.store.bring_service_account(account).await.unwrap();
    person(name)
}

pub(crate) async fn pays(world: &World, who: &PersonKey, n: u32, minor: i64) -> PayOutcome {
    world
        .store
        .pay(payment(world, who, n, minor).await)
        .await
        .unwrap()
}

pub(super) fn step_up(cause: StepUpCause) -> PayOutcome {
    PayOutcome::Barred(Barred::StepUp(cause))
}

fn challenge(pay: &Pay, account: protocol::ids::AccountId, byte: u8) -> Challenge {
    Challenge {
        challenge: [byte; 32],
        nonce: [byte + 1; 32],
        about: About::Payment {
            claim: pay.approved.claimed().claim,
            amount_minor: pay.approved.amount().amount_minor(),
            account,
        },
        ends_at: NOW + 300_000,
    }
}

fn confirmed(byte: u8, passkey: u8, counter: u32) -> Strength {
    Strength::Passkey(Box::new(Confirmation {
        challenge: [byte; 32],
        passkey: vec![passkey; 16],
        counter,
        authenticator_data: vec![1],
        client_data: vec![2],
        signature: vec![3],
    }))
}

pub(crate) async fn add_passkey(world: &World, who: &PersonKey, id: u8) -> AddPasskey {
    let registration = Challenge {
        challenge: [id; 32],
        nonce: [0; 32],
        about: About::Registration,
        ends_at: NOW + 300_000,
    };
    let store = &world.store;
    store
        .add_challenge(who.clone(), registration, NOW)
        .await
        .unwrap();
    let passkey = NewPasskey {
        person: who.clone(),
        challenge: [id; 32],
        id: vec![id; 16],
        public_point: [4; 65],
        counter: 0,
        name: "phone".into(),
        at: NOW,
    };
    store.add_passkey(passkey).await.unwrap()
}

async fn account_of(world: &World, who: &PersonKey) -> protocol::ids::AccountId {
    let account = world.store.account_to_pay(who.clone(), None, Currency::EUR);
    account.await.unwrap().unwrap()
}

pub(crate) async fn five_payments_go_without_strong_authentication_and_the_sixth_does_not(
    world: &World,
) {
    let anna = world.shopper("anna", 100_000).await;
    for n in 1..=5 {
        assert!(matches!(
            pays(world, &anna, n, 100).await,
            PayOutcome::Paid(_)
        ));
    }
    assert_eq!(
        pays(world, &anna, 6, 100).await,
        step_up(StepUpCause::Payments)
    );
    assert_eq!(
        pays(world, &anna, 7, 3_001).await,
        step_up(StepUpCause::Each)
    );
    assert_eq!(world.balance(&anna).await, 99_500);
    let mut strong = payment(world, &anna, 8, 9_000).await;
    strong.strength = Strength::Wallet;
    let paid = world.store.pay(strong).await.unwrap();
    assert!(matches!(paid, PayOutcome::Paid(_)));
    assert!(matches!(
        pays(world, &anna, 9, 100).await,
        PayOutcome::Paid(_)
    ));
    let ben = world.shopper("ben", 1_000).await;
    assert!(matches!(
        pays(world, &ben, 10, 100).await,
        PayOutcome::Paid(_)
    ));
}

/// The count is taken in the payment's own transaction: of many at once, only as many pass as may.
pub(crate) async fn racing_payments_do_not_both_find_room_for_one(world: &World) {
    let anna = world.shopper("anna", 100_000).await;
    let mut all = Vec::new();
    for n in 1..=12 {
        all.push(payment(world, &anna, n, 3_000).await);
    }
    let runs = all.into_iter().map(|pay| {
        let store = world.store.clone();
        tokio::spawn(unhurried(async move { store.pay(pay).await.unwrap() }))
    });
    let mut paid = 0;
    for run in runs.collect::<Vec<_>>() {
        match run.await.unwrap() {
            PayOutcome::Paid(_) => paid += 1,
            other => assert_eq!(other, step_up(StepUpCause::InAll)),
        }
    }
    assert_eq!(paid, 3);
    assert_eq!(world.balance(&anna).await, 91_000);
    let standings = world.store.standings(anna).await.unwrap();
    assert_eq!(standings[0].1.unaided_minor, 9_000);
}

pub(crate) async fn own_limits_and_caps_hold_and_say_when_they_end(world: &World) {
    let anna = world.shopper("anna", 100_000).await;
    let own = OwnLimits {
        each_minor: Some(500),
        day_minor: Some(800),
    };
    let (store, eur) = (&world.store, Currency::EUR);
    store
        .set_own_limits(anna.clone(), eur, own, NOW)
        .await
        .unwrap();
    let limit = |which, until| PayOutcome::Barred(Barred::Limit { which, until });
    let midnight = Timestamp::from_ms((NOW.ms() / 86_400_000 + 1) * 86_400_000);
    assert_eq!(
        pays(world, &anna, 1, 501).await,
        limit(Limit::OwnEach, None)
    );
    assert!(matches!(
        pays(world, &anna, 2, 500).await,
        PayOutcome::Paid(_)
    ));
    let refused = pays(world, &anna, 3, 301).await;
    assert_eq!(refused, limit(Limit::OwnDay, Some(midnight)));
    let none = OwnLimits::default();
    store
        .set_own_limits(anna.clone(), eur, none, NOW)
        .await
        .unwrap();
    let mut capped = payment(world, &anna, 4, 301).await;
    capped.rules.shopper_day_minor = Some(800);
    let refused = store.pay(capped).await.unwrap();
    assert_eq!(refused, limit(Limit::ShopperDay, Some(midnight)));
}

pub(crate) async fn a_merchant_is_paid_no_more_than_its_day_allows(world: &World) {
    let merchant = world.merchant_with(Some(eur(400)), None).await;
    let anna = world.shopper("anna", 100_000).await;
    let other = protocol::ids::MerchantId(world.charge_id().0);
    let (store, by) = (&world.store, || "op".to_owned());
    assert!(
        !store
            .set_merchant_limit(other, Some(1), by(), NOW)
            .await
            .unwrap()
    );
    assert!(
        store
            .set_merchant_limit(merchant.id, Some(900), by(), NOW)
            .await
            .unwrap()
    );
    assert_eq!(store.merchant_limit(merchant.id).await, Ok(Some(900)));
    let mut outcomes = Vec::new();
    for n in 1..=3 {
        let terminal = world.terminal_of(&merchant, n).await;
        let record = world.claimed(terminal).await;
        let pay = world.pay_of(&record, &anna, eur(400));
        outcomes.push(store.pay(pay).await.unwrap());
    }
    assert!(matches!(
        outcomes[..2],
        [PayOutcome::Paid(_), PayOutcome::Paid(_)]
    ));
    assert!(matches!(
        outcomes[2],
        PayOutcome::Barred(Barred::Limit {
            which: Limit::MerchantDay,
            until: Some(_)
        })
    ));
    assert_eq!(store.merchant_balance(merchant.account).await, Ok(800));
    assert!(
        store
            .set_merchant_limit(merchant.id, None, by(), NOW)
            .await
            .unwrap()
    );
    assert_eq!(store.merchant_limit(merchant.id).await, Ok(None));
}

pub(crate) async fn a_locked_profile_claims_and_pays_nothing(world: &World) {
    let anna = world.shopper("anna", 1_000).await;
    let (store, why) = (&world.store, || "lost phone".to_owned());
    let held = payment(world, &anna, 1, 100).await;
    let lock = |who: &PersonKey| store.lock(who.clone(), why(), None, NOW);
    assert_eq!(lock(&person("nobody")).await, Ok(Locked::Unknown));
    assert_eq!(lock(&anna).await, Ok(Locked::Done));
    assert_eq!(lock(&anna).await, Ok(Locked::Already));
    assert_eq!(store.lock_of(anna.clone()).await, Ok(Some((NOW, why()))));
    for strength in [Strength::SignedIn, Strength::Wallet] {
        let mut pay = held.clone();
        pay.strength = strength;
        let refused = store.pay(pay).await.unwrap();
        assert_eq!(refused, PayOutcome::Barred(Barred::Locked));
    }
    let terminal = world.terminal(2).await;
    world.start(terminal, 100).await;
    let mut claim = world.claim_of(live(terminal, Channel::Code, 0));
    claim.person = Some(anna.clone());
    assert_eq!(store.claim(claim.clone()).await, Ok(ClaimOutcome::Locked));
    assert_eq!(store.is_spent(claim.live.token()).await, Ok(false));
    let unlock = || store.unlock(anna.clone(), why(), "op".into(), LATER);
    assert_eq!(unlock().await, Ok(Locked::Done));
    assert_eq!(unlock().await, Ok(Locked::Already));
    assert_eq!(store.lock_of(anna.clone()).await, Ok(None));
    assert!(matches!(store.pay(held).await, Ok(PayOutcome::Paid(_))));
}

pub(crate) async fn a_person_holds_so_many_claims_and_no_more(world: &World) {
    let anna = world.shopper("anna", 1_000).await;
    let mut outcomes = Vec::new();
    for n in 1..=3 {
        let terminal = world.terminal(n).await;
        world.start(terminal, 100).await;
        let mut claim = world.claim_of(live(terminal, Channel::Code, 0));
        (claim.person, claim.held_max) = (Some(anna.clone()), 2);
        outcomes.push((claim.clone(), world.store.claim(claim).await.unwrap()));
    }
    let [
        (first, ClaimOutcome::Claimed(_)),
        (_, ClaimOutcome::Claimed(_)),
        (third, ClaimOutcome::TooMany),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    let store = &world.store;
    assert_eq!(store.is_spent(third.live.token()).await, Ok(false));
    assert!(
        store
            .release_claim(first.id, Vec::new(), NOW)
            .await
            .unwrap()
    );
    let again = store.claim(third.clone()).await.unwrap();
    assert!(matches!(again, ClaimOutcome::Claimed(_)));
}

pub(crate) async fn a_declined_intent_gives_back_what_it_took(world: &World) {
    let carl = at_a_bank(world, "carl").await;
    let store = &world.store;
    let mut begun = Vec::new();
    for n in 1..=3 {
        match pays(world, &carl, n, 3_000).await {
            PayOutcome::Begun(intent) => begun.push(intent),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        pays(world, &carl, 4, 3_000).await,
        step_up(StepUpCause::InAll)
    );
    let reason = Reason::FundsShort;
    for step in [
        IntentStep::Declined { reason },
        IntentStep::TurnedBack { reason },
    ] {
        store
            .step_intent(begun[0].payment, step, LATER)
            .await
            .unwrap();
    }
    let standings = store.standings(carl.clone()).await.unwrap();
    let standing = standings[0].1;
    assert_eq!(
        (standing.unaided_minor, standing.day_minor),
        (6_000, 6_000),
        "once"
    );
    assert!(matches!(
        pays(world, &carl, 5, 3_000).await,
        PayOutcome::Begun(_)
    ));
    assert_eq!(
        pays(world, &carl, 6, 3_000).await,
        step_up(StepUpCause::InAll)
    );
}

/// A limit that was set, and caps that came, after an intent began have not counted it.
pub(crate) async fn what_was_never_counted_is_not_given_back(world: &World) {
    let carl = at_a_bank(world, "carl").await;
    let store = &world.store;
    let merchant = world.merchant().await;
    let terminals = [
        world.terminal_of(&merchant, 1).await,
        world.terminal_of(&merchant, 2).await,
        world.terminal_of(&merchant, 3).await,
    ];
    let asked = async |n: usize, minor| {
        world.start(terminals[n], minor).await;
        let record = world.claimed(terminals[n]).await;
        let pay = world.pay_of(&record, &carl, eur(minor));
        store.pay(pay).await.unwrap()
    };
    let PayOutcome::Begun(before) = asked(0, 700).await else {
        panic!("a rail is asked");
    };
    let limit = store.set_merchant_limit(merchant.id, Some(1_000), "op".into(), NOW);
    assert_eq!(limit.await, Ok(true));
    let caps = AccountCaps {
        rail: "bank".into(),
        reference: "carl's".into(),
        payment_max: eur(1_000),
        month_max: eur(9_000),
    };
    store.cap_account(caps, NOW).await.unwrap();
    assert!(matches!(asked(1, 800).await, PayOutcome::Begun(_)));
    let declined = IntentStep::Declined {
        reason: Reason::FundsShort,
    };
    let step = store.step_intent(before.payment, declined, NOW + 2_000);
    step.await.unwrap();
    let of_month = store.spent_of_cap("bank".into(), "carl's".into(), NOW);
    assert_eq!(of_month.await, Ok(Some(800)));
    let over = asked(2, 201).await;
    let of_day = Limit::MerchantDay.of_day(Some(1_000), 201, NOW + 1_000);
    assert_eq!(over, PayOutcome::Barred(of_day));
    let standing = store.standings(carl).await.unwrap()[0].1;
    assert_eq!((standing.day_minor, standing.unaided_minor), (800, 800));
}

pub(crate) async fn a_challenge_confirms_its_own_payment_once(world: &World) {
    let anna = world.shopper("anna", 100_000).await;
    assert_eq!(add_passkey(world, &anna, 7).await, AddPasskey::Added);
    let account = account_of(world, &anna).await;
    let (mut one, mut two) = (
        payment(world, &anna, 1, 9_000).await,
        payment(world, &anna, 2, 9_000).await,
    );
    let store = &world.store;
    let open = challenge(&one, account, 40);
    store
        .add_challenge(anna.clone(), open.clone(), NOW)
        .await
        .unwrap();
    assert_eq!(
        store.challenge(anna.clone(), [40; 32], NOW).await,
        Ok(Some(open.clone()))
    );
    let ben = person("ben");
    assert_eq!(store.challenge(ben, [40; 32], NOW).await, Ok(None));
    let over = store.challenge(anna.clone(), [40; 32], open.ends_at).await;
    assert_eq!(over, Ok(None));
    two.strength = confirmed(40, 7, 0);
    let refused = store.pay(two.clone()).await.unwrap();
    assert_eq!(
        refused,
        PayOutcome::Barred(Barred::ChallengeOver),
        "another claim"
    );
    one.strength = confirmed(40, 8, 0);
    let refused = store.pay(one.clone()).await.unwrap();
    assert_eq!(
        refused,
        PayOutcome::Barred(Barred::PasskeyRefused),
        "no such passkey"
    );
    one.strength = confirmed(40, 7, 0);
    assert!(matches!(store.pay(one).await, Ok(PayOutcome::Paid(_))));
    assert_eq!(store.challenge(anna.clone(), [40; 32], NOW).await, Ok(None));
    let mut again = two;
    again.strength = confirmed(40, 7, 0);
    let refused = store.pay(again).await.unwrap();
    assert_eq!(refused, PayOutcome::Barred(Barred::ChallengeOver), "used");
}

pub(crate) async fn a_counter_goes_only_forward_unless_there_is_none(world: &World) {
    let anna = world.shopper("anna", 100_000).await;
    add_passkey(world, &anna, 7).await;
    let account = account_of(world, &anna).await;
    let steps = [
        (0, true),
        (0, true),
        (5, true),
        (5, false),
        (4, false),
        (0, false),
        (6, true),
    ];
    for (n, (counter, good)) in (1..).zip(steps) {
        let mut pay = payment(world, &anna, n, 4_000).await;
        let byte = 40 + n as u8;
        let open = challenge(&pay, account, byte);
        world
            .store
            .add_challenge(anna.clone(), open, NOW)
            .await
            .unwrap();
        pay.strength = confirmed(byte, 7, counter);
        let outcome = world.store.pay(pay).await.unwrap();
        match good {
            true => assert!(matches!(outcome, PayOutcome::Paid(_)), "{n}: {outcome:?}"),
            false => assert_eq!(outcome, PayOutcome::Barred(Barred::PasskeyRefused), "{n}"),
        }
    }
    let (store, id) = (&world.store, vec![7; 16]);
    store
        .note_regression(anna.clone(), id.clone(), 4, NOW)
        .await
        .unwrap();
    let kept = store.passkey(anna, id).await.unwrap().unwrap();
    assert_eq!(kept.counter, 6);
    assert!(kept.used_at.is_some());
}

pub(crate) async fn passkeys_are_named_removed_and_of_one_profile(world: &World) {
    let (anna, ben) = (
        world.shopper("anna", 1).await,
        world.shopper("ben", 1).await,
    );
    let store = &world.store;
    assert_eq!(add_passkey(world, &anna, 1).await, AddPasskey::Added);
    assert_eq!(add_passkey(world, &ben, 1).await, AddPasskey::Taken);
    assert_eq!(store.passkey(ben.clone(), vec![1; 16]).await, Ok(None));
    let rename =
        |who: &PersonKey| store.rename_passkey(who.clone(), vec![1; 16], "watch".into(), NOW);
    assert_eq!(rename(&ben).await, Ok(false));
    assert_eq!(rename(&anna).await, Ok(true));
    let of = |who: &PersonKey| store.passkeys(who.clone());
    assert_eq!(of(&anna).await.unwrap().unwrap().passkeys[0].name, "watch");
    let handles = (
        of(&anna).await.unwrap().unwrap().handle,
        of(&ben).await.unwrap().unwrap().handle,
    );
    assert_ne!(handles.0, handles.1);
    for id in 2..=PASSKEYS_MAX as u8 {
        assert_eq!(add_passkey(world, &anna, id).await, AddPasskey::Added);
    }
    assert_eq!(add_passkey(world, &anna, 99).await, AddPasskey::TooMany);
    let remove = |who: &PersonKey| store.remove_passkey(who.clone(), vec![1; 16], NOW);
    assert_eq!(remove(&ben).await, Ok(false));
    assert_eq!(remove(&anna).await, Ok(true));
    assert_eq!(remove(&anna).await, Ok(false));
    assert_eq!(store.passkey(anna.clone(), vec![1; 16]).await, Ok(None));
    assert_eq!(
        add_passkey(world, &anna, 1).await,
        AddPasskey::Taken,
        "once known, always"
    );
}

pub(crate) async fn few_challenges_wait_and_the_oldest_makes_room(world: &World) {
    let anna = world.shopper("anna", 1).await;
    let store = &world.store;
    for n in 0..=CHALLENGES_MAX as u8 {
        let at = NOW + i64::from(n);
        let open = Challenge {
            challenge: [n; 32],
            nonce: [0; 32],
            about: About::Registration,
            ends_at: at + 300_000,
        };
        store.add_challenge(anna.clone(), open, at).await.unwrap();
    }
    let open = async |n: u8| {
        store
            .challenge(anna.clone(), [n; 32], NOW)
            .await
            .unwrap()
            .is_some()
    };
    assert!(!open(0).await);
    for n in 1..=CHALLENGES_MAX as u8 {
        assert!(open(n).await, "{n}");
    }
}
