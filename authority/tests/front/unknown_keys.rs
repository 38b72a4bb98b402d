//! What if a terminal shows a checkpoint under a key that this database does not know?
//!
//! Store and journal of yesterday agree; the HSM was not restored with them.

use std::sync::Arc;

use authority::services::fence::look_at;
use authority::services::keyring::{SigningKey, sign};
use authority::services::readiness;
use hsm::{Hsm, HsmError, KeyKind, KeyLabel, Priority};
use protocol::audit::{CheckpointClaims, Head};
use protocol::jwk::Jwk;

use crate::stage::Stage;

const TERMINAL: &str = "47110422";
const MINUTE_MS: i64 = 60_000;

/// Makes a key in the HSM that no table names, and signs with it.
async fn signed(stage: &Stage, label: &str, claims: &CheckpointClaims) -> String {
    let hsm: Arc<dyn Hsm> = stage.hsm.clone();
    let label = KeyLabel(label.into());
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let point = hsm.public_key(&label).await.unwrap();
    let kid = Jwk::from_point(&point).unwrap().thumbprint();
    let key = SigningKey { kid, label };
    sign(&hsm, &key, claims, Priority::Renewal).await.unwrap()
}

/// The same, and the key is destroyed.
async fn signed_by_retired(stage: &Stage, label: &str, claims: &CheckpointClaims) -> String {
    let checkpoint = signed(stage, label, claims).await;
    let label = KeyLabel(label.into());
    stage.hsm.destroy_key(&label).await.unwrap();
    checkpoint
}

/// Of a chain that is longer than the one that is here.
fn later(stage: &Stage) -> CheckpointClaims {
    CheckpointClaims {
        iss: stage.app.issuer_uri(),
        iat: stage.app.clock.now().secs(),
        generation: stage.app.generation,
        heads: vec![Head {
            node: stage.app.config.node.as_str().into(),
            sequence: 9_999,
            hash: "0".repeat(64),
        }],
    }
}

async fn is_fenced_by(stage: &Stage, checkpoint: &str) -> bool {
    look_at(&stage.app, TERMINAL, checkpoint).await.unwrap();
    stage.app.fence.fenced().is_some()
}

/// Who is named by readiness.
async fn named(stage: &Stage) -> Option<String> {
    let warnings = readiness::check(&stage.app).await.warnings;
    let mut of_keys = warnings
        .into_iter()
        .filter(|it| it.contains("under a key that neither"));
    of_keys.next()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_under_a_key_that_only_the_hsm_still_has_fences() {
    let stage = Stage::set().await;
    let claims = later(&stage);
    let odd = signed(&stage, "m2key-schedule-9", &claims).await;
    assert!(!is_fenced_by(&stage, &odd).await, "no checkpoint key");
    stage.clock.by(MINUTE_MS);
    let ours = signed(&stage, "m2key-checkpoint-9", &claims).await;
    let (signed_part, _) = ours.rsplit_once('.').unwrap();
    let (_, of_another) = odd.rsplit_once('.').unwrap();
    let forged = format!("{signed_part}.{of_another}");
    assert!(!is_fenced_by(&stage, &forged).await);
    assert!(is_fenced_by(&stage, &ours).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_under_a_key_that_nobody_knows_is_told_and_fences_nothing() {
    let stage = Stage::set().await;
    let claims = later(&stage);
    let foreign = CheckpointClaims {
        iss: "spiffe://other.example/authority/authority-1".into(),
        ..claims.clone()
    };
    let earlier = CheckpointClaims {
        generation: claims.generation - 1,
        ..claims.clone()
    };
    for harmless in [&foreign, &earlier] {
        let shown = signed_by_retired(&stage, "m2key-checkpoint-8", harmless).await;
        assert!(!is_fenced_by(&stage, &shown).await);
    }
    assert_eq!(named(&stage).await, None);
    let shown = signed_by_retired(&stage, "m2key-checkpoint-9", &claims).await;
    for _ in 0..2 {
        assert!(!is_fenced_by(&stage, &shown).await);
    }
    let told = named(&stage).await.unwrap();
    assert!(
        told.contains(TERMINAL) && told.contains("fence raise --anyway"),
        "{told}"
    );
    assert_eq!(
        stage.app.metrics.unknown_checkpoints.get(),
        1,
        "once for each"
    );
    for terminal in 0..100 {
        let by = format!("{terminal:08}");
        look_at(&stage.app, &by, &shown).await.unwrap();
    }
    let named = stage.app.fence.unknown_shown_by().len();
    assert!(named < 100, "{named} are named");
    assert_eq!(stage.app.fence.fenced(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_shows_made_up_checkpoints_does_not_keep_the_hsm_busy() {
    let stage = Stage::set().await;
    let shown = signed_by_retired(&stage, "m2key-checkpoint-9", &later(&stage)).await;
    look_at(&stage.app, TERMINAL, &shown).await.unwrap();
    let gone = HsmError::DeviceLost {
        detail: "pulled".into(),
    };
    stage.hsm.fail_after(0, gone);
    for _ in 0..100 {
        look_at(&stage.app, TERMINAL, &shown).await.unwrap();
    }
    stage.clock.by(MINUTE_MS);
    let asked = look_at(&stage.app, TERMINAL, &shown).await;
    assert!(asked.is_err(), "{asked:?}");
}
