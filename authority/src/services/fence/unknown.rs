//! Who signed a checkpoint whose key this database does not know?
//!
//! ```text
//! key in the table ─────────────────────────────▶ verified, or not ours
//! key in the HSM, labelled as a checkpoint's ───▶ verified, or not ours; the table is older than it
//! key nowhere ──────────────────────────────────▶ nobody can tell: people are told, nothing is fenced
//! ```
//! Store and journal of one moment agree even if both are of yesterday; the HSM is not restored with
//! them. A key that is gone from there, too, proves nothing: a made-up checkpoint looks the same.

use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::audit::CheckpointClaims;
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws, Parts};
use protocol::time::{Millis, Timestamp};

use super::is_ahead;
use super::lost_keys::unnamed;
use crate::app::App;
use crate::journal::SHOWN_MAX;
use crate::services::Failure;
use crate::services::keyring::checkpoint_keys;

/// How often, at most, the HSM is asked which keys it holds.
const ASKED_EVERY_MS: Millis = 60_000;
/// Most heads of an unverified checkpoint that are looked up.
const HEADS_MAX: usize = 16;

/// What is known of keys that the table does not name.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    held: tokio::sync::Mutex<Option<(Timestamp, JwkSet)>>,
    shown_by: Mutex<Vec<String>>,
}

impl Unknown {
    pub(super) fn shown_by(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// Whether it is news, within the limit.
    fn note(&self, by: &str) -> bool {
        let mut shown = self.lock();
        let is_news = shown.len() < SHOWN_MAX && shown.iter().all(|it| it != by);
        if is_news {
            shown.push(by.into());
        }
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.shown_by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it says, if a checkpoint key of ours signed it that nobody has tainted.
pub(super) async fn verify(
    app: &App,
    shown_by: &str,
    compact: &str,
) -> Result<Option<CheckpointClaims>, Failure> {
    let keyring = app.keyring();
    if let Ok(verified) = jws::verify(compact, keyring.checkpoint_keys()) {
        return Ok(Some(verified.into_claims()));
    }
    let here = jws::verify_kept::<CheckpointClaims>(compact, keyring.jwks());
    if here != Err(BadJws::UnknownKey) {
        return Ok(None);
    }
    match jws::verify(compact, &held(app).await?) {
        Ok(verified) => Ok(Some(verified.into_claims())),
        Err(BadJws::UnknownKey) => tell(app, shown_by, compact).await.map(|()| None),
        Err(_) => Ok(None),
    }
}

/// Checkpoint keys that the HSM holds and the table does not name.
async fn held(app: &App) -> Result<JwkSet, Failure> {
    let now = app.clock.now();
    let mut held = app.fence.unknown.held.lock().await;
    if let Some((_, keys)) = held.as_ref().filter(|(at, _)| now - *at < ASKED_EVERY_MS) {
        return Ok(keys.clone());
    }
    let keys = checkpoint_keys(&unnamed(app).await?);
    *held = Some((now, keys.clone()));
    Ok(keys)
}

/// It fences nothing: any terminal could make one up.
async fn tell(app: &App, shown_by: &str, compact: &str) -> Result<(), Failure> {
    let claims = Parts::split(compact).ok();
    let claims = claims.and_then(|it| serde_json::from_slice::<CheckpointClaims>(&it.payload).ok());
    let ours = format!("spiffe://{}/authority/", app.config.trust.domain.as_str());
    let Some(mut claims) = claims.filter(|claims| claims.iss.starts_with(&ours)) else {
        return Ok(());
    };
    claims.heads.truncate(HEADS_MAX);
    if is_ahead(app, &claims).await? && app.fence.unknown.note(shown_by) {
        app.metrics.unknown_checkpoints.inc();
        tracing::warn!(
            shown_by,
            generation = claims.generation,
            "a checkpoint that is ahead of this database, under a key that nobody knows here"
        );
    }
    Ok(())
}
