//! Is a browser signed in by its own sign-in at the provider that was asked, and by nothing else?

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::SigningKey;
use protocol::charge::HOLD_SIGNED_IN_MS;
use protocol::token::Channel;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::browser::{Browser, ORIGIN, location};
use crate::openid::{CLIENT, Fields, OpenId, SECRET};
use crate::provider::{public, sign};
use crate::world::{Answer, MINUTE, World};

async fn place() -> (World, OpenId) {
    let wallet = OpenId::start("wallet").await;
    let world = World::where_browsers_sign_in(&[(&wallet, None)]).await;
    (world, wallet)
}

/// Begins to sign in; answers what the provider is asked.
pub async fn begin(
    world: &World,
    at: &OpenId,
    browser: &Browser,
    fields: &[(&str, &str)],
) -> Fields {
    let path = format!("/sign-in/{}", at.id);
    let answer = browser.post(world, &path, fields).await;
    at.request(&location(&answer))
}

/// The provider sends the browser back with this code.
pub async fn back(
    world: &World,
    at: &OpenId,
    browser: &Browser,
    request: &Fields,
    code: &str,
) -> Answer {
    let query = [
        ("state", request["state"].as_str()),
        ("code", code),
        ("iss", at.issuer.as_str()),
    ];
    come_back(world, browser, &query).await
}

async fn come_back(world: &World, browser: &Browser, query: &[(&str, &str)]) -> Answer {
    let query = serde_urlencoded::to_string(query).unwrap();
    let path = format!("/sign-in/callback?{query}");
    browser.get(world, &path).await
}

/// The whole way.
pub async fn sign_in(world: &World, at: &OpenId, browser: &Browser, subject: &str) -> Answer {
    let request = begin(world, at, browser, &[("purpose", "profile")]).await;
    let code = at.code(at.claims(&request, subject, world.now().secs()));
    back(world, at, browser, &request, &code).await
}

#[tokio::test]
async fn a_shopper_signs_in_and_the_claim_is_held_longer() {
    let (world, wallet) = place().await;
    let phone = world.held(420).await;
    let browser = Browser::of(&phone);
    let before = browser.secret();
    let request = begin(&world, &wallet, &browser, &[("claim", &phone.claim)]).await;
    assert_eq!(request["response_type"], "code");
    assert_eq!(request["client_id"], CLIENT);
    assert_eq!(
        request["redirect_uri"],
        format!("{ORIGIN}/sign-in/callback")
    );
    assert_eq!(request["scope"], "openid");
    assert_eq!(request["acr_values"], "strong");
    assert_eq!(request.get("prompt"), None);
    world.advance(2 * MINUTE);
    let mut claims = wallet.claims(&request, "ann", world.now().secs());
    claims["acr"] = json!("strong");
    let code = wallet.code(claims);
    let answer = back(&world, &wallet, &browser, &request, &code).await;
    assert_eq!(location(&answer), format!("/pay/{}", phone.claim));
    let redeemed = wallet.script().redeemed.remove(0);
    let challenge = Sha256::digest(redeemed["code_verifier"].as_bytes());
    let challenge = Base64UrlUnpadded::encode_string(&challenge);
    assert_eq!(request["code_challenge"], challenge);
    assert_eq!(request["code_challenge_method"], "S256");
    let visitor = browser.visitor(&world).await;
    let session = visitor.session().unwrap();
    assert_eq!(session.person().subject, "ann");
    assert_eq!(session.person().issuer, wallet.issuer);
    assert_eq!(session.provider(), "Wallet wallet");
    assert!(session.strong());
    assert_ne!(browser.secret(), before, "a planted secret opens nothing");
    assert!(!Browser::with(&before).is_signed_in(&world).await);
    let view = world.view(&phone).await.json();
    let expected = (world.now() + HOLD_SIGNED_IN_MS).to_string();
    assert_eq!(view["held_until"], expected);
}

