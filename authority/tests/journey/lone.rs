//! Does a lone node notice that its HSM token does not open the seeds of its database?

use authority::services::same_keys;
use authority::store::KeyRecord;
use hsm::{Hsm, HsmError, KeyKind};
use pki::lifecycle::KeyState;
use protocol::ids::TerminalId;

use crate::world::World;

/// Above all others of these tests.
const LAST: u32 = 9_000_000;

async fn refused(world: &World) -> String {
    same_keys::prove(&world.app).await.unwrap_err().to_string()
}

#[tokio::test]
async fn another_sealing_or_binding_key_under_its_label_is_refused_by_name_where_seeds_are_kept() {
    for kind in [KeyKind::Sealing, KeyKind::Binding] {
        let world = World::new().await;
        world
            .add_terminal(TerminalId::from_number(LAST).unwrap())
            .await;
        same_keys::prove(&world.app).await.unwrap();
        let keys = world.app.keyring().sealing().clone();
        let label = match kind {
            KeyKind::Sealing => keys.sealing,
            _ => keys.binding,
        };
        world.hsm.destroy_key(&label).await.unwrap();
        // One that is lost has a page of its own.
        same_keys::prove(&world.app).await.unwrap();
        world.hsm.generate_key(kind, &label).await.unwrap();
        let said = refused(&world).await;
        assert!(said.contains(&label.0), "{said}");
        assert!(
            said.contains("another key") && said.contains("swapped"),
            "{said}"
        );
        world.edit("DELETE FROM seeds");
        same_keys::prove(&world.app).await.unwrap();
    }
}

#[tokio::test]
async fn one_seed_that_was_changed_does_not_make_the_key_another_one() {
    let world = World::new().await;
    let last = TerminalId::from_number(LAST).unwrap();
    world.add_terminal(last).await;
    world.edit(&format!(
        "UPDATE seeds SET binding = zeroblob(32) WHERE terminal = {}",
        last.value()
    ));
    same_keys::prove(&world.app).await.unwrap();
    world.edit("UPDATE seeds SET blob = zeroblob(40)");
    assert!(refused(&world).await.contains("another key"));
}

/// As a module that is out of order says it of what was sealed a moment before, too.
#[tokio::test]
async fn a_device_that_opens_nothing_at_all_is_not_another_one() {
    let world = World::new().await;
    world
        .add_terminal(TerminalId::from_number(LAST).unwrap())
        .await;
    let ring = world.app.keyring();
    let compared = |it: &&KeyRecord| it.state == KeyState::Active && it.public_point.is_some();
    let compared = ring.records().iter().filter(compared).count();
    let fails = |after| {
        let detail = "it opens nothing".into();
        world.hsm.fail_after(after, HsmError::NotOurKey { detail });
    };
    fails(compared);
    same_keys::prove(&world.app).await.unwrap();
    // So every public key was compared, and then no seed opened.
    fails(compared - 1);
    assert!(refused(&world).await.contains("another key"));
    world.hsm.heal();
    let keys = ring.sealing();
    world.hsm.destroy_key(&keys.binding).await.unwrap();
    let binding = world.hsm.generate_key(KeyKind::Binding, &keys.binding);
    binding.await.unwrap();
    let said = refused(&world).await;
    assert!(said.contains("another key"), "it opens others: {said}");
}

#[tokio::test]
async fn a_single_seed_that_does_not_open_is_no_reason_not_to_serve() {
    let world = World::new().await;
    world.edit("UPDATE seeds SET binding = zeroblob(32)");
    same_keys::prove(&world.app).await.unwrap();
}
