//! Who hears that a terminal was banned, at once?
//!
//! The store refuses a banned terminal from the commit on; this cuts what is open already. Listeners
//! close the connections of the terminal, the push service ends its streams.

use protocol::ids::TerminalId;
use tokio::sync::broadcast;

/// Most bans a slow listener may be behind; past it, it cuts to be safe.
const BANS_BEHIND_MAX: usize = 256;

/// Tells everybody who subscribed.
#[derive(Debug, Clone)]
pub struct Bans(broadcast::Sender<TerminalId>);

/// Hears of every ban since it subscribed.
#[derive(Debug)]
pub struct BanListener(broadcast::Receiver<TerminalId>);

impl Default for Bans {
    fn default() -> Self {
        Self(broadcast::channel(BANS_BEHIND_MAX).0)
    }
}

impl Bans {
    /// Call after the ban is committed.
    pub fn announce(&self, terminal: TerminalId) {
        // Nobody listening is fine: then nothing is open.
        let _ = self.0.send(terminal);
    }

    pub fn listen(&self) -> BanListener {
        BanListener(self.0.subscribe())
    }
}

impl BanListener {
    /// The next terminal that is banned; none when some were missed.
    pub async fn next(&mut self) -> Option<TerminalId> {
        match self.0.recv().await {
            Ok(banned) => Some(banned),
            Err(broadcast::error::RecvError::Lagged(_)) => None,
            // The house is going down and takes the listeners with it.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Returns once `terminal` is banned, or when so many bans were missed that it may have been:
    /// whoever waits cuts, and a terminal that was not meant connects again.
    pub async fn until_banned(mut self, terminal: TerminalId) {
        loop {
            match self.0.recv().await {
                Ok(banned) if banned != terminal => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                // The house is going down and takes the connections with it.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
