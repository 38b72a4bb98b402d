//! Does kept evidence prove what was paid, and is it seen when somebody has changed it?

use authority::services::operators::{DisputeShow, DisputeView, carry_out};
use authority::store::{Moment, Proof};
use protocol::token::Channel;
use uuid::Uuid;

use crate::phones::{ANN, Texting, number_in};
use crate::step_up::{Passkey, paid_with};
use crate::wallet::{App, paid};
use crate::world::{World, eur};

async fn shown(world: &World, id: Uuid) -> DisputeView {
    carry_out(&world.app, "olga", DisputeShow { id })
        .await
        .unwrap()
}

fn moment<'a>(view: &'a DisputeView, what: &str) -> &'a Moment {
    let found = view.moments.iter().find(|it| it.what == what);
    found.unwrap_or_else(|| panic!("{what}: {view:?}"))
}

fn proof<'a>(view: &'a DisputeView, what: &str) -> &'a Proof {
    moment(view, what).proof.as_ref().unwrap()
}

/// As somebody does who has the file: no key and no trigger stops them.
fn edit(world: &World, sql: &str) {
    let conn = rusqlite::Connection::open(world.database()).unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    conn.execute(sql, []).unwrap();
}

/// Each edit is found for this reason, and undone.
async fn edits_are_found(world: &World, id: Uuid, table: &str, what: &str, edits: &[(&str, &str)]) {
    edit(
        world,
        &format!("CREATE TABLE untouched AS SELECT * FROM {table}"),
    );
    for (change, says) in edits {
        edit(world, change);
        let view = shown(world, id).await;
        assert!(!view.holds, "{change}");
        let proof = proof(&view, what);
        assert!(!proof.holds, "{change}: {proof:?}");
        let faults = proof.faults.join("; ");
        assert!(faults.contains(says), "{change}: {faults}");
        edit(world, &format!("DELETE FROM {table}"));
        edit(
            world,
            &format!("INSERT INTO {table} SELECT * FROM untouched"),
        );
        let view = shown(world, id).await;
        assert!(view.holds, "{change} is undone: {view:?}");
    }
    edit(world, "DROP TABLE untouched");
}

/// The last letter of a text that ends in base64url, and of a signature not its spare bits.
const SPOILT: &str =
    "substr(jws, 1, length(jws) - 9) || iif(substr(jws, -9, 1) = 'A', 'B', 'A') || substr(jws, -8)";

#[tokio::test]
async fn what_a_wallets_key_signed_is_verified_again() {
    const WHAT: &str = "approval signed by a wallet";
    let world = World::new().await;
    let ann = App::of(&world, "ann");
    world.charge(420).await;
    let first = paid(&ann.pays(Channel::Qr, 420).await);
    world.charge(420).await;
    paid(&ann.pays(Channel::Nfc, 420).await);
    let id = first.payment.0;
    let view = shown(&world, id).await;
    assert!(view.holds, "{view:?}");
    let signed = moment(&view, WHAT);
    let key = ann.wallet.lock().await.key().thumbprint().to_string();
    let account = ann.account().await.to_string();
    let payee = world.merchant.to_string();
    for (name, value) in [
        ("key", key.as_str()),
        ("amount", "4.20 EUR"),
        ("payee", &payee),
        ("account", &account),
    ] {
        assert_eq!(signed.facts[name], value, "{signed:?}");
    }
    assert!(proof(&view, WHAT).proves.contains("agreed to this amount"));

    let spoilt = format!("UPDATE signed_approvals SET jws = {SPOILT}");
    let edits = [
        (spoilt.as_str(), "the signature does not fit"),
        (
            "UPDATE signed_approvals SET public_point = (SELECT public_point FROM keys
             WHERE public_point IS NOT NULL LIMIT 1)",
            "another thumbprint",
        ),
        // Two approvals that are good, each with the other's claim.
        (
            "UPDATE signed_approvals SET jws = (SELECT u.jws FROM untouched u
             WHERE u.claim <> signed_approvals.claim)",
            "the audit chain recorded another",
        ),
        (
            "UPDATE signed_approvals SET kept_at_ms = kept_at_ms + 3600000",
            "not then",
        ),
        ("DELETE FROM signed_approvals", "not there any more"),
    ];
    edits_are_found(&world, id, "signed_approvals", WHAT, &edits).await;
    let edits = [(
        "UPDATE payments SET amount_minor = 421",
        "it covers amount 4.20 EUR, and the books say 4.21 EUR",
    )];
    edits_are_found(&world, id, "payments", WHAT, &edits).await;
    let edits = [(
        "UPDATE audit_rows SET body = replace(body, '\"key\"', '\"kex\"') WHERE kind = 'approval.signed'",
        "of the audit chain was changed",
    )];
    edits_are_found(&world, id, "audit_rows", WHAT, &edits).await;
}

