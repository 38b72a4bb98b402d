//! Who keeps what is known of tags while a worker is in a visit?
//!
//! The disk, and it may take its time: a stall of it is no reader that is stuck or taken.

use super::desk::Lease;
use crate::tag::{Programming, TagError, TagRecord, TagSafe};

/// What is kept of tags, asked beside the watchdog.
pub(super) struct Kept<'a>(pub &'a Lease);

impl Kept<'_> {
    fn ask<T>(
        &self,
        what: impl FnOnce(&dyn TagSafe) -> Result<T, TagError>,
    ) -> Result<T, TagError> {
        self.0.beside(|| what(self.0.config().safe.as_ref()))?
    }
}

impl TagSafe for Kept<'_> {
    fn recall(&self, uid: &[u8]) -> Result<Option<TagRecord>, TagError> {
        self.ask(|safe| safe.recall(uid))
    }

    fn keep(&self, uid: &[u8], record: &TagRecord) -> Result<(), TagError> {
        self.ask(|safe| safe.keep(uid, record))
    }

    fn forget(&self, uid: &[u8]) -> Result<(), TagError> {
        self.ask(|safe| safe.forget(uid))
    }

    fn adopt(&self, uid: &[u8]) -> Result<(), TagError> {
        self.ask(|safe| safe.adopt(uid))
    }

    fn count(&self, uid: &[u8], what: &Programming) -> Result<(), TagError> {
        self.ask(|safe| safe.count(uid, what))
    }

    fn own(&self) -> Result<Option<Vec<u8>>, TagError> {
        self.ask(|safe| safe.own())
    }
}
