//! Does the loop that changes the tokens still turn?
//!
//! It says so itself, at every turn; no timer says it for it.

use std::sync::Arc;

use pki::manager::Manager;
use protocol::time::Millis;

/// What the service manager hears of one loop.
pub struct Pulse {
    manager: Arc<Manager>,
    last: Option<Millis>,
}

impl Pulse {
    pub fn new(manager: Arc<Manager>) -> Self {
        Self {
            manager,
            last: None,
        }
    }

    /// The loop has turned once more. Told on only as often as somebody waits for it.
    pub fn beat(&mut self, now_ms: Millis) {
        let Some(every) = self.manager.beat_every() else {
            return;
        };
        let since = self.last.map(|last| now_ms - last);
        if since.is_none_or(|since| since >= every.as_millis() as Millis) {
            self.manager.alive();
            self.last = Some(now_ms);
        }
    }
}
