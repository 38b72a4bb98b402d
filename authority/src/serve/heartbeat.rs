//! Does the authority still do its work?
//!
//! Each beat is a write that went through queue, writer and disk, and was read back. A timer that beats by
//! itself would say that all is well while every claim waits for ever.

use std::sync::Arc;
use std::time::Duration;

use pki::manager::Manager;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::store::StoreError;

/// How soon it is tried again when the queue is full.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Stops beating when it goes.
pub(super) struct Heart(Option<JoinHandle<()>>);

/// Beats as often as the service manager wants; not at all if it does not.
pub(super) fn start(app: Arc<App>, manager: Arc<Manager>) -> Heart {
    let every = manager.beat_every();
    Heart(every.map(|every| tokio::spawn(beat(app, manager, every))))
}

async fn beat(app: Arc<App>, manager: Arc<Manager>, every: Duration) {
    loop {
        let pause = match app.store.probe().await {
            Ok(()) => every,
            Err(error) if says_something(&error) => every,
            Err(_) => {
                tokio::time::sleep(BUSY_PAUSE.min(every)).await;
                continue;
            }
        };
        manager.alive();
        tokio::time::sleep(pause).await;
    }
}

/// A disk that is full or a row that is broken is an answer, and starting again would not help. A queue
/// that stays full, or a writer that is gone, is none.
fn says_something(error: &StoreError) -> bool {
    match error {
        StoreError::CannotWrite { .. }
        | StoreError::Unjournalled { .. }
        | StoreError::Corrupt { .. } => true,
        StoreError::Busy | StoreError::Late | StoreError::Unusable { .. } => false,
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_and_a_writer_that_is_gone_are_no_signs_of_life() {
        let detail = || "it is so".to_owned();
        assert!(!says_something(&StoreError::Busy));
        assert!(!says_something(&StoreError::Unusable { detail: detail() }));
        assert!(says_something(&StoreError::CannotWrite {
            detail: detail()
        }));
    }
}