#[tokio::test]
async fn what_is_asked_is_left_with_a_provider_that_takes_it() {
    let (world, wallet) = place().await;
    wallet.takes_pushed();
    let browser = Browser::new();
    let answer = sign_in(&world, &wallet, &browser, "ann").await;
    assert_eq!(location(&answer), "/me");
    assert!(browser.is_signed_in(&world).await);
}

#[tokio::test]
async fn wrong_claims_of_an_id_token_sign_nobody_in() {
    let (world, wallet) = place().await;
    let now = world.now().secs();
    let wrong = [
        ("iss", json!("https://evil.example")),
        ("iss", json!(format!("{}/", wallet.issuer))),
        ("aud", json!("somebody-else")),
        ("aud", json!([CLIENT, "another"])),
        ("azp", json!("another")),
        ("aud", Value::Null),
        ("exp", json!(now - 30)),
        ("exp", Value::Null),
        ("iat", json!(now + 31)),
        ("nbf", json!(now + 31)),
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("nonce", json!("")),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("sid", json!("")),
    ];
    for (member, value) in wrong {
        let browser = Browser::new();
        let request = begin(&world, &wallet, &browser, &[]).await;
        let mut claims = wallet.claims(&request, "ann", now);
        claims[member] = value.clone();
        let code = wallet.code(claims);
        let answer = back(&world, &wallet, &browser, &request, &code).await;
        answer.refused(502, "provider-refused");
        assert!(!browser.is_signed_in(&world).await, "{member}: {value}");
    }
}

#[tokio::test]
async fn a_token_for_several_parties_that_was_made_for_us_is_taken() {
    let (world, wallet) = place().await;
    let browser = Browser::new();
    let request = begin(&world, &wallet, &browser, &[]).await;
    let mut claims = wallet.claims(&request, "ann", world.now().secs());
    claims["aud"] = json!([CLIENT, "another"]);
    claims["azp"] = json!(CLIENT);
    let hash = Sha256::digest(b"opaque");
    claims["at_hash"] = json!(Base64UrlUnpadded::encode_string(&hash[..16]));
    let code = wallet.code(claims);
    let answer = back(&world, &wallet, &browser, &request, &code).await;
    assert_eq!(location(&answer), "/");
}

#[tokio::test]
async fn other_algorithms_types_and_keys_sign_nobody_in() {
    let (world, wallet) = place().await;
    let headers = [
        json!({ "alg": "none", "kid": "k1" }),
        json!({ "alg": "HS256", "kid": "k1" }),
        json!({ "alg": "RS256", "kid": "k1" }),
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "kid": "unknown" }),
        json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "kid": "k1", "typ": "logout+jwt" }),
        json!({ "alg": "ES256", "kid": "k1", "crit": [] }),
    ];
    for header in headers {
        wallet.script().header = header.clone();
        let browser = Browser::new();
        let answer = sign_in(&world, &wallet, &browser, "ann").await;
        answer.refused(502, "provider-refused");
        assert!(!browser.is_signed_in(&world).await, "{header}");
    }
    wallet.script().header = json!({ "alg": "ES256", "kid": "k1" });
    wallet.script().key.1 = SigningKey::from_slice(&[9; 32]).unwrap();
    let answer = sign_in(&world, &wallet, &Browser::new(), "ann").await;
    answer.refused(502, "provider-refused");
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_found() {
    let (world, wallet) = place().await;
    sign_in(&world, &wallet, &Browser::new(), "ann").await;
    let next = SigningKey::from_slice(&[22; 32]).unwrap();
    {
        let mut script = wallet.script();
        script.published = vec![public(&next, "k2")];
        script.header = json!({ "alg": "ES256", "kid": "k2" });
        script.key = ("k2".into(), next);
    }
    world.advance(10_000);
    let browser = Browser::new();
    let answer = sign_in(&world, &wallet, &browser, "ann").await;
    assert_eq!(location(&answer), "/me");
}

