//! Is nothing paid but what the wallet's key signed, for this token, here and now?

use base64ct::{Base64UrlUnpadded, Encoding};
use protocol::ids::MerchantId;
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws;
use protocol::money::{AMOUNT_MINOR_MAX, Money};
use protocol::token::Channel;
use protocol::wire::wallet::{PaymentRequest, SignedApproval, WalletView};
use serde_json::{Value, json};
use wallet_client::{Agreed, WalletKey};

use super::app::{App, paid, read};
use crate::provider;
use crate::world::{Answer, ORIGIN, World, answer, eur};

#[tokio::test]
async fn what_was_signed_must_be_what_is_asked_and_is_judged_before_anything_is_spent() {
    let world = World::new().await;
    world.charge(420).await;
    let (ann, bob) = (App::of(&world, "ann"), App::of(&world, "bob"));
    let token = world.shown(Channel::Qr).await;
    let right = ann.agreed(eur(420)).await;
    let usd = Money::new(420, "USD".parse().unwrap()).unwrap();
    let nobody: MerchantId = "01a0c450-6c00-7d65-b263-68616e742020".parse().unwrap();
    let wrong = [
        (
            Agreed {
                amount: eur(421),
                ..right
            },
            409,
            "amount-differs",
        ),
        (
            Agreed {
                amount: eur(1),
                ..right
            },
            409,
            "amount-differs",
        ),
        (
            Agreed {
                amount: usd,
                ..right
            },
            409,
            "amount-differs",
        ),
        (
            Agreed {
                payee: nobody,
                ..right
            },
            409,
            "payee-differs",
        ),
        (
            Agreed {
                account: bob.account().await,
                ..right
            },
            403,
            "no-account",
        ),
    ];
    for (place, (agreed, status, slug)) in wrong.into_iter().enumerate() {
        let payment = ann.signed_as(&token, &agreed).await;
        let refused = ann.pay(&format!("wrong {place}"), &payment).await;
        refused.refused(status, slug);
        let again = ann.pay(&format!("wrong {place}"), &payment).await;
        assert_eq!((again.status, again.body), (refused.status, refused.body));
    }
    assert_eq!(world.balance("ann").await, 5_000);
    paid(&ann.pay("right", &ann.signed_as(&token, &right).await).await);
}

#[tokio::test]
async fn an_approval_is_by_this_wallets_key_over_this_token_for_this_authority_and_now() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let token = world.shown(Channel::Qr).await;
    let other = world.shown(Channel::Nfc).await;
    let good = ann.signed(&token, 420).await;
    let key = ann.wallet.lock().await.key().clone();
    let claims: SignedApproval = {
        let keys = JwkSet {
            keys: vec![key.public().clone()],
        };
        jws::verify(&good.approval, &keys).unwrap().into_claims()
    };
    let now_s = world.now().secs();
    let signed = |change: &dyn Fn(&mut SignedApproval)| {
        let mut changed = claims.clone();
        change(&mut changed);
        key.sign(&changed)
    };
    let thief = WalletKey::generate().unwrap();
    let jwt = serde_json::to_value(&claims).unwrap();
    let unsigned = |alg: &str| {
        let kid = key.thumbprint().to_string();
        let header = json!({ "alg": alg, "typ": "m2key-approval+jwt", "kid": kid });
        format!("{}.", provider::unsigned(&header, &jwt))
    };
    let mut flipped = good.approval.clone().into_bytes();
    let last = flipped.len() - 5;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let refused = [
        ("another key", thief.sign(&claims)),
        ("no signature", unsigned("none")),
        ("a mac", unsigned("HS256")),
        ("a changed bit", String::from_utf8(flipped).unwrap()),
        ("another token", ann.signed(&other, 420).await.approval),
        (
            "another authority",
            signed(&|it| it.aud = "https://pay.evil.example".into()),
        ),
        ("too old", signed(&|it| it.iat = now_s - 121)),
        ("not yet", signed(&|it| it.iat = now_s + 31)),
        ("no name", signed(&|it| it.jti = String::new())),
        (
            "a name without an end",
            signed(&|it| it.jti = "x".repeat(257)),
        ),
        ("nothing", String::new()),
        (
            "a proof",
            key.prove("POST", ORIGIN, None, None, world.now()).unwrap(),
        ),
    ];
    for (what, approval) in refused {
        let payment = PaymentRequest {
            approval,
            ..good.clone()
        };
        let answer = ann.pay(what, &payment).await;
        let slug = answer.json()["type"].clone();
        assert_eq!(slug, "urn:m2key:problem:approval-refused", "{what}");
    }
    assert_eq!(world.balance("ann").await, 5_000);
    paid(&ann.pay("good", &good).await);
}

