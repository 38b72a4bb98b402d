//! Who hears that keys or seeds were replaced, at once?
//!
//! The database judges by the new ones from the commit on; this lets terminals fetch theirs, and
//! forgets what memory holds of the old ones.

use std::sync::Arc;

use protocol::ids::TerminalId;
use tokio::sync::broadcast;

/// Most changes a slow listener may be behind; past it, it takes everything for changed.
const CHANGES_BEHIND_MAX: usize = 256;

#[derive(Debug, Clone)]
pub enum Change {
    /// The schedules of these are void.
    Terminals(Arc<[TerminalId]>),
    /// The key set.
    Keys,
    /// Some were missed.
    All,
}

/// Tells everybody who subscribed.
#[derive(Debug, Clone)]
pub struct Changes(broadcast::Sender<Change>);

#[derive(Debug)]
pub struct ChangeListener(broadcast::Receiver<Change>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::channel(CHANGES_BEHIND_MAX).0)
    }
}

impl Changes {
    /// Call after the change is committed.
    pub fn announce(&self, change: Change) {
        // Nobody listening is fine: then nobody has anything to fetch or forget.
        let _ = self.0.send(change);
    }

    pub fn listen(&self) -> ChangeListener {
        ChangeListener(self.0.subscribe())
    }
}

impl ChangeListener {
    pub async fn next(&mut self) -> Change {
        match self.0.recv().await {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => Change::All,
            // The house is going down and takes the listeners with it.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
