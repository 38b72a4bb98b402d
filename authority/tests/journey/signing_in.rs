//! Is nobody signed in who did not sign in?

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::SigningKey;
use serde_json::{Value, json};
use sha2::Sha256;
use std::process::Command;

use crate::provider::{self, KID, part, unsigned};
use crate::world::{MINUTE, World};

/// What the authority says to an approval with this access token.
async fn verdict(world: &World, access_token: &str) -> (u16, String) {
    match world.verify(access_token).await {
        Ok(_) => (200, String::new()),
        Err(failure) => {
            let problem = failure.into_problem();
            (
                problem.status,
                problem.problem_type().unwrap().slug().into(),
            )
        }
    }
}

async fn accepted(world: &World, access_token: &str) -> bool {
    match verdict(world, access_token).await {
        (200, _) => true,
        (401, slug) if slug == "sign-in-refused" => false,
        other => panic!("{other:?}"),
    }
}

fn header() -> Value {
    json!({ "alg": "ES256", "typ": "at+jwt", "kid": KID })
}

fn claims(world: &World) -> Value {
    world.claims_of("ann", &world.key)
}

#[tokio::test]
async fn a_good_token_signs_in_the_person_it_names_at_its_issuer() {
    let world = World::new().await;
    let signed_in = world.verify(&world.sign_in("ann")).await.unwrap();
    assert_eq!(*signed_in.person(), world.person("ann"));
    assert_eq!(signed_in.provider(), "demo bank");
    assert!(!format!("{signed_in:?}").contains("ann"));
    let mut many = claims(&world);
    many["aud"] = json!(["somebody", "m2key-pay"]);
    assert!(accepted(&world, &world.provider.token(&many)).await);
}

#[tokio::test]
async fn wrong_claims_sign_nobody_in() {
    let world = World::new().await;
    let now = world.now().secs();
    let wrong = [
        ("iss", json!("https://evil.example")),
        ("iss", json!("https://login.example/")),
        ("iss", Value::Null),
        ("aud", json!("somebody-else")),
        ("aud", json!([])),
        ("aud", json!(["m2key-pay ", "x"])),
        ("aud", Value::Null),
        ("exp", json!(now - 30)),
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("nbf", json!(now + 31)),
        ("iat", json!(now + 31)),
        ("iat", Value::Null),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(256))),
        ("sub", json!(7)),
    ];
    for (member, value) in wrong {
        let mut claims = claims(&world);
        claims[member] = value.clone();
        let token = world.provider.token(&claims);
        assert!(!accepted(&world, &token).await, "{member}: {value}");
    }
}

#[tokio::test]
async fn clocks_may_be_half_a_minute_apart() {
    let world = World::new().await;
    let now = world.now().secs();
    for (member, value) in [("exp", now - 29), ("nbf", now + 30), ("iat", now + 30)] {
        let mut claims = claims(&world);
        claims[member] = json!(value);
        assert!(
            accepted(&world, &world.provider.token(&claims)).await,
            "{member}"
        );
    }
}

#[tokio::test]
async fn an_expired_token_says_so_and_approves_nothing() {
    let world = World::new().await;
    let old = world.sign_in("ann");
    world.advance(11 * MINUTE);
    let phone = world.held(420).await;
    let body = world.approval(420);
    let answer = world
        .approve_with(&phone, Some(&phone.cookie), Some(&old), &body)
        .await;
    answer.refused(401, "sign-in-refused");
    assert_eq!(answer.json()["detail"], "the sign-in has expired");
    assert_eq!(world.balance("ann").await, 5_000);
}

#[tokio::test]
async fn no_algorithm_but_the_keys_own_is_taken() {
    let world = World::new().await;
    let claims = claims(&world);
    for alg in [
        "none", "None", "", "HS256", "ES384", "RS256", "PS256", "EdDSA",
    ] {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": KID });
        let good_signature = world.provider.token_with(&header, &claims);
        assert!(!accepted(&world, &good_signature).await, "{alg}");
        let unsigned = format!("{}.", unsigned(&header, &claims));
        assert!(
            !accepted(&world, &unsigned).await,
            "{alg} without a signature"
        );
    }
}

#[tokio::test]
async fn the_public_key_is_no_password() {
    let world = World::new().await;
    let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": KID });
    let input = unsigned(&header, &claims(&world));
    let mut mac = Hmac::<Sha256>::new_from_slice(&world.provider.public_point()).unwrap();
    mac.update(input.as_bytes());
    let token = format!("{input}.{}", part(&mac.finalize().into_bytes()));
    assert!(!accepted(&world, &token).await);
}

#[tokio::test]
async fn other_types_criticals_and_shapes_are_refused() {
    let world = World::new().await;
    let claims = claims(&world);
    for typ in [
        json!("JWT"),
        json!("logout+jwt"),
        json!("m2key-receipt+jwt"),
        Value::Null,
    ] {
        let mut header = header();
        header["typ"] = typ.clone();
        assert!(
            !accepted(&world, &world.provider.token_with(&header, &claims)).await,
            "{typ}"
        );
    }
    for crit in [json!(["exp"]), json!([]), Value::Null] {
        let mut header = header();
        header["crit"] = crit.clone();
        assert!(
            !accepted(&world, &world.provider.token_with(&header, &claims)).await,
            "{crit}"
        );
    }
    let good = world.provider.token(&claims);
    for bad in [
        String::new(),
        "a.b.c".into(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}="),
        format!("{good}{}", "A".repeat(9_000)),
    ] {
        assert!(!accepted(&world, &bad).await);
    }
}

