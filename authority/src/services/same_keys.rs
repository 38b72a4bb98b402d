//! Does the HSM token of this node hold the keys that the database and other nodes use?
//!
//! Public keys are compared with the table. The keys that seal and bind have no public half, so they are to open
//! what was sealed under them:
//!
//! ```text
//! several nodes   a seed of nobody in the database, sealed by whichever node was first
//! a lone node     some seeds of its terminals, each under the keys that it was sealed with
//! ```
//! Whoever can use it holds both. A node that cannot would answer terminals with what no other node accepts, or
//! could answer none of them, so it does not start.

use hsm::{HsmError, Priority, SealedSeed, SealingKeys};
use pki::lifecycle::KeyState;

use crate::app::App;
use crate::store::{Contact, KeyProof, KeyRecord, StoreError};

/// The header of the seed of nobody, and what is asked of any seed: no terminal's seed has it for a header, and no
/// hour's key is made from it.
const CONTEXT: &[u8] = b"m2key key proof";

/// So many seeds of terminals are tried: one row that was damaged is not another key.
pub const SEEDS_TRIED_MAX: u32 = 8;

/// Why this node must not serve beside the others.
#[derive(Debug, thiserror::Error)]
pub enum OtherKeys {
    #[error(
        "the HSM token of this node holds another key {label:?} than the other nodes: all of them need the \
         same keys"
    )]
    Differs { label: String },
    #[error(
        "the HSM token of this node lacks the key {label:?} of the other nodes: all of them need the same keys"
    )]
    Lacks { label: String },
    #[error(
        "the HSM token holds another key {label:?} than the one that this database was made with: it was swapped or \
         initialised anew"
    )]
    Swapped { label: String },
    #[error("the HSM token cannot be compared with those of the other nodes ({0})")]
    Hsm(HsmError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares what is active now. Where there are no other nodes only another key is a reason not to serve: one
/// that is lost has a page of its own, and the HSM may answer later.
pub async fn prove(app: &App) -> Result<(), OtherKeys> {
    let compared = compare(app).await;
    if app.store.contact() != Contact::Alone {
        return compared;
    }
    match compared {
        Err(OtherKeys::Differs { label }) => Err(OtherKeys::Swapped { label }),
        Err(why @ (OtherKeys::Lacks { .. } | OtherKeys::Hsm(_) | OtherKeys::Store(_))) => {
            tracing::warn!(error = %why, "not every key is compared with the database");
            Ok(())
        }
        compared => compared,
    }
}

async fn compare(app: &App) -> Result<(), OtherKeys> {
    let ring = app.keyring();
    let active = |key: &&KeyRecord| key.state == KeyState::Active;
    for key in ring.records().iter().filter(active) {
        compare_public(app, key).await?;
    }
    let sealing = ring.sealing();
    match app.store.contact() {
        Contact::Alone => open_some(app, sealing).await,
        _ => open_proof(app, sealing).await,
    }
}

async fn compare_public(app: &App, key: &KeyRecord) -> Result<(), OtherKeys> {
    let Some(known) = key.public_point else {
        return Ok(());
    };
    let label = &key.label.0;
    let here = app.hsm.public_key(&key.label).await;
    match here.map_err(|error| of_hsm(label, error))? {
        here if here == known => Ok(()),
        _ => Err(OtherKeys::Differs {
            label: label.clone(),
        }),
    }
}

/// Where nothing is sealed yet, nothing is lost under other keys either. A single seed that does not open is a row
/// that was damaged, as likely as not, and its terminal is told so when it asks.
async fn open_some(app: &App, sealing: &SealingKeys) -> Result<(), OtherKeys> {
    let (mut tried, mut why) = (0, Ok(()));
    for seed in app.store.last_seeds(SEEDS_TRIED_MAX).await? {
        match open(app, &seed.keys, &seed.sealed).await {
            Ok(()) => return Ok(()),
            Err(differs @ OtherKeys::Differs { .. }) => {
                tried += 1;
                why = Err(differs);
            }
            // A key that is retired, or an HSM that may answer later, says nothing of the others.
            Err(other) => why = why.and(Err(other)),
        }
    }
    match why {
        Err(OtherKeys::Differs { label }) if tried < 2 => {
            tracing::warn!(keys = label, "the one seed that is kept does not open");
            Ok(())
        }
        Err(differs @ OtherKeys::Differs { .. }) => {
            // A device that opens nothing at all is not another one.
            let new = app
                .hsm
                .seal_new_seed(sealing, CONTEXT.to_vec(), Priority::Renewal);
            let new = new.await.map_err(OtherKeys::Hsm)?;
            let message = vec![CONTEXT.to_vec()];
            let opened = app
                .hsm
                .hmac_batch(sealing, &new, message, Priority::Renewal);
            opened.await.map_err(OtherKeys::Hsm)?;
            Err(differs)
        }
        why => why,
    }
}

async fn open_proof(app: &App, keys: &SealingKeys) -> Result<(), OtherKeys> {
    if app.store.key_proof(keys.clone()).await?.is_none() {
        let sealed = app
            .hsm
            .seal_new_seed(keys, CONTEXT.to_vec(), Priority::Renewal)
            .await
            .map_err(|error| of_hsm(&keys.sealing.0, error))?;
        let keys = keys.clone();
        app.store.add_key_proof(KeyProof { keys, sealed }).await?;
    }
    // Whichever stays of several that were first.
    match app.store.key_proof(keys.clone()).await? {
        Some(proof) => open(app, &proof.keys, &proof.sealed).await,
        None => Ok(()),
    }
}

/// In the HSM; what it answers is nothing that anything follows from, and is not kept.
async fn open(app: &App, keys: &SealingKeys, sealed: &SealedSeed) -> Result<(), OtherKeys> {
    let message = vec![CONTEXT.to_vec()];
    let used = app.hsm.hmac_batch(keys, sealed, message, Priority::Renewal);
    match used.await {
        Ok(_) => Ok(()),
        Err(error) => {
            let either = format!("{} or {}", keys.sealing.0, keys.binding.0);
            Err(of_hsm(&either, error))
        }
    }
}

fn of_hsm(label: &str, error: HsmError) -> OtherKeys {
    match error {
        HsmError::NotOurKey { .. } => OtherKeys::Differs {
            label: label.to_owned(),
        },
        HsmError::KeyDiffers { label } => OtherKeys::Differs { label },
        HsmError::KeyUnknown { label } => OtherKeys::Lacks { label },
        error => OtherKeys::Hsm(error),
    }
}
