//! Who listens, and has somebody come back for a stream that another one took?
//!
//! A terminal has one stream; a new one ends the one before. A process names itself, the same for all its
//! streams, so that a copy of the terminal is told from its restart and from a bad network.

use std::collections::{HashMap, HashSet};

use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use protocol::wire::upkeep::INSTANCE_MAX;
use tokio::sync::watch;

/// Of software that does not name its process: two machines with one certificate end each other's streams,
/// and whoever lost theirs comes back within [`FIGHT_WITHIN_MS`]. So often, less than [`FIGHTS_APART_MS`]
/// apart, and it is an alarm. A bad network does not come back that fast.
const FIGHTS_MAX: u32 = 5;
const FIGHT_WITHIN_MS: Millis = 15_000;
const FIGHTS_APART_MS: Millis = 10 * 60_000;
/// Processes of a terminal that are remembered after another one took their stream.
const OUSTED_MAX: usize = 8;

#[derive(Default)]
pub(super) struct Streams {
    next_number: u64,
    of: HashMap<TerminalId, Open>,
    /// Of terminals whose stream was ended by another one: at most one for each that is enrolled.
    fights: HashMap<TerminalId, Fights>,
    /// Terminals that listen at another node, as far as it said so.
    elsewhere: HashSet<TerminalId>,
}

/// Dropping `wake` ends the stream.
struct Open {
    number: u64,
    /// The revision it was told last; none before its first look.
    told: Option<u64>,
    certificate: String,
    /// Which process listens, if it says so.
    instance: Option<String>,
    wake: watch::Sender<()>,
}

/// What became of streams with this certificate.
struct Fights {
    certificate: String,
    count: u32,
    displaced_at: Timestamp,
    /// Processes whose stream another one took, the latest last.
    ousted: Vec<String>,
}

/// A new stream.
pub(super) struct Entered {
    pub(super) number: u64,
    pub(super) woken: watch::Receiver<()>,
    /// The one that it put an end to.
    pub(super) displaced: Option<Displaced>,
}

/// The stream that a new one has put an end to, now or a moment ago.
pub(super) struct Displaced {
    pub(super) certificate: String,
    fights: u32,
}

/// Whether a process may call itself so.
pub(super) fn counts(instance: &str) -> bool {
    (1..=INSTANCE_MAX).contains(&instance.len())
}

impl Streams {
    pub(super) fn enter(
        &mut self,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<String>,
        now: Timestamp,
    ) -> Entered {
        let (wake, woken) = watch::channel(());
        self.next_number += 1;
        let number = self.next_number;
        let displaced = self.displace(terminal, certificate, instance.as_deref(), now);
        let open = Open {
            number,
            told: None,
            certificate: certificate.to_owned(),
            instance,
            wake,
        };
        self.of.insert(terminal, open);
        self.elsewhere.remove(&terminal);
        Entered {
            number,
            woken,
            displaced,
        }
    }

    /// Here or at another node.
    pub(super) fn is_open(&self, terminal: TerminalId) -> bool {
        self.of.contains_key(&terminal) || self.elsewhere.contains(&terminal)
    }

    /// False if another one has taken its place.
    pub(super) fn leave(&mut self, terminal: TerminalId, number: u64) -> bool {
        let is_it = |it: &Open| it.number == number;
        let is_last = self.of.get(&terminal).is_some_and(is_it);
        if is_last {
            self.of.remove(&terminal);
        }
        is_last
    }

    /// A new stream at another node puts an end to the one here, as it would have there.
    pub(super) fn enter_elsewhere(
        &mut self,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<&str>,
        now: Timestamp,
    ) -> Option<Displaced> {
        self.elsewhere.insert(terminal);
        let instance = instance.filter(|it| counts(it));
        self.displace(terminal, certificate, instance, now)
    }

    pub(super) fn listens_elsewhere(&mut self, terminal: TerminalId) {
        self.elsewhere.insert(terminal);
    }

