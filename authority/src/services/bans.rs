//! Who hears that a terminal was banned or a certificate revoked, at once?
//!
//! The store refuses both from the commit on; this cuts what is open already. Listeners close the
//! connections, the push service ends its streams, and the revocation lists are made anew.
//!
//! ```text
//! announce ─┬▶ whoever follows all of them: lists, caches      (few)
//!           └▶ the connections and streams it is about         (looked up by name: a ban among 100 000
//!                                                               terminals wakes the one it means)
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::ids::TerminalId;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};

use crate::store::Connected;

/// Most bans a slow listener may be behind; past it, it takes everything for changed.
const BANS_BEHIND_MAX: usize = 256;

/// Tells everybody who subscribed, and whoever it is about.
#[derive(Debug, Clone)]
pub struct Bans {
    /// None: some were missed.
    terminals: broadcast::Sender<Option<TerminalId>>,
    /// Serials of revoked certificates, lower-case hex.
    certificates: broadcast::Sender<Arc<str>>,
    watches: Arc<Mutex<Watches>>,
}

/// Hears of every ban since it subscribed.
#[derive(Debug)]
pub struct BanListener(broadcast::Receiver<Option<TerminalId>>);

/// Hears of every revocation since it subscribed.
#[derive(Debug)]
pub struct RevocationListener(broadcast::Receiver<Arc<str>>);

/// Hears of the ban of one terminal and the revocation of one certificate since it was made.
#[derive(Debug)]
pub struct Watch {
    number: u64,
    terminal: Option<TerminalId>,
    serial: Option<Arc<str>>,
    cut: Arc<Cut>,
    of: Arc<Mutex<Watches>>,
}

/// Everybody who watches; as many as there are connections and streams.
#[derive(Debug, Default)]
struct Watches {
    last_number: u64,
    terminals: BTreeMap<(TerminalId, u64), Arc<Cut>>,
    certificates: BTreeMap<(Arc<str>, u64), Arc<Cut>>,
}

/// What one of them is told.
#[derive(Debug, Default)]
struct Cut {
    why: OnceLock<&'static str>,
    told: Notify,
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            terminals: broadcast::channel(BANS_BEHIND_MAX).0,
            certificates: broadcast::channel(BANS_BEHIND_MAX).0,
            watches: Arc::default(),
        }
    }
}

impl Bans {
    /// Call after the ban is committed.
    pub fn announce(&self, terminal: TerminalId) {
        // Nobody listening is fine: then nothing is open.
        let _ = self.terminals.send(Some(terminal));
        let watches = lock(&self.watches);
        let meant = (terminal, 0)..=(terminal, u64::MAX);
        for (_, cut) in watches.terminals.range(meant) {
            cut.tell("banned");
        }
    }

    /// Call after the revocation is committed.
    pub fn announce_revoked(&self, serial: &str) {
        let serial: Arc<str> = serial.into();
        // As above.
        let _ = self.certificates.send(serial.clone());
        let watches = lock(&self.watches);
        let meant = (serial.clone(), 0)..=(serial, u64::MAX);
        for (_, cut) in watches.certificates.range(meant) {
            cut.tell("revoked");
        }
    }

    /// Bans may have been missed: whoever follows all of them takes everything for changed.
    pub fn announce_missed(&self) {
        // As above.
        let _ = self.terminals.send(None);
    }

    /// Whom the connections and streams are about, each once.
    pub fn watched(&self) -> Connected {
        let watches = lock(&self.watches);
        let mut all = Connected {
            terminals: watches.terminals.keys().map(|(it, _)| *it).collect(),
            certificates: watches
                .certificates
                .keys()
                .map(|(it, _)| it.to_string())
                .collect(),
        };
        all.terminals.dedup();
        all.certificates.dedup();
        all
    }

    pub fn listen(&self) -> BanListener {
        BanListener(self.terminals.subscribe())
    }

    pub fn listen_revoked(&self) -> RevocationListener {
        RevocationListener(self.certificates.subscribe())
    }