#[tokio::test]
async fn what_a_passkey_signed_is_verified_again() {
    const WHAT: &str = "confirmed by a passkey";
    let world = World::spending("").await;
    let passkey = Passkey::new(3, "pay.example");
    let phone = paid_with(&world, &passkey, "ann", 3_001).await;
    let id = phone.claim.parse().unwrap();
    let view = shown(&world, id).await;
    assert!(view.holds, "{view:?}");
    let confirmed = &moment(&view, WHAT).facts;
    assert_eq!(confirmed["amount"], "30.01 EUR");
    assert_eq!(confirmed["payee"], world.merchant.to_string());
    assert_eq!(confirmed["user_verified"], "yes");
    for name in ["passkey", "challenge", "account", "nonce"] {
        assert!(confirmed.contains_key(name), "{name}: {confirmed:?}");
    }
    let edits = [
        (
            "UPDATE confirmations SET signature = (SELECT authenticator_data FROM confirmations)",
            "the signature is not of this passkey",
        ),
        (
            "UPDATE confirmations SET nonce = zeroblob(32)",
            "it answers another challenge",
        ),
        (
            "UPDATE confirmations SET client_data = CAST(replace(CAST(client_data AS TEXT),
             'false', 'true') AS BLOB)",
            "another page",
        ),
        ("DELETE FROM confirmations", "not there any more"),
    ];
    edits_are_found(&world, id, "confirmations", WHAT, &edits).await;
    let edits = [(
        "UPDATE payments SET amount_minor = 3002",
        "it answers another challenge",
    )];
    edits_are_found(&world, id, "payments", WHAT, &edits).await;
    let edits = [(
        "UPDATE passkeys SET public_point = (SELECT public_point FROM keys
         WHERE public_point IS NOT NULL LIMIT 1)",
        "the signature is not of this passkey",
    )];
    edits_are_found(&world, id, "passkeys", WHAT, &edits).await;
}

#[tokio::test]
async fn what_a_phone_replied_is_compared_with_what_was_paid() {
    const WHAT: &str = "approved by a reply";
    let texting = Texting::new().await;
    let world = &texting.world;
    let charge = world.charge(420).await.charge;
    let code = world.shown(Channel::Code).await;
    let offer = texting.told(ANN, &code).await;
    texting.told(ANN, &number_in(&offer)).await;
    let view = shown(world, charge.0).await;
    assert!(view.holds, "{view:?}");
    let replied = moment(&view, WHAT);
    assert_eq!(replied.facts["amount"], eur(420).to_string());
    assert!(proof(&view, WHAT).proves.contains("nobody signed it"));
    assert!(
        !format!("{view:?}").contains(ANN),
        "whose phone is not told"
    );
    let edits = [
        (
            "UPDATE sms_talks SET amount_minor = 4200",
            "it covers amount 42.00 EUR, and the books say 4.20 EUR",
        ),
        ("DELETE FROM sms_talks", "not there any more"),
    ];
    edits_are_found(world, charge.0, "sms_talks", WHAT, &edits).await;
}

#[tokio::test]
async fn a_receipt_is_verified_again_and_a_sign_in_alone_is_called_so() {
    let world = World::new().await;
    let phone = world.held(420).await;
    assert_eq!(world.approve(&phone, "ann", 420).await.status, 200);
    let id = phone.claim.parse().unwrap();
    let view = shown(&world, id).await;
    assert!(view.holds, "{view:?}");
    let proves = &proof(&view, "approved under a sign-in alone").proves;
    assert!(proves.contains("nothing that they signed"), "{proves}");
    let spoilt = format!("UPDATE receipts SET jws = {SPOILT}");
    let edits = [(spoilt.as_str(), "the signature does not fit")];
    edits_are_found(&world, id, "receipts", "receipt signed", &edits).await;
}
