//! What stands in where no timer counts time asleep?

use std::io;
use std::time::Duration;

/// There is none.
pub(crate) enum BootAlarm {}

impl BootAlarm {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn after(&mut self, _: Duration) -> io::Result<()> {
        match *self {}
    }
}
