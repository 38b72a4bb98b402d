//! Does a shopper pay in a real browser, with a script and without, and is every page fit to be seen?
//!
//! The real daemon, a real agent with a screen, `oidc-provider` from npm, and Chromium driven by
//! `tests/web/pages.mjs`, which asks for links while it goes along.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "pages/stage.rs"]
mod stage;

use serde_json::json;
use stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_shopper_scans_signs_in_approves_and_keeps_the_receipt() {
    let stage = Stage::set().await.unwrap();
    let seen = stage.play("pays", json!({})).await;
    assert_eq!(seen["paid"], "4.20\u{a0}EUR");
    let books = stage.world.authority.verb(&["account", "check"]).unwrap();
    assert_eq!(books["balanced"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_a_script() {
    let stage = Stage::set().await.unwrap();
    stage.play("pays_without_a_script", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pressing_twice_going_back_and_reloading_pay_once() {
    let stage = Stage::set().await.unwrap();
    stage.play("presses_twice", json!({})).await;
    let spent: i64 = stage.look("SELECT count(*) FROM payments");
    assert_eq!(spent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_in_both_languages_and_schemes_and_fits_every_width() {
    let stage = Stage::set().await.unwrap();
    // For whoever wants to look: a folder for pictures of every state.
    let shots = std::env::var("M2KEY_SCREENSHOTS").ok();
    stage.play("gallery", json!({ "shots": shots })).await;
}
