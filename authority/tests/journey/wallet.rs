//! Does a wallet pay in one call, once, and see only its own shopper's payments?

use authority::store::{Merchant, Wallets as _};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws;
use protocol::money::{AMOUNT_MINOR_MAX, Currency, Money};
use protocol::receipt::ReceiptClaims;
use protocol::token::Channel;
use protocol::wire::push::ChargeStage;
use protocol::wire::wallet::{SignedApproval, WalletAccounts, WalletPayment, WalletView};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use wallet_client::Wallet;

use crate::world::{MINUTE, World, answer, eur};

#[path = "wallet/app.rs"]
pub mod app;
#[path = "wallet/signed.rs"]
mod signed;

use app::read;
pub use app::{App, paid};

/// With the numbers that ship: 30 EUR each go without.
#[tokio::test]
async fn a_wallets_signature_covers_a_payment_while_its_strong_sign_in_is_young() {
    let world = World::whose_provider_can_be_strong().await;
    world.charge(4_200).await;
    let weak = App::of(&world, "ann").pays(Channel::Qr, 4_200).await;
    weak.refused(403, "step-up-needed");
    let old = App::strong(&world, "ann", 5 * MINUTE + 1_000);
    let old = old.pays(Channel::Qr, 4_200).await;
    old.refused(403, "step-up-needed");
    let young = App::strong(&world, "ann", 5 * MINUTE - 1_000);
    let told = paid(&young.pays(Channel::Qr, 4_200).await);
    assert_eq!(told.amount, eur(4_200));
    assert_eq!(world.balance("ann").await, 800);
}

#[tokio::test]
async fn a_wallet_looks_signs_and_pays_in_one_call() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let token = world.shown(Channel::Qr).await;
    let view: WalletView = read(&ann.view(&token).await);
    assert_eq!(
        (view.amount, view.payee.id),
        (Some(eur(420)), world.merchant)
    );
    assert_eq!(view.accounts.len(), 1);
    let payment = ann.signed(&token, 420).await;
    let answered = ann.pay("one", &payment).await;
    let told = paid(&answered);
    assert_eq!(told.amount, eur(420));
    let receipt = told.receipt.clone().unwrap();
    let keys = world.app.keyring();
    let receipt = jws::verify::<ReceiptClaims>(&receipt, keys.jwks()).unwrap();
    assert_eq!(receipt.claims().payment, told.payment);
    assert_eq!(world.balance("ann").await, 5_000 - 420);

    let place = answered.headers["location"].to_str().unwrap();
    let now = world.now();
    let looked = ann.send(|it| it.payment(told.payment, now)).await;
    assert_eq!(place, format!("/v1/wallet/payments/{}", told.payment));
    assert_eq!(read::<WalletPayment>(&looked), told);

    // What the shopper signed lies beside the claim, with the key that verifies it.
    let claim = receipt.claims().claim;
    let kept = world.store.kept_approval(claim).await.unwrap().unwrap();
    assert_eq!(kept.jws, payment.approval);
    let key = Jwk::from_point(&kept.public_point).unwrap();
    let keys = JwkSet { keys: vec![key] };
    let evidence = jws::verify::<SignedApproval>(&kept.jws, &keys).unwrap();
    assert_eq!(evidence.claims().amount, eur(420));
}

#[tokio::test]
async fn a_look_spends_nothing_and_is_refused_as_a_payment_would_be() {
    let world = World::new().await;
    let ann = App::of(&world, "ann");
    let idle = world.shown(Channel::Qr).await;
    ann.view(&idle).await.refused(409, "nothing-to-pay");
    world.charge(420).await;
    ann.view(&idle).await.refused(409, "token-spent");
    ann.view("hello").await.refused(400, "malformed-token");
    let token = world.shown(Channel::Qr).await;
    for _ in 0..3 {
        assert_eq!(ann.view(&token).await.status, 200);
    }
    paid(&ann.pays(Channel::Qr, 420).await);
    ann.view(&token).await.refused(409, "token-spent");
    world.held(420).await;
    let token = world.shown(Channel::Nfc).await;
    let held = ann.view(&token).await;
    assert!(held.refused(409, "charge-held").retry_after.is_some());
}

#[tokio::test]
async fn looking_at_typed_codes_is_guessing() {
    use authority::services::limiter::PERSON_MISSES_MAX;
    use protocol::code::TypedCode;
    let world = World::new().await;
    world.charge(420).await;
    let eve = App::of(&world, "eve");
    let right = world.shown(Channel::Code).await;
    let shown = TypedCode::parse(&right).unwrap();
    let wrong = (0..).filter(|digits| !shown.matches(*digits));
    for digits in wrong.take(PERSON_MISSES_MAX as usize) {
        let code = TypedCode::new(world.terminal, digits).shown();
        eve.view(&code).await.refused(403, "token-unknown");
    }
    eve.view(&right).await.refused(429, "too-many-misses");
    let ann = App::of(&world, "ann");
    assert_eq!(ann.view(&right).await.status, 200);
    paid(&ann.pays(Channel::Code, 420).await);
}

