//! What does the authority do when nobody asks?
//!
//! Releases what is overdue, signs receipts that are due, and binds the audit chain in checkpoints.
//! Each round is bounded and may fail: the next one goes on.

use std::sync::Arc;
use std::time::Duration;

use hsm::Priority;
use protocol::audit::{CheckpointClaims, Head};
use protocol::turn::TurnCause;
use protocol::wire::push::EndReason;

use super::{Failure, charges, keyring, receipts, windows};
use crate::app::App;
use crate::store::{Due, StoredCheckpoint};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Most overdue claims and charges put right in one round.
const SWEEP_MAX: u32 = 256;

/// Rounds until the drain.
pub async fn run(app: Arc<App>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut bound = Vec::new();
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = app.draining() => return,
        }
        told("sweep", sweep(&app).await);
        told("receipts", receipts::resume(&app).await.map(|_| ()));
        told("checkpoint", checkpoint(&app, &mut bound).await);
    }
}

/// Releases claims and ends charges whose time is over; how many.
pub async fn sweep(app: &App) -> Result<(), Failure> {
    for due in app.store.due(app.clock.now(), SWEEP_MAX).await? {
        let what = match due {
            Due::Claim(..) => "claim",
            Due::Charge(..) => "charge",
        };
        put_right(app, due).await?;
        app.metrics.sweeps.with_label_values(&[what]).inc();
    }
    Ok(())
}

/// Signs where the chains stand, if they have moved since `bound`.
pub async fn checkpoint(app: &App, bound: &mut Vec<Head>) -> Result<(), Failure> {
    let heads = app.store.audit_heads().await?;
    if heads == *bound {
        return Ok(());
    }
    let now = app.clock.now();
    let claims = CheckpointClaims {
        iss: app.issuer_uri(),
        iat: now.secs(),
        generation: app.generation,
        heads: heads.clone(),
    };
    let key = app.keyring.checkpoint();
    let signed = keyring::sign(&app.hsm, key, &claims, Priority::Renewal).await;
    let outcome = if signed.is_ok() { "signed" } else { "failed" };
    app.metrics.checkpoints.with_label_values(&[outcome]).inc();
    app.store
        .add_checkpoint(StoredCheckpoint {
            at: now,
            jws: signed?,
        })
        .await?;
    *bound = heads;
    Ok(())
}

async fn put_right(app: &App, due: Due) -> Result<(), Failure> {
    match due {
        Due::Claim(claim, terminal) => {
            let now = app.clock.now();
            let moved = windows::moved(app, terminal, TurnCause::ClaimReleased, now).await?;
            if app.store.release_claim(claim, moved, now).await? {
                tracing::info!(%claim, %terminal, "released: not approved in time");
                app.push.changed(terminal);
            }
        }
        Due::Charge(charge, terminal) => {
            charges::end(app, terminal, charge, EndReason::Expired).await?;
        }
    }
    Ok(())
}

fn told(what: &str, round: Result<(), Failure>) {
    if let Err(failure) = round {
        tracing::warn!(error = %failure, "{what} could not be finished; the next round goes on");
    }
}
