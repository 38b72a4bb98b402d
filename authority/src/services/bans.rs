//! Who hears that a terminal was banned or a certificate revoked, at once?
//!
//! The store refuses both from the commit on; this cuts what is open already. Listeners close the
//! connections, the push service ends its streams, and the revocation lists are made anew.

use std::sync::Arc;

use protocol::ids::TerminalId;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Most bans a slow listener may be behind; past it, it cuts to be safe.
const BANS_BEHIND_MAX: usize = 256;

/// Tells everybody who subscribed.
#[derive(Debug, Clone)]
pub struct Bans {
    terminals: broadcast::Sender<TerminalId>,
    /// Serials of revoked certificates, lower-case hex.
    certificates: broadcast::Sender<Arc<str>>,
}

/// Hears of every ban since it subscribed.
#[derive(Debug)]
pub struct BanListener(broadcast::Receiver<TerminalId>);

/// Hears of every revocation since it subscribed.
#[derive(Debug)]
pub struct RevocationListener(broadcast::Receiver<Arc<str>>);

impl Default for Bans {
    fn default() -> Self {
        Self {
            terminals: broadcast::channel(BANS_BEHIND_MAX).0,
            certificates: broadcast::channel(BANS_BEHIND_MAX).0,
        }
    }
}

impl Bans {
    /// Call after the ban is committed.
    pub fn announce(&self, terminal: TerminalId) {
        // Nobody listening is fine: then nothing is open.
        let _ = self.terminals.send(terminal);
    }

    /// Call after the revocation is committed.
    pub fn announce_revoked(&self, serial: &str) {
        // As above.
        let _ = self.certificates.send(serial.into());
    }

    pub fn listen(&self) -> BanListener {
        BanListener(self.terminals.subscribe())
    }

    pub fn listen_revoked(&self) -> RevocationListener {
        RevocationListener(self.certificates.subscribe())
    }
}

impl BanListener {
    /// The next terminal that is banned; none when some were missed.
    pub async fn next(&mut self) -> Option<TerminalId> {
        next(&mut self.0).await
    }

    /// Returns once `terminal` is banned, or when so many bans were missed that it may have been:
    /// whoever waits cuts, and a terminal that was not meant connects again.
    pub async fn until_banned(mut self, terminal: TerminalId) {
        while self.next().await.is_some_and(|banned| banned != terminal) {}
    }
}

impl RevocationListener {
    /// The next serial that is revoked; none when some were missed.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        next(&mut self.0).await
    }

    /// Returns once `serial` is revoked, or may have been.
    pub async fn until_revoked(mut self, serial: &str) {
        while self.next().await.is_some_and(|revoked| *revoked != *serial) {}
    }
}

async fn next<T: Clone>(heard: &mut broadcast::Receiver<T>) -> Option<T> {
    match heard.recv().await {
        Ok(said) => Some(said),
        Err(RecvError::Lagged(_)) => None,
        // The house is going down and takes the listeners with it.
        Err(RecvError::Closed) => std::future::pending().await,
    }
}