#[tokio::test]
async fn the_same_payment_again_is_answered_by_the_same_bytes() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 420).await;
    let first = ann.pay("one", &payment).await;
    paid(&first);
    let wallet = ann.wallet.into_inner();
    world.advance(9 * MINUTE);
    let world = world.restart().await;
    let ann = App {
        world: &world,
        wallet: Mutex::new(wallet),
        person: "ann".into(),
    };
    let again = ann.pay("one", &payment).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(world.balance("ann").await, 5_000 - 420);
    ann.pay("two", &payment)
        .await
        .refused(403, "approval-refused");
}

#[tokio::test]
async fn a_double_click_pays_once() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 420).await;
    let clicks = (0..6).map(|_| ann.pay("one", &payment));
    let answers = futures_util::future::join_all(clicks).await;
    let after = ann.pay("one", &payment).await;
    paid(&after);
    assert!(answers.iter().any(|it| it.status == 201));
    for answer in answers {
        match answer.status {
            201 => assert_eq!(answer.body, after.body),
            _ => {
                answer.refused(409, "request-running");
                assert!(answer.retry_after.is_some());
            }
        }
    }
    assert_eq!(world.balance("ann").await, 5_000 - 420);
}

#[tokio::test]
async fn a_name_stands_for_one_request_of_one_wallet() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let token = world.shown(Channel::Qr).await;
    let payment = ann.signed(&token, 420).await;
    paid(&ann.pay("one", &payment).await);
    let other = ann.signed(&token, 420).await;
    ann.pay("one", &other).await.refused(422, "request-differs");
    // The phone is handed on: the same key, another shopper.
    let key = ann.wallet.lock().await.key().clone();
    ann.wallet
        .lock()
        .await
        .renew(&world.sign_in_with("bob", &key));
    ann.pay("one", &payment)
        .await
        .refused(422, "request-differs");
    // Somebody else's wallet may use the same name.
    world.charge(420).await;
    let bob = App::of(&world, "bob");
    let payment = bob.signed(&world.shown(Channel::Qr).await, 420).await;
    paid(&bob.pay("one", &payment).await);
}

#[tokio::test]
async fn a_payment_without_a_good_name_is_not_begun() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 420).await;
    let body = serde_json::to_vec(&payment).unwrap();
    let now = world.now();
    for name in [
        None,
        Some(""),
        Some("bare"),
        Some("\"\""),
        Some("\"a\", \"b\""),
    ] {
        let named = |wallet: &Wallet| {
            let mut request = wallet.request("POST", "/v1/wallet/payments", body.clone(), now)?;
            let name = name.map(|it| ("idempotency-key", it.to_owned()));
            request.headers.extend(name);
            Ok(request)
        };
        ann.send(named).await.refused(400, "request-unnamed");
    }
    paid(&ann.pay("one", &payment).await);
}

#[tokio::test]
async fn of_two_phones_with_one_token_one_pays() {
    let world = World::new().await;
    world.charge(420).await;
    let token = world.shown(Channel::Qr).await;
    let (ann, bob) = (App::of(&world, "ann"), App::of(&world, "bob"));
    let anns = ann.signed(&token, 420).await;
    let bobs = bob.signed(&token, 420).await;
    let (one, two) = tokio::join!(ann.pay("one", &anns), bob.pay("one", &bobs));
    let statuses = [one.status, two.status];
    assert!(
        statuses == [201, 409] || statuses == [409, 201],
        "{one:?} {two:?}"
    );
    let left = world.balance("ann").await + world.balance("bob").await;
    assert_eq!(left, 10_000 - 420);
}

#[tokio::test]
async fn a_refusal_after_the_claim_gives_the_charge_back_and_stays_the_answer() {
    let world = World::new().await;
    let charge = world.charge(5_001).await.charge;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 5_001).await;
    let refused = ann.pay("one", &payment).await;
    refused.refused(402, "funds-short");
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("nothing was paid"), "{detail}");
    let look = world.journey.charges.look(world.terminal, charge).await;
    assert!(matches!(look.unwrap().stage, ChargeStage::Offered { .. }));
    world.give_more("ann", 10_000).await;
    let again = ann.pay("one", &payment).await;
    assert_eq!((again.status, &again.body), (402, &refused.body));
    paid(&ann.pays(Channel::Qr, 5_001).await);
}

#[tokio::test]
async fn a_payment_that_broke_off_goes_on_with_the_same_claim() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 420).await;
    let database = rusqlite::Connection::open(world.database()).unwrap();
    let trap = "CREATE TRIGGER trap BEFORE INSERT ON payments
        BEGIN SELECT RAISE(ABORT, 'on purpose'); END";
    database.execute_batch(trap).unwrap();
    ann.pay("one", &payment).await.refused(500, "internal");
    assert_eq!(world.balance("ann").await, 5_000);
    database.execute_batch("DROP TRIGGER trap").unwrap();
    let first = ann.pay("one", &payment).await;
    paid(&first);

    world.charge(420).await;
    let payment = ann.signed(&world.shown(Channel::Qr).await, 420).await;
    world.hsm_fails_once();
    let due = ann.pay("two", &payment).await;
    assert_eq!(
        due.refused(503, "busy").json()["detail"],
        "paid; the receipt follows"
    );
    paid(&ann.pay("two", &payment).await);
    assert_eq!(world.balance("ann").await, 5_000 - 840);
}

