//! Can a web page on the same PC reach the till's interface? It may even know the secret.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use harness::tools;
use serde_json::{Value, json};

use crate::shop::{PRICE, Shop, asked, charge_id};

/// Of other sites, of other ports of this machine, and of a name that leads to the agent.
const PAGES: usize = 6;

/// Everything a page can try, in Chromium; what it saw.
fn tries(setting: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/intruder.mjs");
    let mut node = Command::new("node");
    let output = node.arg(script).arg(setting.to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_on_the_same_pc_reaches_nothing_whatever_it_tries() {
    let shop = Shop::open().await;
    let body = asked(&charge_id(), PRICE);
    let setting = json!({
        "browser": tools::browser().unwrap(),
        "agent": shop.till.address,
        "kiosk": shop.world.terminal().kiosk().url().unwrap(),
        "secret": shop.till.secret,
        "body": body,
    });
    let seen = tokio::task::spawn_blocking(move || tries(&setting))
        .await
        .unwrap();
    let answers = seen["answers"].as_array().unwrap();
    for answer in answers {
        assert_eq!(answer["status"], 403, "{answer}");
    }
    // The browser let them ask: from every page, by its fetches, its frames and its images.
    let pages: BTreeSet<_> = answers.iter().map(|it| it["page"].to_string()).collect();
    assert_eq!(pages.len(), PAGES, "{seen}");
    for path in [
        "/v1/day",
        "/v1/charges",
        "/kiosk",
        "/kiosk/kiosk.svg",
        "/kiosk/kiosk.js",
    ] {
        let is_of = |it: &Value| it["url"].as_str().unwrap().ends_with(path);
        assert!(answers.iter().any(is_of), "nobody asked for {path}: {seen}");
    }
    assert_eq!(
        seen["read"],
        json!([]),
        "a page could read or run something: {seen}"
    );
    assert_eq!(
        shop.count("SELECT count(*) FROM charges WHERE kind = 'till'"),
        0
    );
    // Address, secret and body were good.
    shop.till
        .ask("POST", "/v1/charges", Some(&body))
        .await
        .charge();
    shop.till.judged();
}
