//! What does the journal say, all of it together?

use std::collections::BTreeMap;

use protocol::audit::Head;
use protocol::ids::TerminalId;
use protocol::sun::TagUid;
use protocol::time::{Millis, Timestamp};

use super::fact::{
    Fact, GENESIS, Line, LockedShopper, MadeKey, NumberedPolicy, RemovedPasskey, RetiredTag,
    Revoked, TaintedKey, hex, unhex,
};

/// How long a revocation is kept past the end of its certificate, and a passkey past its removal: longer
/// than any grace, or backup.
pub(crate) const REVOKED_KEPT_MS: Millis = 400 * 24 * 3_600_000;
/// Most checkpoints shown by terminals that are kept: one is enough to fence.
pub(crate) const SHOWN_MAX: usize = 16;

/// Every line folded into what counts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Which journal this is.
    pub journal: String,
    pub node: String,
    /// The highest that was ever in force.
    pub generation: u32,
    /// By terminal and the generation in which they were journalled: a raise carries them out, and seed
    /// versions may come again after it, so what was banned before binds none that follows.
    pub bans: BTreeMap<TerminalId, BTreeMap<u32, Ban>>,
    /// By serial.
    pub revoked: BTreeMap<String, Revocation>,
    /// Keys of receipts and checkpoints, by kid.
    pub made: BTreeMap<String, Made>,
    /// By kid.
    pub tainted: BTreeMap<String, TaintedKey>,
    /// Seeds that a compromise replaced.
    pub voided: BTreeMap<TerminalId, Voided>,
    /// Of shoppers, by profile.
    pub locks: BTreeMap<String, ShopperLock>,
    /// That were removed, by profile and SHA-256.
    pub passkeys: BTreeMap<(String, String), PasskeyGone>,
    /// That were retired, each up to the highest version of its keys. Kept for ever: versions only rise.
    pub tags: BTreeMap<TagUid, TagGone>,
    /// By name.
    pub operators: BTreeMap<String, OperatorGone>,
    /// The last that was set.
    pub policy: Option<NumberedPolicy>,
    /// The highest number of a revocation list, by issuing CA.
    pub crls: BTreeMap<String, u64>,
    /// The last head of every chain, of this generation.
    pub heads: BTreeMap<String, Head>,
    /// What terminals showed, of this generation or a later one.
    pub shown: Vec<Shown>,
    /// Number and hash of the last line.
    pub last: (u64, [u8; 32]),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Of the seed, and all before it.
    pub version: u32,
    pub at: Timestamp,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub certificate: Revoked,
    /// When it was journalled.
    pub generation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub key: MadeKey,
    /// When it was journalled.
    pub generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voided {
    /// Every seed version below this one.
    pub below: u32,
    /// When it was journalled.
    pub generation: u32,
}