#[tokio::test]
async fn the_state_of_another_browser_signs_nobody_in() {
    let (world, wallet) = place().await;
    let (ann, mallory) = (Browser::new(), Browser::new());
    // Mallory signs in, and has Ann's browser open the callback.
    let request = begin(&world, &wallet, &mallory, &[]).await;
    let code = wallet.code(wallet.claims(&request, "mallory", world.now().secs()));
    let answer = back(&world, &wallet, &ann, &request, &code).await;
    answer.refused(410, "sign-in-over");
    assert!(!ann.is_signed_in(&world).await);
    assert_eq!(
        wallet.script().redeemed.len(),
        0,
        "the code was not even used"
    );
    let answer = back(&world, &wallet, &mallory, &request, &code).await;
    assert_eq!(location(&answer), "/", "and is good for Mallory alone");
}

#[tokio::test]
async fn a_code_is_taken_once_and_the_back_button_does_no_harm() {
    let (world, wallet) = place().await;
    let phone = world.held(420).await;
    let browser = Browser::of(&phone);
    let request = begin(&world, &wallet, &browser, &[("claim", &phone.claim)]).await;
    let code = wallet.code(wallet.claims(&request, "ann", world.now().secs()));
    let first = back(&world, &wallet, &browser, &request, &code).await;
    let secret = browser.secret();
    let again = back(&world, &wallet, &browser, &request, &code).await;
    assert_eq!(location(&again), location(&first));
    assert_eq!(browser.secret(), secret);
    assert_eq!(wallet.script().redeemed.len(), 1);
    let stranger = Browser::new();
    let answer = back(&world, &wallet, &stranger, &request, &code).await;
    answer.refused(410, "sign-in-over");
    // A code of another sign-in does not fit: its ID token has that one's nonce.
    let other = Browser::new();
    let theirs = begin(&world, &wallet, &other, &[]).await;
    let code = wallet.code(wallet.claims(&theirs, "ann", world.now().secs()));
    let mallory = Browser::new();
    let mine = begin(&world, &wallet, &mallory, &[]).await;
    let answer = back(&world, &wallet, &mallory, &mine, &code).await;
    answer.refused(502, "provider-refused");
    let used = back(&world, &wallet, &other, &theirs, &code).await;
    used.refused(410, "sign-in-over");
}

#[tokio::test]
async fn an_answer_of_another_provider_is_not_taken_for_this_one() {
    let (wallet, bank) = (OpenId::start("wallet").await, OpenId::start("bank").await);
    let world = World::where_browsers_sign_in(&[(&wallet, None), (&bank, None)]).await;
    let browser = Browser::new();
    let request = begin(&world, &wallet, &browser, &[]).await;
    let code = bank.code(bank.claims(&request, "ann", world.now().secs()));
    let answer = back(&world, &bank, &browser, &request, &code).await;
    answer.refused(502, "provider-refused");
    let request = begin(&world, &wallet, &browser, &[]).await;
    let silent = [("state", request["state"].as_str()), ("code", "x")];
    let answer = come_back(&world, &browser, &silent).await;
    answer.refused(502, "provider-refused");
    assert_eq!(
        wallet.script().redeemed.len() + bank.script().redeemed.len(),
        0
    );
    bank.script().metadata["authorization_response_iss_parameter_supported"] = json!(false);
    let request = begin(&world, &bank, &browser, &[]).await;
    let code = bank.code(bank.claims(&request, "ann", world.now().secs()));
    let older = [("state", request["state"].as_str()), ("code", &code)];
    let answer = come_back(&world, &browser, &older).await;
    assert_eq!(location(&answer), "/");
}

