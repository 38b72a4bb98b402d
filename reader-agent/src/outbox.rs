//! Do the reports reach the authority, each at least once and in order?

use std::sync::Arc;
use std::time::Duration;

use protocol::wire::reports::REPORTS_MAX;
use tokio::sync::Notify;

use crate::authority::line::Line;
use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::state::State;

/// Looks for reports at least this often, also when nobody rang.
pub const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Uploads for ever.
pub async fn upload(line: Arc<Line>, state: Arc<State>, rung: Arc<Notify>, metrics: Arc<Metrics>) {
    let mut backoff = Backoff::default();
    loop {
        match upload_batch(&line, &state).await {
            Ok(0) => {
                backoff.reset();
                // Either is a reason to look.
                let _ = tokio::time::timeout(LOOK_EVERY, rung.notified()).await;
            }
            Ok(_) => backoff.reset(),
            Err(error) => {
                tracing::debug!("reports stay in the outbox: {error}");
                tokio::time::sleep(backoff.pause()).await;
            }
        }
        if let Ok(length) = state.outbox_length() {
            metrics.outbox(length);
        }
    }
}

/// How many reports of the oldest batch the authority took.
async fn upload_batch(line: &Line, state: &State) -> Result<usize, String> {
    let batch = state.oldest(REPORTS_MAX).map_err(|e| e.to_string())?;
    if batch.is_empty() {
        return Ok(0);
    }
    let report = line.call(|client| {
        let batch = batch.clone();
        async move { client.report(batch).await }
    });
    let stored = report.await.map_err(|e| e.to_string())?;
    if stored.is_empty() {
        return Err("the authority took none of a batch".into());
    }
    state.forget(&stored).map_err(|e| e.to_string())?;
    Ok(stored.len())
}

#[cfg(test)]
mod tests;
