//! What has run out of time, and who puts it right?

use std::sync::Arc;

use protocol::ids::{ChargeId, ClaimId, TerminalId};
use protocol::time::Timestamp;
use protocol::turn::TurnCause;
use protocol::wire::push::EndReason;
use tracing::Instrument;

use super::epoch_keys::EpochKeys;
use super::push::Push;
use super::{Failure, claim_span};
use crate::app::App;
use crate::store::Due;

/// Overdue claims and charges put right at a time.
pub const SWEEP_BATCH: u32 = 256;

/// Releases claims and ends charges whose time is over.
pub struct Sweeps {
    app: Arc<App>,
    epoch_keys: Arc<EpochKeys>,
    push: Arc<Push>,
}

impl Sweeps {
    pub fn new(app: Arc<App>, epoch_keys: Arc<EpochKeys>, push: Arc<Push>) -> Self {
        Self {
            app,
            epoch_keys,
            push,
        }
    }

    /// Puts right what is over at `now`; answers how much. What fails stays due for the next time.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, Failure> {
        let mut done = 0;
        for due in self.app.store.due(now, SWEEP_BATCH).await? {
            let swept = match due {
                Due::Claim(claim, terminal) => {
                    let span = claim_span(claim);
                    self.release(claim, terminal, now).instrument(span).await
                }
                Due::Charge(charge, terminal) => self.end(charge, terminal, now).await,
            };
            match swept {
                Ok(()) => done += 1,
                Err(why) => tracing::warn!(?due, error = %why, "still overdue"),
            }
        }
        Ok(done)
    }

    async fn release(
        &self,
        claim: ClaimId,
        terminal: TerminalId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let cause = TurnCause::ClaimReleased;
        let moved = self.epoch_keys.moved(terminal, now, cause).await?;
        if self.app.store.release_claim(claim, moved, now).await? {
            tracing::info!(%terminal, "claim released");
        }
        self.swept("claim", terminal);
        Ok(())
    }

    async fn end(
        &self,
        charge: ChargeId,
        terminal: TerminalId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let cause = TurnCause::ChargeEnded;
        let moved = self.epoch_keys.moved(terminal, now, cause).await?;
        let (store, reason) = (&self.app.store, EndReason::Expired);
        store.end_charge(charge, reason, moved, now).await?;
        tracing::info!(%terminal, %charge, "charge expired");
        self.swept("charge", terminal);
        Ok(())
    }

    fn swept(&self, what: &str, terminal: TerminalId) {
        self.app.metrics.sweeps.with_label_values(&[what]).inc();
        self.push.changed(terminal);
    }
}