#[tokio::test]
async fn a_provider_that_is_down_loses_nothing_and_says_so() {
    let (world, wallet) = place().await;
    let phone = world.held(420).await;
    let browser = Browser::of(&phone);
    let fields = [("claim", phone.claim.as_str())];
    wallet.script().down = true;
    let answer = browser.post(&world, "/sign-in/wallet", &fields).await;
    answer.refused(503, "provider-down");
    assert!(answer.retry_after.is_some());
    assert_eq!(world.view(&phone).await.json()["state"], "held");
    wallet.script().down = false;
    world.advance(10_000);
    let request = begin(&world, &wallet, &browser, &fields).await;
    let code = wallet.code(wallet.claims(&request, "ann", world.now().secs()));
    wallet.script().down = true;
    let answer = back(&world, &wallet, &browser, &request, &code).await;
    answer.refused(503, "provider-down");
    assert_eq!(world.view(&phone).await.json()["state"], "held");
    wallet.script().down = false;
    let request = begin(&world, &wallet, &browser, &fields).await;
    let code = wallet.code(wallet.claims(&request, "ann", world.now().secs()));
    let answer = back(&world, &wallet, &browser, &request, &code).await;
    assert_eq!(location(&answer), format!("/pay/{}", phone.claim));
}

#[tokio::test]
async fn a_provider_that_never_answers_or_never_ends_is_down() {
    for endless in [false, true] {
        let (world, wallet) = place().await;
        match endless {
            true => wallet.script().endless = true,
            false => wallet.script().silent = true,
        }
        let answer = Browser::new().post(&world, "/sign-in/wallet", &[]).await;
        answer.refused(503, "provider-down");
    }
}

#[tokio::test]
async fn metadata_that_breaks_the_rules_sends_nobody_there() {
    for (member, value) in [
        ("issuer", json!("https://evil.example")),
        ("code_challenge_methods_supported", json!(["plain"])),
        (
            "authorization_endpoint",
            json!("http://evil.example/authorize"),
        ),
        ("token_endpoint", json!("http://evil.example/token")),
        ("jwks_uri", json!("ftp://evil.example/")),
        ("token_endpoint", Value::Null),
    ] {
        let (world, wallet) = place().await;
        wallet.script().metadata[member] = value.clone();
        let answer = Browser::new().post(&world, "/sign-in/wallet", &[]).await;
        answer.refused(502, "provider-refused");
    }
}

#[tokio::test]
async fn what_the_token_endpoint_refuses_is_told_by_whose_move_it_is() {
    let (world, wallet) = place().await;
    let error = |name: &str| json!({ "error": name });
    for (answer, status, slug) in [
        ((400, error("invalid_grant")), 410, "sign-in-over"),
        ((401, error("invalid_client")), 502, "provider-refused"),
        ((503, json!({})), 503, "provider-down"),
        ((302, json!({})), 502, "provider-refused"),
        (
            (200, json!({ "access_token": "x" })),
            502,
            "provider-refused",
        ),
        ((200, json!([])), 502, "provider-refused"),
    ] {
        wallet.script().token_answer = Some(answer);
        let browser = Browser::new();
        let request = begin(&world, &wallet, &browser, &[]).await;
        let refused = back(&world, &wallet, &browser, &request, "x").await;
        refused.refused(status, slug);
        assert!(!browser.is_signed_in(&world).await);
    }
}

#[tokio::test]
async fn whoever_gives_up_at_the_provider_is_where_they_were() {
    let (world, wallet) = place().await;
    let phone = world.held(420).await;
    let browser = Browser::of(&phone);
    let request = begin(&world, &wallet, &browser, &[("claim", &phone.claim)]).await;
    let given_up = [
        ("state", request["state"].as_str()),
        ("error", "access_denied"),
        ("iss", wallet.issuer.as_str()),
    ];
    let answer = come_back(&world, &browser, &given_up).await;
    assert_eq!(location(&answer), format!("/pay/{}", phone.claim));
    assert!(!browser.is_signed_in(&world).await);
    assert_eq!(world.view(&phone).await.json()["state"], "held");
    let request = begin(&world, &wallet, &browser, &[]).await;
    let broken = [
        ("state", request["state"].as_str()),
        ("error", "<script>"),
        ("iss", wallet.issuer.as_str()),
    ];
    let answer = come_back(&world, &browser, &broken).await;
    answer.refused(502, "provider-refused");
    assert!(!String::from_utf8_lossy(&answer.body).contains("script"));
}