    pub(super) fn left_elsewhere(&mut self, terminal: TerminalId) {
        self.elsewhere.remove(&terminal);
    }

    /// Who listens here.
    pub(super) fn all_here(&self) -> Vec<TerminalId> {
        self.of.keys().copied().collect()
    }

    pub(super) fn wake(&self, terminal: TerminalId) {
        if let Some(open) = self.of.get(&terminal) {
            open.wake.send_replace(());
        }
    }

    pub(super) fn count(&self) -> usize {
        self.of.len()
    }

    /// This stream is told of this revision.
    pub(super) fn tell(&mut self, terminal: TerminalId, number: u64, revision: u64) {
        if let Some(open) = self.of.get_mut(&terminal).filter(|it| it.number == number) {
            open.told = Some(revision);
        }
    }

    /// Wakes it if it was told, and of another revision than this one; answers whether.
    pub(super) fn catch_up(&self, terminal: TerminalId, revision: u64) -> bool {
        let open = self.of.get(&terminal);
        let missed = open.filter(|it| it.told.is_some_and(|told| told != revision));
        if let Some(open) = missed {
            open.wake.send_replace(());
        }
        missed.is_some()
    }

    /// Ends the terminal's stream, if there is one, and judges whoever comes back for it.
    fn displace(
        &mut self,
        terminal: TerminalId,
        certificate: &str,
        instance: Option<&str>,
        now: Timestamp,
    ) -> Option<Displaced> {
        let older = self.of.remove(&terminal);
        let recent =
            |it: &Fights| it.certificate == certificate && now - it.displaced_at < FIGHTS_APART_MS;
        let before = self.fights.remove(&terminal).filter(recent);
        if older.is_none() && before.is_none() {
            return None;
        }
        let mut fights = before.unwrap_or_else(|| Fights::none(certificate, now));
        let same_process = |it: &Open| instance.is_some() && it.instance.as_deref() == instance;
        let came_back = match (&older, instance) {
            (Some(older), _) if same_process(older) => false,
            (_, Some(name)) => fights.has_ousted(name),
            (_, None) => fights.count_one(now),
        };
        if let Some(other) = older.as_ref().filter(|it| !same_process(it)) {
            fights.oust(other, now);
        }
        let count = fights.count;
        self.fights.insert(terminal, fights);
        let fights = match (came_back, instance) {
            (true, Some(_)) => FIGHTS_MAX,
            (true, None) => count,
            (false, _) => 0,
        };
        match older {
            None if !came_back => None,
            older => Some(Displaced {
                certificate: older.map_or_else(|| certificate.to_owned(), |it| it.certificate),
                fights,
            }),
        }
    }
}

impl Displaced {
    /// Whether two machines with one certificate take each other's stream.
    pub(super) fn is_a_fight(&self) -> bool {
        self.fights >= FIGHTS_MAX
    }
}

impl Fights {
    fn none(certificate: &str, now: Timestamp) -> Self {
        Self {
            certificate: certificate.to_owned(),
            count: 0,
            displaced_at: now - FIGHT_WITHIN_MS,
            ousted: Vec::new(),
        }
    }

    /// A process that was restarted has another name: one that comes back never went away.
    fn has_ousted(&self, instance: &str) -> bool {
        self.ousted.iter().any(|it| it == instance)
    }

    /// Whether somebody lost the stream a moment ago: this is them, or their copy.
    fn count_one(&mut self, now: Timestamp) -> bool {
        let soon = now - self.displaced_at < FIGHT_WITHIN_MS;
        self.count += u32::from(soon);
        soon
    }

    fn oust(&mut self, other: &Open, now: Timestamp) {
        self.displaced_at = now;
        let Some(name) = &other.instance else {
            return;
        };
        self.ousted.retain(|it| it != name);
        if self.ousted.len() >= OUSTED_MAX {
            self.ousted.remove(0);
        }
        self.ousted.push(name.clone());
    }
}
