//! Is the server that answers still the one whose history we know, and is there another one that has it all?
//!
//! A PostgreSQL server begins a new timeline when it takes over from another, and also when it was restored
//! to an earlier moment. The store cannot tell which; so on a new timeline it reads and writes nothing until
//! somebody has compared what the server holds with what is known to have been acknowledged.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Difference, Result};
use crate::journal::Known;

#[async_trait]
pub trait Timelines {
    /// The timeline on which a server came back and that nobody has compared yet. An embedded store has none.
    fn timeline_in_question(&self) -> Option<u32>;

    /// How the server in question differs from the journal, and from what this process acknowledged.
    async fn differs_in_question(&self, known: Arc<Known>) -> Result<Difference>;

    /// It was compared: from now on it is read and written.
    fn accept_timeline(&self, timeline: u32);

    /// How many standbys a commit waits for before it is acknowledged. An embedded store has none.
    async fn synchronous_standbys(&self) -> Result<u32>;
}
