//! When does a payment need a passkey, and what does the passkey have to say?

use authority::store::OwnLimits;
use protocol::money::Currency;
use protocol::token::Channel;
use serde_json::{Value, json};

use super::authenticator::{Passkey, b64, unb64};
use crate::world::{Answer, MINUTE, Phone, World};

const HOST: &str = "pay.example";

/// The numbers that ship.
async fn world() -> World {
    World::spending("").await
}

async fn options(world: &World, person: &str) -> Answer {
    world
        .post_as(Some(person), "/v1/passkeys/options", None, &json!({}))
        .await
}

/// Makes a passkey in the profile of this person.
async fn register(world: &World, person: &str, passkey: &Passkey) -> Answer {
    let options = options(world, person).await.json();
    let request = registration(passkey, &options);
    world
        .post_as(Some(person), "/v1/passkeys", None, &request)
        .await
}

fn registration(passkey: &Passkey, options: &Value) -> Value {
    let challenge = unb64(options["publicKey"]["challenge"].as_str().unwrap());
    json!({
        "profile": options["profile"],
        "name": "my phone",
        "client_data": b64(&passkey.client_data("webauthn.create", &challenge)),
        "attestation_object": b64(&passkey.attestation()),
    })
}

async fn challenge(world: &World, phone: &Phone, person: &str, minor: i64) -> Answer {
    let path = format!("/v1/claims/{}/approval/options", phone.claim);
    let body = world.approval(minor);
    world
        .post_as(Some(person), &path, Some(&phone.cookie), &body)
        .await
}

/// The approval with what the passkey signs for this challenge.
fn confirmed(world: &World, passkey: &Passkey, options: &Answer, minor: i64) -> Value {
    let options = options.json();
    let challenge = unb64(options["publicKey"]["challenge"].as_str().unwrap());
    let client_data = passkey.client_data("webauthn.get", &challenge);
    let (authenticator_data, signature) = passkey.sign(&client_data);
    let mut body = world.approval(minor);
    body["assertion"] = json!({
        "passkey": b64(&passkey.id),
        "client_data": b64(&client_data),
        "authenticator_data": b64(&authenticator_data),
        "signature": b64(&signature),
    });
    body
}

async fn approve(world: &World, phone: &Phone, person: &str, body: &Value) -> Answer {
    let token = world.sign_in(person);
    world
        .approve_with(phone, Some(&phone.cookie), Some(&token), body)
        .await
}

/// A payment that this passkey, made for it, confirms.
pub async fn paid_with(world: &World, passkey: &Passkey, person: &str, minor: i64) -> Phone {
    let added = register(world, person, passkey).await;
    assert_eq!(added.status, 201, "{added:?}");
    let phone = world.held(minor).await;
    let asked = challenge(world, &phone, person, minor).await;
    let body = confirmed(world, passkey, &asked, minor);
    let paid = approve(world, &phone, person, &body).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    phone
}

#[tokio::test]
async fn what_is_more_than_goes_without_is_paid_with_a_passkey_and_only_with_it() {
    let world = world().await;
    let passkey = Passkey::new(3, HOST);
    let added = register(&world, "ann", &passkey).await;
    assert_eq!(added.status, 201, "{added:?}");
    let phone = world.held(3_001).await;
    let refused = world.approve(&phone, "ann", 3_001).await;
    refused.refused(403, "step-up-needed");
    let asked = challenge(&world, &phone, "ann", 3_001).await;
    let asks = &asked.json()["publicKey"];
    assert_eq!(asks["rpId"], HOST);
    assert_eq!(asks["userVerification"], "required");
    assert_eq!(asks["allowCredentials"][0]["id"], b64(&passkey.id));
    let body = confirmed(&world, &passkey, &asked, 3_001);
    let paid = approve(&world, &phone, "ann", &body).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    let again = approve(&world, &phone, "ann", &body).await;
    assert_eq!(again.body, paid.body, "the same approval, the same receipt");
    assert_eq!(world.balance("ann").await, 5_000 - 3_001);
    let rows = world.rows(
        "SELECT count(*) FROM confirmations JOIN payments ON payments.id = confirmations.payment",
    );
    assert_eq!(rows, 1, "the evidence is kept");
}

#[tokio::test]
async fn the_sixth_payment_needs_a_passkey_and_then_five_more_go_without() {
    let world = world().await;
    let passkey = Passkey::new(3, HOST);
    register(&world, "ann", &passkey).await;
    for _ in 0..5 {
        let phone = world.held(100).await;
        assert_eq!(world.approve(&phone, "ann", 100).await.status, 200);
    }
    let phone = world.held(100).await;
    let refused = world.approve(&phone, "ann", 100).await;
    refused.refused(403, "step-up-needed");
    let asked = challenge(&world, &phone, "ann", 100).await;
    let body = confirmed(&world, &passkey, &asked, 100);
    assert_eq!(approve(&world, &phone, "ann", &body).await.status, 200);
    for _ in 0..5 {
        let phone = world.held(100).await;
        assert_eq!(world.approve(&phone, "ann", 100).await.status, 200);
    }
}

