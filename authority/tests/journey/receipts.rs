//! Is there one receipt per payment, for ever, whatever happens in between?

use authority::store::{AuditLog, Payments};
use protocol::jwk::JwkSet;
use protocol::jws;
use protocol::receipt::ReceiptClaims;
use protocol::wire::claims::ApprovalResponse;
use protocol::wire::push::ChargeStage;

use crate::world::{Answer, MINUTE, World};

fn receipt(answer: &Answer) -> String {
    let response: ApprovalResponse = serde_json::from_slice(&answer.body).unwrap();
    response.receipt
}

#[tokio::test]
async fn a_receipt_verifies_with_the_published_keys_alone_and_says_what_was_shown() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let paid = world.approve(&phone, "ann", 420).await;
    let keys = world.get("/.well-known/jwks.json").await;
    let keys: JwkSet = serde_json::from_slice(&keys.body).unwrap();
    let verified = jws::verify::<ReceiptClaims>(&receipt(&paid), &keys).unwrap();
    let claims = verified.claims();
    assert_eq!(claims.claim.to_string(), phone.claim);
    assert_eq!(claims.amount.amount_minor(), 420);
    assert_eq!(claims.payee.name, "Corner Café");
    assert_eq!(claims.terminal, world.terminal);
    assert_eq!(
        u64::from(claims.mark.value()),
        phone.view["mark"].as_u64().unwrap()
    );
    assert_eq!(claims.iss, "spiffe://pay.example/authority/one");
    assert!(!receipt(&paid).contains("ann") && claims.sub != "ann");
}

#[tokio::test]
async fn the_same_approval_answers_the_same_bytes_after_the_window_and_after_a_restart() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let first = world.approve(&phone, "ann", 420).await;
    world.advance(90 * MINUTE);
    let late = world.approve(&phone, "ann", 420).await;
    assert_eq!((late.status, &late.body), (200, &first.body));
    let world = world.restart().await;
    let restarted = world.approve(&phone, "ann", 420).await;
    assert_eq!((restarted.status, &restarted.body), (200, &first.body));
    world
        .approve(&phone, "ann", 421)
        .await
        .refused(409, "amount-differs");
    assert_eq!(world.balance("ann").await, 4_580);
}

#[tokio::test]
async fn money_that_moved_while_the_hsm_was_down_gets_its_receipt() {
    let world = World::new().await;
    let phone = world.held(420).await;
    let charge = phone_charge(&world, &phone).await;
    world.hsm_fails_once();
    let busy = world.approve(&phone, "ann", 420).await;
    busy.refused(503, "busy");
    assert!(busy.retry_after.is_some());
    assert_eq!(world.balance("ann").await, 4_580);
    let state = world
        .journey
        .charges
        .look(world.terminal, charge)
        .await
        .unwrap();
    assert!(
        matches!(state.stage, ChargeStage::Held { .. }),
        "not paid without a receipt"
    );

    let world = world.restart().await;
    assert_eq!(world.journey.resume(world.now()).await.unwrap(), 1);
    assert!(world.store.receipts_due(9).await.unwrap().is_empty());
    let state = world
        .journey
        .charges
        .look(world.terminal, charge)
        .await
        .unwrap();
    let ChargeStage::Paid { receipt: shown, .. } = state.stage else {
        panic!("{state:?}");
    };
    let answer = world.approve(&phone, "ann", 420).await;
    assert_eq!((answer.status, receipt(&answer)), (200, shown));
    assert_eq!(world.balance("ann").await, 4_580);
}

#[tokio::test]
async fn a_retry_signs_what_is_due_without_paying_again() {
    let world = World::new().await;
    let phone = world.held(420).await;
    world.hsm_fails_once();
    world.approve(&phone, "ann", 420).await.refused(503, "busy");
    let answer = world.approve(&phone, "ann", 420).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(world.journey.resume(world.now()).await.unwrap(), 0);
    assert_eq!(world.balance("ann").await, 4_580);
}

#[tokio::test]
async fn a_checkpoint_is_signed_when_a_chain_has_moved_and_only_then() {
    let world = World::new().await;
    world.charge(420).await;
    assert_eq!(world.journey.checkpoint(world.now()).await.unwrap(), 1);
    assert_eq!(world.journey.checkpoint(world.now()).await.unwrap(), 0);
    world
        .claimed(&world.shown(protocol::token::Channel::Qr).await, None)
        .await;
    assert_eq!(world.journey.checkpoint(world.now()).await.unwrap(), 1);
    let stored = world.store.checkpoints(0, 9).await.unwrap();
    let ring = world.app.keyring();
    let keys = ring.jwks();
    let last = jws::verify::<protocol::audit::CheckpointClaims>(&stored[1].jws, keys).unwrap();
    assert_eq!(
        last.claims().heads,
        world.store.audit_heads().await.unwrap()
    );
}

async fn phone_charge(world: &World, phone: &crate::world::Phone) -> protocol::ids::ChargeId {
    use authority::store::Tokens;
    let claim = phone.claim.parse().unwrap();
    let record = world.store.claim_record(claim).await.unwrap().unwrap();
    record.claimed.charge
}
