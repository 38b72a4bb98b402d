//! Is a copied access token worth nothing without its key?

use std::sync::atomic::{AtomicU32, Ordering};

use authority::store::{Proofs, ShownProof};
use protocol::dpop::{ProofClaims, access_token_hash};
use protocol::token::Channel;
use serde_json::{Value, json};
use wallet_client::WalletKey;

use crate::provider::{self, part, unsigned};
use crate::world::{Answer, MINUTE, ORIGIN, World, answer};

const PATH: &str = "/v1/claims";
/// So that each has a name of its own.
static PROOFS: AtomicU32 = AtomicU32::new(0);

/// A claim that fails for want of a token, once it is known who asks.
async fn claims_with(world: &World, access_token: &str, proofs: &[&str]) -> Answer {
    let request = world.ask("POST", PATH).json(&json!({ "token": "x" }));
    let mut request = request.header("authorization", format!("DPoP {access_token}"));
    for proof in proofs {
        request = request.header("dpop", *proof);
    }
    answer(request).await
}

/// The sender was believed, and only the token is none.
fn believed(answer: &Answer) {
    answer.refused(400, "malformed-token");
}

async fn good(world: &World, access_token: &str) -> ProofClaims {
    ProofClaims {
        jti: format!("proof {}", PROOFS.fetch_add(1, Ordering::SeqCst)),
        htm: "POST".into(),
        htu: format!("{ORIGIN}{PATH}"),
        iat: world.now().secs(),
        ath: Some(access_token_hash(access_token)),
        nonce: Some(world.journey.sign_in.nonce(world.now()).await.unwrap()),
    }
}

#[tokio::test]
async fn an_access_token_is_worth_nothing_without_its_key() {
    let world = World::new().await;
    let token = world.sign_in("ann");
    let bearer = world.ask("POST", PATH).json(&json!({ "token": "x" }));
    let refused = answer(bearer.bearer_auth(&token)).await;
    refused.refused(401, "sign-in-refused");
    let challenge = &refused.headers["www-authenticate"];
    assert_eq!(challenge, "DPoP error=\"invalid_token\", algs=\"ES256\"");

    let thief = WalletKey::generate().unwrap();
    let theirs = thief.sign_proof(&good(&world, &token).await);
    let refused = claims_with(&world, &token, &[&theirs]).await;
    refused.refused(401, "proof-refused");
    let challenge = &refused.headers["www-authenticate"];
    assert_eq!(
        challenge,
        "DPoP error=\"invalid_dpop_proof\", algs=\"ES256\""
    );

    let none = claims_with(&world, &token, &[]).await;
    none.refused(401, "proof-refused");
    let own = world.key.sign_proof(&good(&world, &token).await);
    let twice = world.key.sign_proof(&good(&world, &token).await);
    let several = claims_with(&world, &token, &[&own, &twice]).await;
    several.refused(401, "proof-refused");
    believed(&claims_with(&world, &token, &[&own]).await);
}

#[tokio::test]
async fn a_proof_is_good_once_however_many_try_at_the_same_time() {
    let world = World::new().await;
    let token = world.sign_in("ann");
    let proof = world.key.sign_proof(&good(&world, &token).await);
    let tries = (0..8).map(|_| async { claims_with(&world, &token, &[&proof]).await.status });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [400, 401, 401, 401, 401, 401, 401, 401]);
    let world = world.restart().await;
    let again = claims_with(&world, &token, &[&proof]).await;
    again.refused(401, "proof-refused");
    assert_eq!(
        again.json()["detail"],
        "the proof was shown before",
        "a new process knows it as well"
    );
}

/// What is done to a proof that was good.
type Change = fn(&mut ProofClaims);