#[tokio::test]
async fn a_signature_for_another_payment_person_or_page_confirms_nothing() {
    let world = world().await;
    let (ann, bob) = (Passkey::new(3, HOST), Passkey::new(4, HOST));
    register(&world, "ann", &ann).await;
    register(&world, "bob", &bob).await;
    let other = world.held(3_500).await;
    let for_other = challenge(&world, &other, "ann", 3_500).await;
    world.advance(2 * MINUTE);
    world.journey.sweep(world.now()).await.unwrap();
    let link = world.shown(Channel::Qr).await;
    let phone = world.claimed(&link, None).await;
    let stolen = confirmed(&world, &ann, &for_other, 3_500);
    let refused = approve(&world, &phone, "ann", &stolen).await;
    refused.refused(403, "step-up-refused");
    let asked = challenge(&world, &phone, "ann", 3_500).await;
    for (passkey, says) in [
        (&bob, json!({})),
        (&ann, json!({ "origin": "https://evil.example" })),
        (&ann, json!({ "crossOrigin": true })),
        (&ann, json!({ "type": "webauthn.create" })),
    ] {
        let liar = Passkey {
            says,
            ..passkey.clone()
        };
        let body = confirmed(&world, &liar, &asked, 3_500);
        let refused = approve(&world, &phone, "ann", &body).await;
        refused.refused(403, "step-up-refused");
    }
    let for_ann = confirmed(&world, &ann, &asked, 3_500);
    let refused = approve(&world, &phone, "bob", &for_ann).await;
    refused.refused(403, "step-up-needed");
    assert_eq!(world.balance("ann").await, 5_000);
    assert_eq!(approve(&world, &phone, "ann", &for_ann).await.status, 200);
}

#[tokio::test]
async fn a_challenge_is_over_after_five_minutes_and_counts_for_nothing() {
    let world = World::spending("").await;
    let passkey = Passkey::new(3, HOST);
    register(&world, "ann", &passkey).await;
    world.charge(3_500).await;
    let code = world.shown(Channel::Code).await;
    let phone = world.claimed(&code, Some(&world.sign_in("ann"))).await;
    let asked = challenge(&world, &phone, "ann", 3_500).await;
    let open: i64 = world.rows("SELECT count(*) FROM challenges WHERE claim IS NOT NULL");
    assert_eq!(open, 1);
    world.edit("UPDATE challenges SET ends_at_ms = 0");
    let body = confirmed(&world, &passkey, &asked, 3_500);
    let refused = approve(&world, &phone, "ann", &body).await;
    refused.refused(403, "step-up-needed");
}

#[tokio::test]
async fn a_counter_that_goes_back_is_refused_and_told() {
    let world = world().await;
    let mut passkey = Passkey::new(3, HOST);
    passkey.counter = 7;
    register(&world, "ann", &passkey).await;
    let phone = world.held(3_500).await;
    let asked = challenge(&world, &phone, "ann", 3_500).await;
    let body = confirmed(&world, &passkey, &asked, 3_500);
    let refused = approve(&world, &phone, "ann", &body).await;
    refused.refused(403, "step-up-refused");
    let told = world.rows("SELECT count(*) FROM audit_rows WHERE kind = 'passkey.regressed'");
    assert_eq!(told, 1);
    assert_eq!(world.app.metrics.passkey_alarms.get(), 1);
    passkey.counter = 8;
    let body = confirmed(&world, &passkey, &asked, 3_500);
    assert_eq!(approve(&world, &phone, "ann", &body).await.status, 200);
}

#[tokio::test]
async fn nobody_adds_a_passkey_to_another_profile_or_with_an_old_sign_in() {
    let world = world().await;
    let passkey = Passkey::new(3, HOST);
    let for_ann = registration(&passkey, &options(&world, "ann").await.json());
    let to_bob = world
        .post_as(Some("bob"), "/v1/passkeys", None, &for_ann)
        .await;
    to_bob.refused(400, "passkey-refused");
    let old = world.sign_in("ann");
    world.advance(5 * MINUTE + 1_000);
    let late = world
        .post_with(Some(&old), "/v1/passkeys", None, &for_ann)
        .await;
    late.refused(403, "fresh-sign-in-needed");
    let over = world
        .post_as(Some("ann"), "/v1/passkeys", None, &for_ann)
        .await;
    over.refused(400, "passkey-refused");
    let nobody = world
        .post_with(None, "/v1/passkeys/options", None, &json!({}))
        .await;
    nobody.refused(403, "form-refused");
    let no_passkey = world.held(3_500).await;
    challenge(&world, &no_passkey, "ann", 3_500)
        .await
        .refused(403, "step-up-needed");
}

#[tokio::test]
async fn a_password_alone_adds_no_passkey_where_the_provider_can_be_strong() {
    let world = World::whose_provider_can_be_strong().await;
    let options = async |token: &str| {
        let path = "/v1/passkeys/options";
        world.post_with(Some(token), path, None, &json!({})).await
    };
    let strong = world.sign_in_strongly("ann", &world.key, 0);
    let weak = world.sign_in("ann");
    options(&weak).await.refused(403, "fresh-sign-in-needed");
    let offered = options(&strong).await;
    assert_eq!(offered.status, 200, "{offered:?}");
    let passkey = Passkey::new(3, HOST);
    let request = registration(&passkey, &offered.json());
    let path = "/v1/passkeys";
    let added = world.post_with(Some(&weak), path, None, &request).await;
    added.refused(403, "fresh-sign-in-needed");
    let added = world.post_with(Some(&strong), path, None, &request).await;
    assert_eq!(added.status, 201, "{added:?}");
}

