//! Can it be shown later that the audit chains stood so?

use std::sync::{Arc, Mutex, PoisonError};

use hsm::Priority;
use protocol::audit::{CheckpointClaims, Head};
use protocol::time::Timestamp;

use super::{Failure, keyring};
use crate::app::App;
use crate::store::StoredCheckpoint;

/// Signs the heads of all chains when they have moved.
pub struct Checkpoints {
    app: Arc<App>,
    signed: Mutex<Vec<Head>>,
}

impl Checkpoints {
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            signed: Mutex::default(),
        }
    }

    /// Signs and stores a checkpoint if a head has moved since the last; answers whether it did.
    pub async fn take(&self, now: Timestamp) -> Result<bool, Failure> {
        let heads = self.app.store.audit_heads().await?;
        if heads.is_empty() || self.is_signed(&heads) {
            return Ok(false);
        }
        let taken = self.sign(heads, now).await;
        let outcome = super::outcome(&taken, "stored");
        let counter = &self.app.metrics.checkpoints;
        counter.with_label_values(&[outcome]).inc();
        taken.map(|()| true)
    }

    async fn sign(&self, heads: Vec<Head>, now: Timestamp) -> Result<(), Failure> {
        let claims = CheckpointClaims {
            iss: self.app.issuer_uri(),
            iat: now.secs(),
            generation: self.app.generation,
            heads,
        };
        let keys = self.app.keyring();
        let jws =
            keyring::sign(&self.app.hsm, keys.checkpoint(), &claims, Priority::Renewal).await?;
        let checkpoint = StoredCheckpoint {
            at: now,
            jws: jws.clone(),
        };
        let heads = claims.heads.clone();
        self.app.store.add_checkpoint(checkpoint, heads).await?;
        self.app.fence.checkpoint_taken(jws, now);
        *self.signed.lock().unwrap_or_else(PoisonError::into_inner) = claims.heads;
        Ok(())
    }

    fn is_signed(&self, heads: &[Head]) -> bool {
        *self.signed.lock().unwrap_or_else(PoisonError::into_inner) == heads
    }
}
