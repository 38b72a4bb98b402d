//! Which keys of the lost time are really ours?
//!
//! The journal could be written by others, or be of yesterday, too: a key that verifies receipts is
//! believed only because the HSM holds it under a label of ours. What was retired in the lost time is
//! gone from there, and nobody can tell.

use hsm::HsmError;
use pki::lifecycle::KeyState;

use crate::app::App;
use crate::journal::{Known, MadeKey};
use crate::services::Failure;
use crate::store::{KeyPurpose, KeyRecord};

/// What they sign is kept for ever.
const KEPT: [KeyPurpose; 2] = [KeyPurpose::Receipt, KeyPurpose::Checkpoint];

/// Keys that this database does not name.
#[derive(Debug)]
pub(in crate::services) struct LostKeys {
    /// The HSM holds them.
    pub found: Vec<KeyRecord>,
    /// The journal names them, and the HSM does not hold them.
    pub gone: Vec<MadeKey>,
}

pub(in crate::services) async fn lost_keys(app: &App, known: &Known) -> Result<LostKeys, Failure> {
    let mut found = unnamed(app).await?;
    // A tainted one is carried out of the journal by its taint.
    found.retain(|key| !known.tainted.contains_key(&key.kid));
    for key in &mut found {
        let made = known.made.get(&key.kid);
        key.made_at = made.map_or(key.made_at, |made| made.key.made_at);
    }
    let keyring = app.keyring();
    let is_accounted = |kid: &String| {
        let mut all = keyring.records().iter().chain(&found);
        known.tainted.contains_key(kid) || all.any(|key| key.kid == *kid)
    };
    let gone = known.made.iter().filter(|(kid, _)| !is_accounted(kid));
    let gone = gone.map(|(_, made)| made.key.clone()).collect();
    Ok(LostKeys { found, gone })
}

/// Keys of receipts and checkpoints that the HSM holds under labels which the table does not name.
pub(super) async fn unnamed(app: &App) -> Result<Vec<KeyRecord>, Failure> {
    let (keyring, now) = (app.keyring(), app.clock.now());
    let mut found: Vec<KeyRecord> = Vec::new();
    for report in app.hsm.inventory().await? {
        let label = report.label;
        let purpose = KEPT.into_iter().find(|it| it.number_of(&label).is_some());
        let mut named = keyring.records().iter().chain(&found);
        let Some(purpose) = purpose.filter(|_| named.all(|key| key.label != label)) else {
            continue;
        };
        let point = match app.hsm.public_key(&label).await {
            Ok(point) => point,
            Err(HsmError::KeyUnknown { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let state = KeyState::Superseded;
        found.push(KeyRecord::new(purpose, state, label, Some(point), now));
    }
    Ok(found)
}