#[tokio::test]
async fn passkeys_are_listed_renamed_and_removed() {
    let world = world().await;
    let passkey = Passkey::new(3, HOST);
    register(&world, "ann", &passkey).await;
    let path = format!("/v1/passkeys/{}", b64(&passkey.id));
    let rename = json!({ "name": "old phone" });
    let renamed = world.post_as(Some("ann"), &path, None, &rename).await;
    assert_eq!(renamed.status, 204, "{renamed:?}");
    let of_bob = world.post_as(Some("bob"), &path, None, &rename).await;
    of_bob.refused(404, "unknown");
    let list = world.get_as("ann", "/v1/passkeys").await.json();
    assert_eq!(list["passkeys"][0]["name"], "old phone");
    assert_eq!(
        world.get_as("bob", "/v1/passkeys").await.json(),
        json!({ "passkeys": [] })
    );
    assert_eq!(world.delete_as("ann", &path).await.status, 204);
    world.delete_as("ann", &path).await.refused(404, "unknown");
    let phone = world.held(3_500).await;
    challenge(&world, &phone, "ann", 3_500)
        .await
        .refused(403, "step-up-needed");
}

#[tokio::test]
async fn a_locked_shopper_pays_and_claims_nothing_at_once() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let ann = world.verify(&world.sign_in("ann")).await.unwrap();
    world
        .journey
        .shoppers
        .lock(&ann, world.now())
        .await
        .unwrap();
    let refused = world.approve(&phone, "ann", 420).await;
    refused.refused(403, "profile-locked");
    assert_eq!(world.balance("ann").await, 5_000);
    options(&world, "ann").await.refused(403, "profile-locked");
    assert_eq!(world.approve(&phone, "bob", 420).await.status, 200);
}

#[tokio::test]
async fn own_limits_fall_at_once_and_rise_only_with_a_fresh_sign_in() {
    let world = World::new().await;
    let old = world.sign_in("ann");
    let verify = async |token: &str| world.verify(token).await.unwrap();
    let limit = |each| OwnLimits {
        each_minor: each,
        day_minor: None,
    };
    world.advance(6 * MINUTE);
    let (shoppers, eur_) = (&world.journey.shoppers, Currency::EUR);
    let stale = verify(&old).await;
    shoppers
        .limit(&stale, eur_, limit(Some(400)), world.now())
        .await
        .unwrap();
    let phone = world.held(420).await;
    let refused = world.approve(&phone, "ann", 420).await;
    refused.refused(403, "limit-reached");
    for lifted in [Some(401), None] {
        let lifting = shoppers
            .limit(&stale, eur_, limit(lifted), world.now())
            .await;
        assert!(lifting.is_err());
    }
    let fresh = verify(&world.sign_in("ann")).await;
    shoppers
        .limit(&fresh, eur_, limit(None), world.now())
        .await
        .unwrap();
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
    let allowances = shoppers.allowances(&fresh, world.now()).await.unwrap();
    assert_eq!(
        (allowances[0].day_minor, allowances[0].unaided_payments),
        (420, 1)
    );
}

#[tokio::test]
async fn an_address_that_asks_too_often_waits_for_the_next_minute() {
    let world = World::spending("limits = { acts_per_address = 3, looks_per_address = 2 }").await;
    for _ in 0..3 {
        world
            .claim("nonsense", None)
            .await
            .refused(400, "malformed-token");
    }
    let refused = world.claim("nonsense", None).await;
    refused.refused(429, "too-many-requests");
    assert!(refused.retry_after.is_some_and(|seconds| seconds <= 60));
    assert_ne!(world.get("/t/x").await.status, 429);
    assert_ne!(world.get("/t/x").await.status, 429);
    world.get("/t/x").await.refused(429, "too-many-requests");
    assert_eq!(world.get("/.well-known/jwks.json").await.status, 200);
    world.advance(MINUTE);
    world
        .claim("nonsense", None)
        .await
        .refused(400, "malformed-token");
}

#[tokio::test]
async fn a_shopper_holds_two_claims_and_not_a_third() {
    let world = world().await;
    let mut answers = Vec::new();
    for number in [4_711_042, 1, 2] {
        let terminal = protocol::ids::TerminalId::from_number(number).unwrap();
        if number != 4_711_042 {
            world.add_terminal(terminal).await;
        }
        world.charge_at(terminal, 420).await;
        let link = world.shown_at(terminal, Channel::Qr).await;
        answers.push(world.claim(&link, Some(&world.sign_in("ann"))).await);
    }
    assert_eq!(
        (answers[0].status, answers[1].status),
        (201, 201),
        "{answers:?}"
    );
    answers[2].refused(429, "too-many-claims");
}
