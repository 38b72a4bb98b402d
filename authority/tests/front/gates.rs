//! Which verbs need the consent of others?

use authority::services::operators::{Gate, named, names};
use serde_json::{Value, json};

use crate::room::policy;

/// Whether others must consent to this verb, with this body.
#[test]
fn every_verb_has_the_gate_that_was_decided_for_it() {
    let (one, consented) = (Gate::One, Gate::Consented);
    let id = "00000000-0000-7000-8000-000000000000";
    let terminal = "00000000";
    let money = json!({ "amount_minor": 1, "currency": "EUR" });
    let seeds = |fleet: Value| json!({ "fleet": fleet, "when": "planned" });
    let step = |key: &str| json!({ "step": "prepare", "key": key });
    let install =
        |dry_run: bool| json!({ "sequence": 1, "sha256": "00", "roots": [], "dry_run": dry_run });
    let decided = [
        ("terminal-add", json!({ "merchant": id }), one),
        ("terminal-join", json!({ "terminal": terminal }), one),
        ("terminal-list", json!({}), one),
        ("terminal-show", json!({ "terminal": terminal }), one),
        (
            "terminal-ban",
            json!({ "terminal": terminal, "reason": "r" }),
            one,
        ),
        (
            "terminal-unban",
            json!({ "terminal": terminal, "reason": "r" }),
            consented,
        ),
        (
            "tag-keys",
            json!({ "terminal": terminal, "uid": "04010203040506" }),
            one,
        ),
        ("tag-list", json!({}), one),
        ("tag-show", json!({ "uid": "04010203040506" }), one),
        ("tag-retire", json!({ "uid": "04010203040506" }), one),
        ("tag-forecast", json!({ "within_days": 90 }), one),
        ("join-token-list", json!({}), one),
        ("join-token-revoke", json!({ "id": "00" }), one),
        (
            "merchant-add",
            json!({ "name": "n", "currency": "EUR" }),
            one,
        ),
        ("merchant-list", json!({}), one),
        ("merchant-set", json!({ "merchant": id }), one),
        ("merchant-show", json!({ "merchant": id }), one),
        (
            "merchant-pin",
            json!({ "merchant": id, "pin": "000000" }),
            one,
        ),
        ("merchant-history", json!({ "merchant": id }), one),
        (
            "refund-give",
            json!({ "charge": id, "amount": money, "refund": id }),
            one,
        ),
        ("settlement-close", json!({ "merchant": id }), one),
        ("settlement-list", json!({ "merchant": id }), one),
        (
            "webhook-set",
            json!({ "merchant": id, "url": "https://shop.example/" }),
            one,
        ),
        ("webhook-list", json!({}), one),
        ("webhook-remove", json!({ "merchant": id }), one),
        ("webhook-retry", json!({ "merchant": id }), one),
        ("dispute-show", json!({ "id": id }), one),
        ("intent-list", json!({}), one),
        ("intent-show", json!({ "payment": id }), one),
        (
            "settlement-export",
            json!({ "merchant": id, "number": 1, "form": "csv" }),
            one,
        ),
        (
            "account-open",
            json!({ "issuer": "i", "subject": "s", "currency": "EUR" }),
            one,
        ),
        (
            "account-credit",
            json!({ "account": id, "amount": money, "reference": "r" }),
            one,
        ),
        ("ledger-check", json!({}), one),
        (
            "shopper-lock",
            json!({ "issuer": "i", "subject": "s", "reason": "r" }),
            one,
        ),
        (
            "shopper-unlock",
            json!({ "issuer": "i", "subject": "s", "reason": "r" }),
            one,
        ),
        (
            "shopper-show",
            json!({ "issuer": "i", "subject": "s" }),
            one,
        ),
        (
            "merchant-limit",
            json!({ "merchant": id, "day_minor": 5 }),
            consented,
        ),
        ("audit-verify", json!({}), one),
        ("alarm-list", json!({}), one),
        (
            "alarm-close",
            json!({ "terminal": terminal, "kind": "counter-back", "day": "2026-11-26", "note": "n" }),
            one,
        ),
        (
            "certificate-issue",
            json!({ "request": "r", "operator": "n" }),
            one,
        ),
        ("certificate-list", json!({}), one),
        ("certificate-show", json!({ "serial": "00" }), one),
        (
            "certificate-revoke",
            json!({ "serial": "00", "reason": "r" }),
            one,
        ),
        ("node-renew", json!({ "listener": "agents" }), one),
        ("node-list", json!({}), one),
        ("node-forget", json!({ "name": "n" }), one),
        ("key-list", json!({}), one),
        ("key-step", step("receipt"), one),
        ("key-step", step("sealing"), consented),
        ("key-step", step("m2key-binding-1"), consented),
        ("seed-rotate", seeds(json!({ "terminal": terminal })), one),
        ("seed-rotate", seeds(json!({ "merchant": id })), consented),
        ("seed-rotate", seeds(json!("all")), consented),
        ("operation-list", json!({}), one),
        ("operation-show", json!({ "operation": id }), one),
        ("operation-transcript", json!({ "operation": id }), one),
        (
            "operator-add",
            json!({ "name": "n", "request": "r" }),
            consented,
        ),
        (
            "operator-add",
            json!({ "name": "n", "request": "r", "vouch": "v" }),
            one,
        ),
        ("operator-list", json!({}), one),
        (
            "operator-revoke",
            json!({ "name": "n", "reason": "r" }),
            consented,
        ),
        ("policy-show", json!({}), one),
        ("policy-set", json!({ "policy": policy(0) }), consented),
        (
            "consent-draft",
            json!({ "verb": "v", "body": {}, "by": "n" }),
            one,
        ),
        ("consent-ask", json!({ "statement": "s" }), one),
        ("consent-list", json!({}), one),
        ("consent-show", json!({ "id": id }), one),
        ("consent-sign", json!({ "statement": "s" }), one),
        ("consent-refuse", json!({ "statement": "s" }), one),
        ("consent-carry-out", json!({ "id": id }), one),
        (
            "issuing-step",
            json!({ "step": "activate", "key_id": "00" }),
            consented,
        ),
        (
            "issuing-step",
            json!({ "step": "prepare", "label": "m2key-issuing-2" }),
            consented,
        ),
        (
            "root-step",
            json!({ "step": "sign", "root": "00", "key_id": "00", "crl_base": null, "again": false }),
            consented,
        ),
        ("fence-status", json!({}), one),
        ("fence-compare", json!({ "receipt": "r" }), one),
        ("fence-raise", json!({ "reason": "restored" }), consented),
        ("trust-show", json!({}), one),
        ("trust-stage", json!({ "bundle": "b" }), one),
        ("trust-install", install(false), consented),
        ("trust-install", install(true), one),
    ];
    for (name, body, gate) in &decided {
        let verb = named(name).unwrap_or_else(|| panic!("no verb {name}"));
        let (found, _) = verb
            .read(body.clone())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found, *gate, "{name} {body}");
    }
    for name in names() {
        let is_decided = decided.iter().any(|(decided, ..)| *decided == name);
        assert!(is_decided, "{name}: decide whether others must consent");
    }
}