#[tokio::test]
async fn a_proof_is_for_this_request_this_access_token_and_now() {
    let world = World::new().await;
    let token = world.sign_in("ann");
    let changes: [(&str, Change); 10] = [
        ("another method", |it| it.htm = "GET".into()),
        ("the method in small letters", |it| it.htm = "post".into()),
        ("another path", |it| it.htu = format!("{ORIGIN}{PATH}/1")),
        ("another host", |it| {
            it.htu = format!("https://evil.example{PATH}")
        }),
        ("another scheme", |it| {
            it.htu = format!("http://pay.example{PATH}")
        }),
        ("a minute old", |it| it.iat -= 61),
        ("half a minute ahead", |it| it.iat += 31),
        ("no access token", |it| it.ath = None),
        ("another access token", |it| {
            it.ath = Some(access_token_hash("x"))
        }),
        ("no name", |it| it.jti = String::new()),
    ];
    for (what, change) in changes {
        let mut claims = good(&world, &token).await;
        change(&mut claims);
        let proof = world.key.sign_proof(&claims);
        let refused = claims_with(&world, &token, &[&proof]).await;
        let slug = &refused.json()["type"];
        assert_eq!(slug, "urn:m2key:problem:proof-refused", "{what}");
    }
    let mut spelt = good(&world, &token).await;
    spelt.htu = format!("HTTPS://PAY.example:443{PATH}?a=b#c");
    let proof = world.key.sign_proof(&spelt);
    believed(&claims_with(&world, &token, &[&proof]).await);
}

#[tokio::test]
async fn a_nonce_of_ours_is_needed_and_the_refusal_brings_it() {
    let world = World::new().await;
    let token = world.sign_in("ann");
    let old = world.journey.sign_in.nonce(world.now() - 6 * MINUTE).await;
    for nonce in [None, Some("x".to_owned()), Some(old.unwrap())] {
        let claims = ProofClaims {
            nonce,
            ..good(&world, &token).await
        };
        let refused = claims_with(&world, &token, &[&world.key.sign_proof(&claims)]).await;
        refused.refused(401, "nonce-needed");
        let challenge = &refused.headers["www-authenticate"];
        assert_eq!(challenge, "DPoP error=\"use_dpop_nonce\", algs=\"ES256\"");
        let given = refused.headers["dpop-nonce"].to_str().unwrap().to_owned();
        let claims = ProofClaims {
            nonce: Some(given),
            ..good(&world, &token).await
        };
        let accepted = claims_with(&world, &token, &[&world.key.sign_proof(&claims)]).await;
        believed(&accepted);
        assert!(accepted.headers.contains_key("dpop-nonce"));
    }
}

/// A proof with a header of the test's own, signed all the same.
async fn with_header(world: &World, token: &str, header: &Value) -> Answer {
    let claims = serde_json::to_value(good(world, token).await).unwrap();
    let secret = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let proof = provider::sign(&secret, header, &claims);
    claims_with(world, token, &[&proof]).await
}