#[tokio::test]
async fn a_changed_bit_anywhere_is_refused() {
    let world = World::new().await;
    let good = world.sign_in("ann");
    for place in (0..good.len())
        .step_by(7)
        .filter(|at| good.as_bytes()[*at] != b'.')
    {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'Q' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(!accepted(&world, &changed).await, "byte {place}");
    }
    let stolen = world.sign_in("bob");
    let (mine, theirs) = (
        good.split('.').nth(2).unwrap(),
        stolen.rsplit_once('.').unwrap().0,
    );
    assert!(!accepted(&world, &format!("{theirs}.{mine}")).await);
}

#[tokio::test]
async fn a_key_the_provider_does_not_publish_signs_nobody_in_and_is_not_asked_for_again_and_again()
{
    let world = World::new().await;
    let strange = SigningKey::from_slice(&[9; 32]).unwrap();
    let claims = claims(&world);
    let same_kid = provider::sign(&strange, &header(), &claims);
    assert!(!accepted(&world, &same_kid).await);
    let mut unknown = header();
    unknown["kid"] = json!("another");
    let unknown = provider::sign(&strange, &unknown, &claims);
    for _ in 0..20 {
        assert!(!accepted(&world, &unknown).await);
    }
    assert_eq!(world.provider.fetches(), 1);
    world.advance(10_000);
    assert!(!accepted(&world, &unknown).await);
    assert_eq!(world.provider.fetches(), 2);
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_found() {
    let world = World::new().await;
    assert!(accepted(&world, &world.sign_in("ann")).await);
    let next = SigningKey::from_slice(&[11; 32]).unwrap();
    world.provider.publish(provider::public(&next, "two"));
    let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": "two" });
    let token = provider::sign(&next, &header, &claims(&world));
    assert!(!accepted(&world, &token).await, "asked a moment ago");
    world.advance(10_000);
    assert!(accepted(&world, &token).await);
}

#[tokio::test]
async fn a_provider_that_is_down_is_said_to_be_down_and_keys_at_hand_go_on() {
    let world = World::new().await;
    world.provider.set_down(true);
    let phone = world.held(420).await;
    let refused = world.approve(&phone, "ann", 420).await;
    refused.refused(503, "not-ready");
    assert!(refused.retry_after.is_some());
    world.provider.set_down(false);
    world.advance(10_000);
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);

    world.provider.set_down(true);
    world.advance(11 * MINUTE);
    assert!(
        accepted(&world, &world.sign_in("ann")).await,
        "keys of ten minutes ago"
    );
    world.advance(60 * MINUTE);
    let (status, slug) = verdict(&world, &world.sign_in("ann")).await;
    assert_eq!((status, slug.as_str()), (503, "not-ready"));
}

#[tokio::test]
async fn rsa_signatures_are_taken_in_both_paddings_and_only_as_the_token_says() {
    let world = World::new().await;
    let rsa = Rsa::generate();
    world.provider.publish(rsa.public("rsa"));
    for (alg, other) in [("RS256", "PS256"), ("PS256", "RS256")] {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": "rsa" });
        let input = unsigned(&header, &claims(&world));
        let good = format!("{input}.{}", part(&rsa.sign(alg, &input)));
        assert!(accepted(&world, &good).await, "{alg}");
        let crossed = format!("{input}.{}", part(&rsa.sign(other, &input)));
        assert!(
            !accepted(&world, &crossed).await,
            "{alg} with a {other} signature"
        );
    }
}

struct Rsa(tempfile::TempDir);

impl Rsa {
    fn generate() -> Self {
        let rsa = Self(tempfile::tempdir().unwrap());
        rsa.openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-out", "key.pem"]);
        rsa
    }

    fn public(&self, kid: &str) -> Value {
        let text = self.openssl(&["rsa", "-in", "key.pem", "-noout", "-modulus"]);
        let text = String::from_utf8(text).unwrap();
        let hex = text.trim().strip_prefix("Modulus=").unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let n: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let n = Base64UrlUnpadded::encode_string(&n);
        json!({ "kty": "RSA", "n": n, "e": "AQAB", "kid": kid, "use": "sig" })
    }

    fn sign(&self, alg: &str, input: &str) -> Vec<u8> {
        std::fs::write(self.0.path().join("input"), input).unwrap();
        let mut arguments = vec!["dgst", "-sha256", "-sign", "key.pem"];
        if alg == "PS256" {
            arguments.extend([
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
            ]);
        }
        arguments.push("input");
        self.openssl(&arguments)
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.0.path())
            .output();
        let output = output.expect("this test needs openssl: apt-get install -y openssl");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }
}
