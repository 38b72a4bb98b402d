//! Does a real browser with our own script make a passkey and confirm a payment with it?
//!
//! Chromium with its virtual authenticator, driven by `tests/web/passkey.mjs`.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::World;

const CHROMIUM: &str = "/usr/bin/chromium";

fn web() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/web")
}

/// What the browser hands over: the assertion of its passkey.
fn confirms(given: &Value) -> Value {
    let modules = web().join("node_modules/playwright-core");
    assert!(
        modules.exists() && PathBuf::from(CHROMIUM).exists(),
        "no browser: run scripts/setup.sh test, and npm ci in tests/web"
    );
    let mut node = Command::new("node")
        .arg(web().join("passkey.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = node.stdin.take().unwrap();
    input.write_all(given.to_string().as_bytes()).unwrap();
    drop(input);
    let done = node.wait_with_output().unwrap();
    assert!(done.status.success(), "the browser failed: see above");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_makes_a_passkey_and_confirms_a_payment_with_it() {
    let world = World::of_scripts().await;
    let phone = world.held(4_200).await;
    let refused = world.approve(&phone, "ann", 4_200).await;
    refused.refused(403, "step-up-needed");
    let mut claims = world.claims_of("ann", &world.key);
    claims.as_object_mut().unwrap().remove("cnf");
    let given = json!({
        "api": format!("http://{}", world.phones),
        "token": world.provider.token(&claims),
        "cookie": phone.cookie,
        "claim": phone.claim,
        "amount_minor": 4_200,
        "payee": world.merchant,
        "chromium": CHROMIUM,
    });
    let assertion = tokio::task::spawn_blocking(move || confirms(&given))
        .await
        .unwrap();
    let mut body = world.approval(4_200);
    body["assertion"] = assertion;
    let token = world.sign_in("ann");
    let cookie = Some(phone.cookie.as_str());
    let paid = world
        .approve_with(&phone, cookie, Some(&token), &body)
        .await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!(world.balance("ann").await, 800);
}