#[tokio::test]
async fn a_sign_in_that_takes_too_long_is_over_and_its_claim_released() {
    let (world, wallet) = place().await;
    let phone = world.held(420).await;
    let browser = Browser::of(&phone);
    let request = begin(&world, &wallet, &browser, &[("claim", &phone.claim)]).await;
    world.advance(10 * MINUTE);
    world.journey.sweep(world.now()).await.unwrap();
    assert_eq!(world.view(&phone).await.json()["state"], "released");
    let code = wallet.code(wallet.claims(&request, "ann", world.now().secs()));
    let answer = back(&world, &wallet, &browser, &request, &code).await;
    answer.refused(410, "sign-in-over");
}

#[tokio::test]
async fn a_claim_is_only_prolonged_by_the_phone_that_made_it() {
    let (world, _wallet) = place().await;
    let phone = world.held(420).await;
    let stranger = Browser::new();
    let answer = stranger
        .post(&world, "/sign-in/wallet", &[("claim", &phone.claim)])
        .await;
    answer.refused(404, "claim-unknown");
}

#[tokio::test]
async fn a_form_of_another_site_begins_nothing_and_ends_nothing() {
    let (world, wallet) = place().await;
    let browser = Browser::new();
    sign_in(&world, &wallet, &browser, "ann").await;
    let token = browser.form_token();
    let good = [("form_token", token.as_str())];
    let stolen = Browser::new().form_token();
    for (origin, fields) in [
        (None, &good[..]),
        (Some("null"), &good[..]),
        (Some("https://evil.example"), &good[..]),
        (Some("http://pay.example"), &good[..]),
        (Some(ORIGIN), &[][..]),
        (Some(ORIGIN), &[("form_token", "")][..]),
        (Some(ORIGIN), &[("form_token", stolen.as_str())][..]),
    ] {
        for path in ["/sign-in/wallet", "/sign-out"] {
            let answer = browser.post_from(&world, path, origin, fields).await;
            answer.refused(403, "form-refused");
        }
    }
    assert!(browser.is_signed_in(&world).await);
    let out = browser.post(&world, "/sign-out", &[]).await;
    assert_eq!(location(&out), "/");
    assert!(!browser.is_signed_in(&world).await);
}

#[tokio::test]
async fn signing_out_everywhere_reaches_every_browser_of_the_shopper() {
    let (world, wallet) = place().await;
    let (one, two, bobs) = (Browser::new(), Browser::new(), Browser::new());
    for (browser, who) in [(&one, "ann"), (&two, "ann"), (&bobs, "bob")] {
        sign_in(&world, &wallet, browser, who).await;
    }
    let secret = one.secret();
    one.post(&world, "/sign-out", &[("everywhere", "1")]).await;
    assert!(!Browser::with(&secret).is_signed_in(&world).await);
    assert!(!two.is_signed_in(&world).await);
    assert!(bobs.is_signed_in(&world).await);
}

#[tokio::test]
async fn a_session_ends_without_use_and_in_the_end_in_any_case() {
    let (world, wallet) = place().await;
    let browser = Browser::new();
    sign_in(&world, &wallet, &browser, "ann").await;
    world.advance(30 * MINUTE - 1);
    assert!(browser.is_signed_in(&world).await);
    world.advance(30 * MINUTE - 1);
    assert!(browser.is_signed_in(&world).await, "it was used");
    world.advance(30 * MINUTE);
    assert!(!browser.is_signed_in(&world).await);
    sign_in(&world, &wallet, &browser, "ann").await;
    for _ in 0..12 * 3 - 1 {
        world.advance(20 * MINUTE);
        assert!(browser.is_signed_in(&world).await);
    }
    world.advance(20 * MINUTE);
    assert!(!browser.is_signed_in(&world).await, "twelve hours");
}

