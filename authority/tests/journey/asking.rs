//! Does the audit chain say of every change which operator asked for it?

use authority::services::operators::{
    AccountCredit, AccountOpen, MerchantAdd, MerchantLimit, MerchantPin, MerchantSet, TerminalAdd,
    TerminalBan, TerminalJoin, Verb, WebhookRemove, WebhookRetry, WebhookSet, carry_out,
};
use serde_json::{Value, json};

use crate::world::World;

async fn asks<V: Verb>(world: &World, verb: Value) -> Value {
    let verb: V = serde_json::from_value(verb).unwrap();
    let answer = carry_out(&world.app, "olga", verb).await;
    serde_json::to_value(answer.unwrap_or_else(|error| panic!("{}: {error}", V::NAME))).unwrap()
}

/// Kinds and bodies of the audit rows after the first `skip`.
fn rows(world: &World, skip: i64) -> Vec<(String, Value)> {
    let conn = rusqlite::Connection::open(world.database()).unwrap();
    let sql = "SELECT kind, body FROM audit_rows WHERE sequence > ?1 ORDER BY sequence";
    let mut statement = conn.prepare(sql).unwrap();
    let found = statement.query_map([skip], |row| {
        let body: String = row.get(1)?;
        Ok((row.get(0)?, serde_json::from_str(&body).unwrap()))
    });
    found.unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn whatever_a_verb_changes_says_who_asked_for_it() {
    let world = World::new().await;
    let before = world.rows("SELECT max(sequence) FROM audit_rows");
    let merchant = asks::<MerchantAdd>(&world, json!({ "name": "Florist", "currency": "EUR" }));
    let merchant = &merchant.await["merchant"];
    let of = |more: Value| {
        let mut verb = json!({ "merchant": merchant });
        verb.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        verb
    };
    asks::<MerchantSet>(&world, of(json!({ "zone": "Europe/Paris" }))).await;
    asks::<MerchantPin>(&world, of(json!({ "pin": "480317" }))).await;
    asks::<MerchantLimit>(&world, of(json!({ "day_minor": 5_000 }))).await;
    asks::<WebhookSet>(&world, of(json!({ "url": "https://shop.example/" }))).await;
    asks::<WebhookRetry>(&world, of(json!({}))).await;
    asks::<WebhookRemove>(&world, of(json!({}))).await;
    let terminal = asks::<TerminalAdd>(&world, of(json!({}))).await;
    let terminal = &terminal["terminal"];
    asks::<TerminalJoin>(&world, json!({ "terminal": terminal })).await;
    asks::<TerminalBan>(&world, json!({ "terminal": terminal, "reason": "stolen" })).await;
    let open = json!({ "issuer": "i", "subject": "s", "currency": "EUR" });
    let account = asks::<AccountOpen>(&world, open).await;
    let amount = json!({ "amount_minor": 500, "currency": "EUR" });
    let credit = json!({ "account": account["account"], "amount": amount, "reference": "r" });
    asks::<AccountCredit>(&world, credit).await;

    let rows = rows(&world, before);
    for kind in [
        "merchant.added",
        "merchant.terms",
        "merchant.pin-set",
        "merchant.limited",
        "webhook.set",
        "webhook.retried",
        "terminal.added",
        "seed.sealed",
        "join_token.added",
        "terminal.banned",
        "account.opened",
        "account.credited",
    ] {
        assert!(
            rows.iter().any(|(found, _)| found == kind),
            "{kind}: {rows:?}"
        );
    }
    for (kind, body) in &rows {
        let who = match kind.as_str() {
            "operator.asked" => &body["operator"],
            _ => &body["by"],
        };
        assert_eq!(who, "olga", "{kind}: {body}");
    }
    // What nobody asked for says nobody.
    let before = world.rows("SELECT max(sequence) FROM audit_rows");
    let phone = world.held(420).await;
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
    for (kind, body) in self::rows(&world, before) {
        assert!(body.get("by").is_none(), "{kind}: {body}");
    }
}