/// The last that was journalled of a shopper's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopperLock {
    pub turn: u32,
    /// None: unlocked.
    pub locked: Option<LockedShopper>,
    /// When it was journalled.
    pub generation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyGone {
    pub at: Timestamp,
    /// When it was journalled.
    pub generation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagGone {
    pub tag: RetiredTag,
    /// When it was journalled.
    pub generation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorGone {
    pub by: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub terminal: String,
    pub generation: u32,
    pub heads: Vec<Head>,
}

impl Known {
    /// A journal in which nothing stands yet.
    pub fn nothing(journal: String, node: String) -> Self {
        Self {
            journal,
            node,
            generation: 0,
            bans: BTreeMap::new(),
            revoked: BTreeMap::new(),
            made: BTreeMap::new(),
            tainted: BTreeMap::new(),
            voided: BTreeMap::new(),
            locks: BTreeMap::new(),
            passkeys: BTreeMap::new(),
            tags: BTreeMap::new(),
            operators: BTreeMap::new(),
            policy: None,
            crls: BTreeMap::new(),
            heads: BTreeMap::new(),
            shown: Vec::new(),
            last: (0, GENESIS),
        }
    }

    /// The same knowledge in a new journal, whose lines count from 1.
    pub(super) fn renamed(&self, journal: String) -> Self {
        Self {
            journal,
            last: (0, GENESIS),
            ..self.clone()
        }
    }

    /// Takes one more fact. Numbers only rise, refusals and keys only grow, in whatever order they come.
    pub fn take(&mut self, fact: &Fact) {
        match fact {
            Fact::Opened { journal, node, .. } => {
                self.journal.clone_from(journal);
                self.node.clone_from(node);
            }
            Fact::Generation { generation } => self.begin(*generation),
            Fact::Banned {
                terminal,
                version,
                banned_at,
                reason,
            } => self.ban(*terminal, *version, *banned_at, reason),
            Fact::Revoked(certificate) => {
                let revocation = Revocation {
                    certificate: certificate.clone(),
                    generation: self.generation,
                };
                let serial = certificate.serial.clone();
                self.revoked.entry(serial).or_insert(revocation);
            }
            Fact::Made(key) => {
                let made = Made {
                    key: key.clone(),
                    generation: self.generation,
                };
                self.made.entry(key.kid.clone()).or_insert(made);
            }
            Fact::Tainted(key) => {
                let kid = key.kid.clone();
                self.tainted.entry(kid).or_insert_with(|| key.clone());
            }
            Fact::Reseeded { terminal, version } => self.void(*terminal, *version),
            Fact::ShopperLocked(lock) => self.lock(&lock.person, lock.turn, Some(lock)),
            Fact::ShopperUnlocked { person, turn } => self.lock(person, *turn, None),
            Fact::PasskeyRemoved(gone) => {
                let key = (gone.person.clone(), gone.sha256.clone());
                let gone = PasskeyGone {
                    at: gone.removed_at,
                    generation: self.generation,
                };
                self.passkeys.insert(key, gone);
            }
            Fact::TagRetired(tag) => self.retire(tag),
            Fact::OperatorRevoked {
                operator,
                by,
                revoked_at,
            } => {
                let gone = OperatorGone {
                    by: by.clone(),
                    at: *revoked_at,
                };
                self.operators.entry(operator.clone()).or_insert(gone);
            }
            Fact::Policy(set) => self.set_policy(set),
            Fact::Crl { issuer_key, number } => {
                let highest = self.crls.entry(issuer_key.clone()).or_default();
                *highest = (*highest).max(*number);
            }
            Fact::Checkpoint { heads } => {
                for head in heads {
                    self.heads.insert(head.node.clone(), head.clone());
                }
            }
            Fact::Shown {
                terminal,
                generation,
                heads,
            } => self.show(terminal, *generation, heads),
        }
    }

    /// The ban of this generation, or a later one, that holds for most seed versions.
    pub fn ban_since(&self, generation: u32, terminal: TerminalId) -> Option<&Ban> {
        let of_terminal = self.bans.get(&terminal)?;
        let since = of_terminal.range(generation..);
        since.map(|(_, ban)| ban).max_by_key(|ban| ban.version)
    }

    /// The version of keys up to which nothing counts that this tag signs; 0: it was never retired.
    pub fn retired_up_to(&self, uid: TagUid) -> u8 {
        self.tags.get(&uid).map_or(0, |gone| gone.tag.key_version)
    }

    /// The highest generation that anything here speaks of.
    pub fn highest_generation(&self) -> u32 {
        let shown = self.shown.iter().map(|shown| shown.generation);
        shown.fold(self.generation, u32::max)
    }

    /// The facts that, read in this order, come to the same; revocations of certificates long over
    /// at `now` are left out.
    pub fn facts(&self, now: Timestamp) -> Vec<Fact> {
        let after = (self.last.0 > 0).then(|| hex(&self.last.1));
        let mut facts = vec![Fact::Opened {
            journal: self.journal.clone(),
            node: self.node.clone(),
            after,
        }];
        for (generation, of_it) in self.of_generations(now) {
            if generation > 0 {
                facts.push(Fact::Generation { generation });
            }
            facts.extend(of_it);
        }
        if self.generation > 0 {
            facts.push(Fact::Generation {
                generation: self.generation,
            });
        }
        let crl = |(issuer_key, number): (&String, &u64)| Fact::Crl {
            issuer_key: issuer_key.clone(),
            number: *number,
        };
        facts.extend(self.crls.iter().map(crl));
        facts.extend(self.refusals_of_house());
        if !self.heads.is_empty() {
            let heads = self.heads.values().cloned().collect();
            facts.push(Fact::Checkpoint { heads });
        }
        facts.extend(self.shown.iter().map(|shown| Fact::Shown {
            terminal: shown.terminal.clone(),
            generation: shown.generation,
            heads: shown.heads.clone(),
        }));
        facts
    }

    /// By the generation in which they were journalled.
    fn of_generations(&self, now: Timestamp) -> BTreeMap<u32, Vec<Fact>> {
        let mut by_generation: BTreeMap<u32, Vec<Fact>> = BTreeMap::new();
        let bans = self.bans.iter();
        let bans = bans.flat_map(|(terminal, of_it)| of_it.iter().map(move |ban| (terminal, ban)));
        for (terminal, (generation, ban)) in bans {
            let facts = by_generation.entry(*generation).or_default();
            facts.push(Fact::Banned {
                terminal: *terminal,
                version: ban.version,
                banned_at: ban.at,
                reason: ban.reason.clone(),
            });
        }
        for Revocation {
            certificate,
            generation,
        } in self.revoked.values()
        {
            if certificate.not_after + REVOKED_KEPT_MS >= now {
                let facts = by_generation.entry(*generation).or_default();
                facts.push(Fact::Revoked(certificate.clone()));
            }
        }
        for (terminal, voided) in &self.voided {
            let facts = by_generation.entry(voided.generation).or_default();
            facts.push(Fact::Reseeded {
                terminal: *terminal,
                version: voided.below,
            });
        }
        self.of_shoppers(now, &mut by_generation);
        for TagGone { tag, generation } in self.tags.values() {
            let facts = by_generation.entry(*generation).or_default();
            facts.push(Fact::TagRetired(tag.clone()));
        }
        for Made { key, generation } in self.made.values() {
            let facts = by_generation.entry(*generation).or_default();
            facts.push(Fact::Made(key.clone()));
        }
        by_generation
    }

    /// Locks that hold, and passkeys that somebody may still have a backup of.
    fn of_shoppers(&self, now: Timestamp, by_generation: &mut BTreeMap<u32, Vec<Fact>>) {
        for lock in self.locks.values() {
            if let Some(locked) = &lock.locked {
                let facts = by_generation.entry(lock.generation).or_default();
                facts.push(Fact::ShopperLocked(locked.clone()));
            }
        }
        for ((person, sha256), gone) in &self.passkeys {
            if gone.at + REVOKED_KEPT_MS >= now {
                let facts = by_generation.entry(gone.generation).or_default();
                facts.push(Fact::PasskeyRemoved(RemovedPasskey {
                    person: person.clone(),
                    sha256: sha256.clone(),
                    removed_at: gone.at,
                }));
            }
        }
    }

    /// Keys, operators and their policy: a raise carries all of them out, whenever they were journalled.
    fn refusals_of_house(&self) -> Vec<Fact> {
        let mut facts: Vec<Fact> = self.tainted.values().cloned().map(Fact::Tainted).collect();
        let gone = |(operator, gone): (&String, &OperatorGone)| Fact::OperatorRevoked {
            operator: operator.clone(),
            by: gone.by.clone(),
            revoked_at: gone.at,
        };
        facts.extend(self.operators.iter().map(gone));
        facts.extend(self.policy.clone().map(Fact::Policy));
        facts
    }

    /// What was true of the chains of an earlier generation says nothing of this one.
    fn begin(&mut self, generation: u32) {
        if generation > self.generation {
            self.generation = generation;
            self.heads.clear();
            self.shown.retain(|shown| shown.generation >= generation);
        }
    }

    fn ban(&mut self, terminal: TerminalId, version: u32, at: Timestamp, reason: &str) {
        let of_terminal = self.bans.entry(terminal).or_default();
        let generation = self.generation;
        let newer = of_terminal
            .get(&generation)
            .is_none_or(|known| version > known.version);
        if newer {
            // One of before that this one covers says nothing more.
            of_terminal.retain(|before, known| *before > generation || known.version > version);
            let ban = Ban {
                version,
                at,
                reason: reason.into(),
            };
            of_terminal.insert(generation, ban);
        }
    }

    fn void(&mut self, terminal: TerminalId, below: u32) {
        let newer = self
            .voided
            .get(&terminal)
            .is_none_or(|known| below > known.below);
        if newer {
            let generation = self.generation;
            self.voided.insert(terminal, Voided { below, generation });
        }
    }

    /// Turns rise within a generation; a copy may be behind in them, so a later generation goes before.
    fn lock(&mut self, person: &str, turn: u32, locked: Option<&LockedShopper>) {
        let generation = self.generation;
        let known = self.locks.get(person);
        if known.is_none_or(|known| (generation, turn) > (known.generation, known.turn)) {
            let lock = ShopperLock {
                turn,
                locked: locked.cloned(),
                generation,
            };
            self.locks.insert(person.into(), lock);
        }
    }

    fn retire(&mut self, tag: &RetiredTag) {
        if tag.key_version > self.retired_up_to(tag.uid) {
            let gone = TagGone {
                tag: tag.clone(),
                generation: self.generation,
            };
            self.tags.insert(tag.uid, gone);
        }
    }

    fn set_policy(&mut self, set: &NumberedPolicy) {
        let newer = self
            .policy
            .as_ref()
            .is_none_or(|known| set.number > known.number);
        if newer {
            self.policy = Some(set.clone());
        }
    }

    fn show(&mut self, terminal: &str, generation: u32, heads: &[Head]) {
        let raises = generation > self.highest_generation();
        if generation < self.generation || (self.shown.len() >= SHOWN_MAX && !raises) {
            return;
        }
        self.shown.truncate(SHOWN_MAX - 1);
        self.shown.push(Shown {
            terminal: terminal.into(),
            generation,
            heads: heads.to_vec(),
        });
    }
}

/// Folds lines in their order.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) known: Known,
    /// Number of the first line that stands in the file.
    pub(super) first: u64,
    /// Of every line that stands there.
    pub(super) hashes: Vec<[u8; 32]>,
    /// The first line that does not follow, in words.
    pub(super) broken: Option<String>,
}

impl Fold {
    pub(super) fn new() -> Self {
        Self {
            known: Known::nothing(String::new(), String::new()),
            first: 1,
            hashes: Vec::new(),
            broken: None,
        }
    }

    /// Takes the next line. What it says counts even if it does not follow: it can only refuse more.
    pub(super) fn take(&mut self, place: usize, line: &Line, linked: &super::fact::Linked<'_>) {
        let previous = match (&line.fact, self.hashes.last()) {
            (Fact::Opened { after, .. }, None) => {
                self.first = line.n;
                after.as_deref().map_or(Some(GENESIS), unhex)
            }
            (_, Some(last)) => Some(*last),
            (_, None) => None,
        };
        let expected = self.first + self.hashes.len() as u64;
        let follows = previous.is_some_and(|previous| linked.follows(&previous).is_ok());
        if !follows || line.n != expected {
            self.breaks(place);
        }
        self.known.take(&line.fact);
        self.known.last = (line.n, linked.stated);
        self.hashes.push(linked.stated);
    }

    pub(super) fn breaks(&mut self, place: usize) {
        self.broken
            .get_or_insert_with(|| format!("line {place} of the file does not follow"));
    }
}
