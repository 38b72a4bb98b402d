//! Is the server that answers still the one whose history we know, and is there another one that has it all?
//!
//! A PostgreSQL server begins a new timeline when it takes over from another, and also when it was restored
//! to an earlier moment from its archive. An earlier copy of its disk goes on with the timeline it had, but not
//! without a start of the server. The store cannot tell what lies behind either; so on a new timeline, or from a
//! server that has started anew, it reads and writes nothing until somebody has compared what the server holds with
//! what is known to have been acknowledged.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Difference, Result};
use crate::journal::Known;

/// Which server answers, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    pub timeline: u32,
    /// When it was started, by its own clock, in microseconds.
    pub began_us: i64,
}

#[async_trait]
pub trait Timelines {
    /// The server that came back and that nobody has compared yet. An embedded store has none.
    fn server_in_question(&self) -> Option<Server>;

    /// How the server in question differs from the journal, and from what this process acknowledged.
    async fn differs_in_question(&self, known: Arc<Known>) -> Result<Difference>;

    /// It was compared: from now on it is read and written.
    fn accept_server(&self, server: Server);

    /// How many standbys a commit waits for before it is acknowledged. An embedded store has none.
    async fn synchronous_standbys(&self) -> Result<u32>;
}