    /// From now on, whatever happens to this terminal or this certificate is heard.
    pub fn watch(&self, terminal: Option<TerminalId>, serial: Option<&str>) -> Watch {
        let (serial, cut): (Option<Arc<str>>, Arc<Cut>) = (serial.map(Into::into), Arc::default());
        let mut watches = lock(&self.watches);
        watches.last_number += 1;
        let number = watches.last_number;
        if let Some(terminal) = terminal {
            watches.terminals.insert((terminal, number), cut.clone());
        }
        if let Some(serial) = &serial {
            let key = (serial.clone(), number);
            watches.certificates.insert(key, cut.clone());
        }
        Watch {
            number,
            terminal,
            serial,
            cut,
            of: self.watches.clone(),
        }
    }
}

impl Watch {
    /// Returns, with the reason, once the terminal is banned or the certificate revoked.
    pub async fn until_cut(&self) -> &'static str {
        loop {
            if let Some(why) = self.cut.why.get() {
                return why;
            }
            self.cut.told.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = lock(&self.of);
        if let Some(terminal) = self.terminal {
            watches.terminals.remove(&(terminal, self.number));
        }
        if let Some(serial) = self.serial.take() {
            watches.certificates.remove(&(serial, self.number));
        }
    }
}

impl Cut {
    fn tell(&self, why: &'static str) {
        // The first reason counts.
        let _ = self.why.set(why);
        self.told.notify_one();
    }
}

impl BanListener {
    /// The next terminal that is banned; none when some were missed.
    pub async fn next(&mut self) -> Option<TerminalId> {
        next(&mut self.0).await.flatten()
    }
}

impl RevocationListener {
    /// The next serial that is revoked; none when some were missed.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        next(&mut self.0).await
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

fn lock(watches: &Mutex<Watches>) -> MutexGuard<'_, Watches> {
    watches.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn terminal(number: u32) -> TerminalId {
        TerminalId::from_number(number).expect("a number of seven digits")
    }

    fn is_cut(watch: &Watch) -> Option<&'static str> {
        watch.until_cut().now_or_never()
    }

    #[test]
    fn a_ban_wakes_all_connections_of_its_terminal_and_no_other() {
        let bans = Bans::default();
        let crowd: Vec<Watch> = (0..10_000)
            .map(|n| bans.watch(Some(terminal(n)), Some(format!("{n:x}").as_str())))
            .collect();
        let second = bans.watch(Some(terminal(4_711)), Some("of another certificate"));
        bans.announce(terminal(4_711));
        assert_eq!(is_cut(&second), Some("banned"));
        let cut: Vec<usize> = (0..crowd.len())
            .filter(|n| is_cut(&crowd[*n]).is_some())
            .collect();
        assert_eq!(cut, [4_711]);
    }

    #[test]
    fn a_revocation_cuts_its_certificate_and_leaves_the_terminals_next_one() {
        let bans = Bans::default();
        let old = bans.watch(Some(terminal(1)), Some("0a"));
        let new = bans.watch(Some(terminal(1)), Some("0b"));
        let nobody = bans.watch(None, None);
        bans.announce_revoked("0a");
        assert_eq!(is_cut(&old), Some("revoked"));
        assert_eq!((is_cut(&new), is_cut(&nobody)), (None, None));
    }

    #[tokio::test]
    async fn whoever_waits_already_is_woken_and_however_many_bans_come_none_is_missed() {
        let bans = Bans::default();
        let watch = bans.watch(Some(terminal(9)), None);
        let waits = tokio::spawn(async move { watch.until_cut().await });
        tokio::task::yield_now().await;
        (0..1_000).for_each(|n| bans.announce(terminal(n)));
        assert_eq!(waits.await.ok(), Some("banned"));
    }

    #[test]
    fn nothing_is_left_of_a_watch_that_is_over() {
        let bans = Bans::default();
        drop(bans.watch(Some(terminal(1)), Some("0a")));
        let watches = lock(&bans.watches);
        assert!(watches.terminals.is_empty() && watches.certificates.is_empty());
    }
}
