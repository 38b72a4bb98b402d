//! What did the terminals see?

use async_trait::async_trait;
use protocol::ids::{EventId, TerminalId};
use protocol::time::Timestamp;
use protocol::wire::reports::TerminalEvent;

use super::Result;

#[async_trait]
pub trait Reports {
    /// Stores what is new; answers every id of the batch that is safe now. An id that another
    /// terminal used is not taken and not answered. What is from before the fence of reports is answered, and
    /// neither stored nor followed.
    async fn add_reports(
        &self,
        terminal: TerminalId,
        events: Vec<TerminalEvent>,
        at: Timestamp,
    ) -> Result<Vec<EventId>>;

    /// The latest events of a terminal, newest first.
    async fn reports(&self, terminal: TerminalId, limit: u32) -> Result<Vec<TerminalEvent>>;
}