#[tokio::test]
async fn a_provider_logs_out_by_a_token_that_is_one() {
    let (world, wallet) = place().await;
    let browser = Browser::new();
    sign_in(&world, &wallet, &browser, "ann").await;
    let now = world.now().secs();
    let good = json!({
        "iss": wallet.issuer, "aud": CLIENT, "iat": now, "exp": now + 120, "jti": "1",
        "sub": "ann", "sid": "sid-ann",
        "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
    });
    let say = async |claims: &Value| {
        let body = format!("logout_token={}", wallet.logout_token(claims));
        let form = "application/x-www-form-urlencoded";
        world
            .post_text("/logout/backchannel/wallet", form, body)
            .await
    };
    for (member, value) in [
        ("iss", json!("https://evil.example")),
        ("aud", json!("another")),
        ("iat", json!(now - 601 - 30)),
        ("exp", json!(now - 31)),
        ("iat", json!(now + 31)),
        ("nonce", json!("x")),
        ("nonce", Value::Null),
        ("events", json!({})),
        (
            "events",
            json!({ "http://schemas.openid.net/event/backchannel-logout": 1 }),
        ),
        ("jti", json!("")),
        ("jti", Value::Null),
        ("sub", json!("")),
    ] {
        let mut wrong = good.clone();
        wrong[member] = value.clone();
        say(&wrong).await.refused(400, "malformed-request");
        assert!(browser.is_signed_in(&world).await, "{member}: {value}");
    }
    let nobody = json!({
        "iss": wallet.issuer, "aud": CLIENT, "iat": now, "jti": "2", "events": good["events"],
    });
    say(&nobody).await.refused(400, "malformed-request");
    let forged = SigningKey::from_slice(&[9; 32]).unwrap();
    let header = json!({ "alg": "ES256", "kid": "k1", "typ": "logout+jwt" });
    let body = format!("logout_token={}", sign(&forged, &header, &good));
    let form = "application/x-www-form-urlencoded";
    let answer = world.post_text("/logout/backchannel/wallet", form, body);
    answer.await.refused(400, "malformed-request");
    assert!(browser.is_signed_in(&world).await);
    assert_eq!(say(&good).await.status, 200);
    assert!(!browser.is_signed_in(&world).await);
    sign_in(&world, &wallet, &browser, "ann").await;
    assert_eq!(
        say(&good).await.status,
        200,
        "said again, and nothing happens"
    );
    assert!(browser.is_signed_in(&world).await);
}

#[tokio::test]
async fn a_typed_code_is_claimed_by_whoever_signed_in_at_a_provider() {
    let (world, wallet) = place().await;
    let browser = Browser::new();
    sign_in(&world, &wallet, &browser, "ann").await;
    world.charge(420).await;
    let code = world.shown(Channel::Code).await;
    let signed_in = browser.visitor(&world).await.signed_in().unwrap();
    let claims = &world.journey.claims;
    let claimed = claims.claim(&code, Some(&signed_in), world.now()).await;
    assert_eq!(claimed.unwrap().view.channel, Channel::Code);
}

#[tokio::test]
async fn nothing_about_a_sign_in_that_opens_something_is_in_the_database() {
    let (world, wallet) = place().await;
    let browser = Browser::new();
    let request = begin(&world, &wallet, &browser, &[]).await;
    let before = browser.secret();
    let code = wallet.code(wallet.claims(&request, "ann", world.now().secs()));
    back(&world, &wallet, &browser, &request, &code).await;
    let redeemed = wallet.script().redeemed.remove(0);
    let mut bytes = std::fs::read(world.database()).unwrap();
    let log = world.database().with_extension("sqlite-wal");
    bytes.extend(std::fs::read(log).unwrap());
    let verifier = redeemed["code_verifier"].clone();
    for secret in [
        before,
        browser.secret(),
        request["state"].clone(),
        request["nonce"].clone(),
        verifier,
        code,
        SECRET.into(),
    ] {
        let raw = Base64UrlUnpadded::decode_vec(&secret);
        for shape in [Some(secret.as_bytes().to_vec()), raw.ok()]
            .into_iter()
            .flatten()
        {
            let found = bytes.windows(shape.len()).any(|it| it == shape);
            assert!(!found, "{secret}");
        }
    }
}