#[tokio::test]
async fn amounts_that_are_none_are_never_signed_for() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let token = world.shown(Channel::Qr).await;
    let good = ann.signed(&token, 420).await;
    let secret = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let jwk: Jwk = serde_json::from_value(provider::public(&secret, "x")).unwrap();
    let thumbprint = protocol::dpop::Thumbprint::of(&jwk);
    let now_s = world.now().secs();
    let header = json!({
        "alg": "ES256", "typ": "m2key-approval+jwt", "kid": thumbprint.to_string(),
    });
    let claims: Value = {
        let part = good.approval.split('.').nth(1).unwrap();
        let json = Base64UrlUnpadded::decode_vec(part).unwrap();
        serde_json::from_slice(&json).unwrap()
    };
    // A wallet of the test's own key, which signs what a wallet-client would not.
    let access_token = {
        let claims = world.provider.claims("ann", thumbprint, now_s);
        world.provider.token(&claims)
    };
    for minor in [
        json!(0),
        json!(-420),
        json!(AMOUNT_MINOR_MAX + 1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(4.2),
        json!("420"),
        Value::Null,
    ] {
        let mut wrong = claims.clone();
        wrong["amount"]["amount_minor"] = minor.clone();
        let approval = provider::sign(&secret, &header, &wrong);
        let payment = PaymentRequest {
            approval,
            ..good.clone()
        };
        let refused = raw(&world, &secret, &access_token, &payment).await;
        refused.refused(403, "approval-refused");
    }
    let approval = provider::sign(&secret, &header, &claims);
    let payment = PaymentRequest {
        approval,
        ..good.clone()
    };
    paid(&raw(&world, &secret, &access_token, &payment).await);
    world.charge(420).await;
    let good = ann.signed(&world.shown(Channel::Qr).await, 420).await;
    paid(&ann.pay("good", &good).await);
}

/// A payment whose proof is signed by hand.
async fn raw(
    world: &World,
    secret: &p256::ecdsa::SigningKey,
    access_token: &str,
    payment: &PaymentRequest,
) -> Answer {
    let mut jwk = provider::public(secret, "x");
    jwk.as_object_mut().unwrap().remove("kid");
    let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
    let nonce = world.journey.sign_in.nonce(world.now()).await.unwrap();
    let jti = protocol::dpop::access_token_hash(&payment.approval);
    let claims = json!({
        "jti": jti, "htm": "POST", "htu": format!("{ORIGIN}/v1/wallet/payments"),
        "iat": world.now().secs(), "nonce": nonce,
        "ath": protocol::dpop::access_token_hash(access_token),
    });
    let asked = world.ask("POST", "/v1/wallet/payments").json(payment);
    let asked = asked.header("authorization", format!("DPoP {access_token}"));
    let asked = asked.header("dpop", provider::sign(secret, &header, &claims));
    answer(asked.header("idempotency-key", format!("\"{jti}\""))).await
}

#[tokio::test]
async fn an_amount_that_changed_since_the_look_is_not_paid() {
    let world = World::new().await;
    let charge = world.charge(420).await;
    let ann = App::of(&world, "ann");
    // A tag does not change with the charge: there the amount guards the shopper.
    let token = world.shown(Channel::Nfc).await;
    let view: WalletView = read(&ann.view(&token).await);
    assert_eq!(view.amount, Some(eur(420)));
    let payment = ann.signed(&token, 420).await;
    let (charges, now) = (&world.journey.charges, world.now());
    charges
        .cancel(world.terminal, charge.charge, now)
        .await
        .unwrap();
    world.charge(4_200).await;
    ann.pay("one", &payment)
        .await
        .refused(409, "amount-differs");
    assert_eq!(world.balance("ann").await, 5_000);
    paid(&ann.pay("two", &ann.signed(&token, 4_200).await).await);
}

#[tokio::test]
async fn an_approval_counts_for_one_claim() {
    let world = World::new().await;
    world.charge(420).await;
    let ann = App::of(&world, "ann");
    let token = world.shown(Channel::Nfc).await;
    let first = ann.signed(&token, 420).await;
    paid(&ann.pay("one", &first).await);
    let key = ann.wallet.lock().await.key().clone();
    let keys = JwkSet {
        keys: vec![key.public().clone()],
    };
    let claims: SignedApproval = jws::verify(&first.approval, &keys).unwrap().into_claims();
    world.charge(420).await;
    let next = world.shown(Channel::Nfc).await;
    let reused = SignedApproval {
        token_hash: protocol::wire::wallet::token_hash(&next).unwrap(),
        ..claims
    };
    let payment = PaymentRequest {
        token: next.clone(),
        approval: key.sign(&reused),
    };
    ann.pay("two", &payment)
        .await
        .refused(403, "approval-refused");
    // Nothing was spent.
    paid(&ann.pay("three", &ann.signed(&next, 420).await).await);
}
