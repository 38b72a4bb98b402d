//! Who compares what tags counted with what was claimed?

use std::sync::Arc;

use protocol::time::Timestamp;

use super::Failure;
use super::places::Places;
use crate::app::App;
use crate::store::TagAlarmKind;

/// Links, and days, that are judged in one transaction.
pub const TAPS_BATCH: u32 = 256;
/// Transactions of one run: payments go in between.
pub const TAPS_BATCHES_MAX: u32 = 16;

/// Judges what is due without being asked.
pub struct Reconciler {
    app: Arc<App>,
    places: Arc<Places>,
}

impl Reconciler {
    pub fn new(app: Arc<App>, places: Arc<Places>) -> Self {
        Self { app, places }
    }

    /// Judges what is due at `now`; answers how much. The database knows what is left for the next time.
    pub async fn run(&self, now: Timestamp) -> Result<usize, Failure> {
        let store = &self.app.store;
        let elsewhere = self.places.take(now);
        if !elsewhere.is_empty() {
            store.add_second_places(elsewhere, now).await?;
        }
        let mut done = 0;
        for _ in 0..TAPS_BATCHES_MAX {
            // Looked at first: most runs find nothing, and a write waits for the disk.
            if !store.taps_due(now).await? {
                break;
            }
            let run = store.reconcile_taps(now, TAPS_BATCH).await?;
            done += run.done as usize;
            if !run.more {
                break;
            }
        }
        self.count().await?;
        Ok(done)
    }

    async fn count(&self) -> Result<(), Failure> {
        let open = self.app.store.open_tag_alarms().await?;
        for kind in TagAlarmKind::ALL {
            let found = open.iter().find(|it| it.0 == kind);
            let number = found.map_or(0, |it| i64::try_from(it.1).unwrap_or(i64::MAX));
            let gauge = &self.app.metrics.tag_alarms_open;
            gauge.with_label_values(&[kind.name()]).set(number);
        }
        Ok(())
    }
}