#[tokio::test]
async fn a_proof_is_signed_with_es256_by_a_key_whose_private_half_stays_at_home() {
    let world = World::new().await;
    let secret = p256::ecdsa::SigningKey::from_slice(&[5; 32]).unwrap();
    let public = provider::public(&secret, "x");
    let bare = json!({ "kty": "EC", "crv": "P-256", "x": public["x"], "y": public["y"] });
    let jwk: protocol::jwk::Jwk = serde_json::from_value(bare.clone()).unwrap();
    let claims = {
        let thumbprint = protocol::dpop::Thumbprint::of(&jwk);
        world.provider.claims("ann", thumbprint, world.now().secs())
    };
    let token = world.provider.token(&claims);
    let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": bare });
    believed(&with_header(&world, &token, &header).await);
    let member = |pointer: &str, value: Value| {
        let mut changed = header.clone();
        let (place, name) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(place).unwrap()[name] = value;
        changed
    };
    for wrong in [
        member("/alg", json!("none")),
        member("/alg", json!("HS256")),
        member("/alg", json!("ES384")),
        member("/typ", json!("JWT")),
        member("/typ", json!("at+jwt")),
        member("/crit", json!(["b64"])),
        member("/jwk", Value::Null),
        member("/jwk/d", json!("AAAA")),
        member("/jwk/d", Value::Null),
        member("/jwk/k", json!("AAAA")),
        member("/jwk/kty", json!("oct")),
        member("/jwk/crv", json!("P-384")),
        member("/jwk/x", bare["y"].clone()),
        member("/jwk/use", json!("enc")),
    ] {
        let refused = with_header(&world, &token, &wrong).await;
        let slug = refused.json()["type"].clone();
        assert_eq!(slug, "urn:m2key:problem:proof-refused", "{wrong}");
    }
    // Whoever has seen a proof of the owner knows the public key, and can name it.
    let a_strangers = {
        let stranger = p256::ecdsa::SigningKey::from_slice(&[6; 32]).unwrap();
        let claims = serde_json::to_value(good(&world, &token).await).unwrap();
        provider::sign(&stranger, &header, &claims)
    };
    let unsigned = {
        let header = member("/alg", json!("none"));
        let claims = serde_json::to_value(good(&world, &token).await).unwrap();
        format!("{}.", unsigned(&header, &claims))
    };
    let keyed = {
        use hmac::{Hmac, KeyInit, Mac};
        let header = member("/alg", json!("HS256"));
        let claims = serde_json::to_value(good(&world, &token).await).unwrap();
        let input = provider::unsigned(&header, &claims);
        let point = secret.verifying_key().to_sec1_point(false);
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(point.as_bytes()).unwrap();
        mac.update(input.as_bytes());
        format!("{input}.{}", part(&mac.finalize().into_bytes()))
    };
    for proof in [
        a_strangers,
        unsigned,
        keyed,
        "a.b.c".into(),
        "x".repeat(5_000),
    ] {
        let refused = claims_with(&world, &token, &[&proof]).await;
        refused.refused(401, "proof-refused");
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_no_key_is_refused_unless_its_provider_may() {
    for constrained in [true, false] {
        let world = World::whose_provider_binds(constrained).await;
        let mut claims = world.claims_of("ann", &world.key);
        claims["cnf"] = json!({ "x5t#S256": "AAAA" });
        let otherwise_bound = world.provider.token(&claims);
        claims.as_object_mut().unwrap().remove("cnf");
        let unbound = world.provider.token(&claims);
        let bearer = |token: &str| {
            let request = world.ask("POST", PATH).json(&json!({ "token": "x" }));
            answer(request.bearer_auth(token))
        };
        bearer(&otherwise_bound)
            .await
            .refused(401, "sign-in-refused");
        bearer(&world.sign_in("ann"))
            .await
            .refused(401, "sign-in-refused");
        match constrained {
            true => bearer(&unbound).await.refused(401, "sign-in-refused"),
            false => bearer(&unbound).await.refused(400, "malformed-token"),
        };
        let proof = world.key.sign_proof(&good(&world, &unbound).await);
        let proven = claims_with(&world, &unbound, &[&proof]).await;
        proven.refused(401, "sign-in-refused");
    }
}

#[tokio::test]
async fn two_phones_of_one_shopper_have_a_key_each() {
    let world = World::new().await;
    let other = WalletKey::generate().unwrap();
    let (first, second) = (world.sign_in("ann"), world.sign_in_with("ann", &other));
    let crossed = other.sign_proof(&good(&world, &first).await);
    let refused = claims_with(&world, &first, &[&crossed]).await;
    refused.refused(401, "proof-refused");
    world.charge(420).await;
    let body = json!({ "token": world.shown(Channel::Qr).await });
    let request = world.ask("POST", PATH).json(&body);
    let claimed = world.send_with(request, &second, &other).await;
    assert_eq!(claimed.status, 201, "{claimed:?}");
}

#[tokio::test]
async fn proofs_are_forgotten_once_they_are_too_old_to_be_shown_again() {
    let world = World::new().await;
    let shown = ShownProof {
        key: world.key.thumbprint(),
        jti: [1; 32],
        until: world.now() + MINUTE,
    };
    assert!(world.store.show_proof(shown).await.unwrap());
    world.advance(MINUTE);
    assert_eq!(world.journey.forget(world.now()).await.unwrap(), 0);
    assert!(!world.store.show_proof(shown).await.unwrap());
    world.advance(2 * MINUTE);
    assert_eq!(world.journey.forget(world.now()).await.unwrap(), 1);
}