#[tokio::test]
async fn currencies_without_decimals_and_the_largest_amount_are_paid_to_the_unit() {
    let jpy: Currency = "JPY".parse().unwrap();
    for minor in [1, AMOUNT_MINOR_MAX] {
        let amount = Money::new(minor, jpy).unwrap();
        let world = World::with(|merchant| Merchant {
            currency: jpy,
            fixed: Some(amount),
            ..merchant
        })
        .await;
        world.open_purse("kei", amount).await;
        let kei = App::of(&world, "kei");
        let token = world.shown(Channel::Nfc).await;
        let view: WalletView = read(&kei.view(&token).await);
        assert_eq!(view.amount, Some(amount));
        let payment = kei.signed_as(&token, &kei.agreed(amount).await).await;
        assert_eq!(paid(&kei.pay("one", &payment).await).amount, amount);
        assert_eq!(world.balance("kei").await, 0);
        // Their euros are of no use here.
        let ann = App::of(&world, "ann");
        let token = world.shown(Channel::Nfc).await;
        let payment = ann.signed_as(&token, &ann.agreed(amount).await).await;
        ann.pay("one", &payment).await.refused(403, "no-account");
    }
}

#[tokio::test]
async fn an_open_charge_is_paid_as_signed_up_to_its_cap() {
    let world = World::with(|merchant| Merchant {
        open_cap: Some(eur(1_000)),
        ..merchant
    })
    .await;
    let ann = App::of(&world, "ann");
    let token = world.shown(Channel::Nfc).await;
    let view: WalletView = read(&ann.view(&token).await);
    assert_eq!((view.amount, view.cap), (None, Some(eur(1_000))));
    let over = ann.signed(&token, 1_001).await;
    ann.pay("over", &over).await.refused(409, "amount-differs");
    paid(&ann.pay("all", &ann.signed(&token, 1_000).await).await);
}

#[tokio::test]
async fn accounts_and_payments_are_for_their_own_shopper() {
    let world = World::new().await;
    world.charge(420).await;
    let (ann, bob) = (App::of(&world, "ann"), App::of(&world, "bob"));
    let told = paid(&ann.pays(Channel::Qr, 420).await);
    let now = world.now();
    let other_phone = App::of(&world, "ann");
    let looked = other_phone.send(|it| it.payment(told.payment, now)).await;
    assert_eq!(read::<WalletPayment>(&looked), told);
    let stranger = bob.send(|it| it.payment(told.payment, now)).await;
    stranger.refused(404, "payment-unknown");
    let nowhere = told.payment.to_string().replace('0', "1").parse().unwrap();
    let unknown = ann.send(|it| it.payment(nowhere, now)).await;
    unknown.refused(404, "payment-unknown");
    let listed: WalletAccounts = read(&bob.send(|it| it.accounts(now)).await);
    assert_eq!(listed.accounts.len(), 1);
    assert_eq!(listed.accounts[0].account, bob.account().await);
    assert_eq!(listed.accounts[0].rail, "ledger");
    let eve = App::of(&world, "eve");
    let none: WalletAccounts = read(&eve.send(|it| it.accounts(now)).await);
    assert!(none.accounts.is_empty());
}

#[tokio::test]
async fn without_a_key_there_is_no_wallet() {
    let world = World::whose_provider_binds(false).await;
    let mut claims = world.claims_of("ann", &world.key);
    claims.as_object_mut().unwrap().remove("cnf");
    let bearer = world.provider.token(&claims);
    for (method, path, body) in [
        ("POST", "/v1/wallet/views", json!({ "token": "x" })),
        (
            "POST",
            "/v1/wallet/payments",
            json!({ "token": "x", "approval": "x" }),
        ),
        ("GET", "/v1/wallet/accounts", Value::Null),
    ] {
        let request = || world.ask(method, path).json(&body);
        answer(request()).await.refused(401, "sign-in-needed");
        let unbound = answer(request().bearer_auth(&bearer)).await;
        unbound.refused(401, "sign-in-refused");
    }
}

#[tokio::test]
async fn a_request_is_remembered_for_a_day() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let payment = ann.signed(&world.shown(Channel::Qr).await, 420).await;
    paid(&ann.pay("one", &payment).await);
    let renew = async || {
        let mut wallet = ann.wallet.lock().await;
        let token = world.sign_in_with("ann", wallet.key());
        wallet.renew(&token);
    };
    world.advance(24 * 60 * MINUTE);
    world.journey.forget(world.now()).await.unwrap();
    renew().await;
    paid(&ann.pay("one", &payment).await);
    world.advance(1);
    world.journey.forget(world.now()).await.unwrap();
    ann.pay("one", &payment)
        .await
        .refused(403, "approval-refused");
}
