//! What speaks against this database?

use std::fmt;

use protocol::time::Timestamp;

use crate::journal::{Contents, Found, Known, Last};
use crate::store::{Difference, Missing};

/// The name of the verb that raises.
const RAISE: &str = "fence-raise";
/// Most things of one kind that are named.
const NAMED_MAX: usize = 5;

/// One thing that should not be so if this database were the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    JournalGone,
    JournalBroken(String),
    /// It belongs to another authority, or another database wrote it.
    JournalForeign,
    /// The journal ends before a line that this database saw written, or says something else there.
    JournalShort {
        line: u64,
    },
    /// The journal, or a terminal, knows of a later generation.
    Generation {
        here: u32,
        known: u32,
    },
    Bans(Vec<String>),
    Revocations(Vec<String>),
    /// Labels of keys whose signatures are kept.
    Keys(Vec<String>),
    /// Labels of keys that were tainted.
    Taints(Vec<String>),
    /// Terminals whose seed a compromise replaced.
    Seeds(Vec<String>),
    /// Profiles of shoppers, by random id.
    Locks(Vec<String>),
    /// By SHA-256.
    Passkeys(Vec<String>),
    /// By number.
    Tags(Vec<String>),
    Operators(Vec<String>),
    /// A later consent policy was set; how many a raise needs besides the one who asks.
    Policy {
        number: u64,
        raise_needs: u32,
    },
    /// Node and row of a chain that was checkpointed and is not contained here.
    Chain {
        node: String,
        row: u64,
    },
    ListNumbers(Vec<String>),
    /// A terminal showed a checkpoint that we signed and that is not contained here.
    Shown {
        by: String,
        generation: u32,
        at: Timestamp,
    },
    /// Operators raised the generation; this process still has the old one.
    Raised {
        generation: u32,
    },
}

/// Everything that speaks against it; nothing if it may serve.
pub(super) fn reasons(
    found: &Found,
    difference: &Difference,
    node: &str,
    known: &Known,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match (found, &difference.wrote) {
        (Found::Nothing, None) => {}
        (Found::Nothing, Some(_)) => reasons.push(Reason::JournalGone),
        (Found::Journal(contents), wrote) => {
            reasons.extend(of_journal(contents, wrote.as_ref(), node));
        }
    }
    reasons.extend(lost(difference, known));
    reasons
}

/// What was acknowledged and is not here.
pub(in crate::services) fn lost(difference: &Difference, known: &Known) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let highest = known.highest_generation();
    if highest > difference.generation {
        reasons.push(Reason::Generation {
            here: difference.generation,
            known: highest,
        });
    }
    reasons.extend(of_missing(difference));
    reasons
}

fn of_journal(contents: &Contents, wrote: Option<&Last>, node: &str) -> Option<Reason> {
    if let Some(broken) = &contents.broken {
        return Some(Reason::JournalBroken(broken.clone()));
    }
    if contents.known.node != node {
        return Some(Reason::JournalForeign);
    }
    let wrote = wrote?;
    if contents.known.journal != wrote.journal {
        return Some(Reason::JournalForeign);
    }
    let is_folded = wrote.n < contents.first;
    let stands = contents.hash_of(wrote.n) == Some(&wrote.hash);
    (!is_folded && !stands).then_some(Reason::JournalShort { line: wrote.n })
}

fn of_missing(difference: &Difference) -> Vec<Reason> {
    let missing = &difference.missing;
    let mut reasons = Vec::new();
    if !missing.bans.is_empty() {
        let bans = missing.bans.iter().map(ToString::to_string).collect();
        reasons.push(Reason::Bans(bans));
    }
    if !missing.revocations.is_empty() {
        reasons.push(Reason::Revocations(missing.revocations.clone()));
    }
    reasons.extend(of_house(missing));
    let chain = |head: &protocol::audit::Head| Reason::Chain {
        node: head.node.clone(),
        row: head.sequence,
    };
    reasons.extend(missing.heads.iter().map(chain));
    if !missing.crls.is_empty() {
        reasons.push(Reason::ListNumbers(missing.crls.clone()));
    }
    reasons
}

/// Keys, seeds, operators and their policy.
fn of_house(missing: &Missing) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !missing.keys.is_empty() {
        reasons.push(Reason::Keys(missing.keys.clone()));
    }
    if !missing.taints.is_empty() {
        reasons.push(Reason::Taints(missing.taints.clone()));
    }
    if !missing.seeds.is_empty() {
        let seeds = missing.seeds.iter().map(ToString::to_string).collect();
        reasons.push(Reason::Seeds(seeds));
    }
    if !missing.locks.is_empty() {
        reasons.push(Reason::Locks(missing.locks.clone()));
    }
    if !missing.passkeys.is_empty() {
        reasons.push(Reason::Passkeys(missing.passkeys.clone()));
    }
    if !missing.tags.is_empty() {
        let tags = missing.tags.iter().map(ToString::to_string).collect();
        reasons.push(Reason::Tags(tags));
    }
    if !missing.operators.is_empty() {
        reasons.push(Reason::Operators(missing.operators.clone()));
    }
    reasons.extend(missing.policy.as_ref().map(|lost| Reason::Policy {
        number: lost.number,
        raise_needs: lost.policy.required_for(RAISE),
    }));
    reasons
}

impl Reason {
    /// Whether it is the journal that cannot be believed, rather than the database.
    pub fn is_of_journal(&self) -> bool {
        matches!(
            self,
            Self::JournalGone
                | Self::JournalBroken(_)
                | Self::JournalForeign
                | Self::JournalShort { .. }
        )
    }

    /// A generation that somebody knows of.
    pub fn generation(&self) -> Option<u32> {
        match self {
            Self::Shown { generation, .. } => Some(*generation),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JournalGone => write!(f, "the journal is gone, and this database knows of one"),
            Self::JournalBroken(why) => write!(f, "the journal cannot be believed: {why}"),
            Self::JournalForeign => write!(f, "the journal is not the one of this database"),
            Self::JournalShort { line } => {
                write!(
                    f,
                    "line {line} of the journal is not the one this database saw"
                )
            }
            Self::Generation { here, known } => {
                write!(
                    f,
                    "generation {known} was in force, and this database is of {here}"
                )
            }
            Self::Bans(all) => write!(f, "{} ban(s) are missing: {}", all.len(), some(all)),
            Self::Revocations(all) => {
                write!(f, "{} revocation(s) are missing: {}", all.len(), some(all))
            }
            Self::Keys(all) => write!(f, "{} key(s) are missing: {}", all.len(), some(all)),
            Self::Taints(all) => {
                write!(
                    f,
                    "{} tainted key(s) are good here: {}",
                    all.len(),
                    some(all)
                )
            }
            Self::Seeds(all) => write!(
                f,
                "{} compromised seed(s) are good here, of {}",
                all.len(),
                some(all)
            ),
            Self::Locks(all) => {
                write!(
                    f,
                    "{} lock(s) of shoppers are missing: {}",
                    all.len(),
                    some(all)
                )
            }
            Self::Passkeys(all) => write!(
                f,
                "{} removed passkey(s) are good here: {}",
                all.len(),
                some(all)
            ),
            Self::Tags(all) => write!(
                f,
                "{} retired tag(s) are not retired here: {}",
                all.len(),
                some(all)
            ),
            Self::Operators(all) => {
                write!(f, "{} operator(s) were revoked: {}", all.len(), some(all))
            }
            Self::Policy {
                number,
                raise_needs,
            } => write!(
                f,
                "consent policy {number} is not here: a raise needs {raise_needs} besides the one \
                 who asks"
            ),
            Self::Chain { node, row } => {
                write!(f, "row {row} of the audit chain {node:?} is not here")
            }
            Self::ListNumbers(all) => {
                write!(f, "later revocation lists were signed by {}", some(all))
            }
            Self::Shown { by, generation, at } => write!(
                f,
                "{by} showed a checkpoint of {at} (generation {generation}) that is not here"
            ),
            Self::Raised { generation } => {
                write!(
                    f,
                    "the generation was raised to {generation}: start the daemon again"
                )
            }
        }
    }
}

fn some(all: &[String]) -> String {
    let mut named = all[..all.len().min(NAMED_MAX)].join(", ");
    if all.len() > NAMED_MAX {
        named += ", …";
    }
    named
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::GENESIS;

    fn contents(lines: u64) -> Contents {
        let mut known = Known::nothing("j-1".into(), "node-1".into());
        known.generation = 1;
        known.last = (lines, GENESIS);
        Contents {
            known,
            first: 1,
            hashes: (1..=lines).map(|n| [n as u8; 32]).collect(),
            broken: None,
        }
    }

    fn wrote(n: u64) -> Difference {
        Difference {
            generation: 1,
            wrote: Some(Last {
                node: "node-1".into(),
                journal: "j-1".into(),
                n,
                hash: [n as u8; 32],
            }),
            ..Difference::default()
        }
    }

    fn judged(contents: Contents, difference: &Difference) -> Vec<Reason> {
        let known = contents.known.clone();
        reasons(
            &Found::Journal(Box::new(contents)),
            difference,
            "node-1",
            &known,
        )
    }

    #[test]
    fn a_database_and_its_journal_agree() {
        assert_eq!(judged(contents(9), &wrote(9)), []);
        assert_eq!(
            judged(contents(9), &wrote(3)),
            [],
            "the database is told later"
        );
        let mut folded = contents(9);
        folded.first = 100;
        folded.known.last.0 = 108;
        assert_eq!(judged(folded, &wrote(9)), [], "folded since");
    }

    #[test]
    fn nothing_at_all_is_a_first_start_and_a_lost_journal_is_not() {
        let nothing = Known::nothing("new".into(), "node-1".into());
        let first = Difference {
            generation: 1,
            ..Difference::default()
        };
        assert_eq!(reasons(&Found::Nothing, &first, "node-1", &nothing), []);
        let gone = reasons(&Found::Nothing, &wrote(3), "node-1", &nothing);
        assert_eq!(gone, [Reason::JournalGone]);
    }

    #[test]
    fn a_short_forked_foreign_or_broken_journal_speaks_against_the_database() {
        let short = [Reason::JournalShort { line: 10 }];
        assert_eq!(judged(contents(9), &wrote(10)), short);
        let mut forked = contents(9);
        forked.hashes[4] = [0xff; 32];
        let at_five = [Reason::JournalShort { line: 5 }];
        assert_eq!(judged(forked, &wrote(5)), at_five);
        let mut foreign = contents(9);
        foreign.known.journal = "j-2".into();
        assert_eq!(judged(foreign, &wrote(5)), [Reason::JournalForeign]);
        let mut of_another_node = contents(9);
        of_another_node.known.node = "node-2".into();
        assert_eq!(judged(of_another_node, &wrote(5)), [Reason::JournalForeign]);
        let mut broken = contents(9);
        broken.broken = Some("line 3".into());
        let expected = [Reason::JournalBroken("line 3".into())];
        assert_eq!(judged(broken, &wrote(5)), expected);
    }

    #[test]
    fn a_later_generation_anywhere_speaks_against_the_database() {
        let mut raised = contents(9);
        raised.known.take(&crate::journal::Fact::Shown {
            terminal: "00000000".into(),
            generation: 4,
            heads: Vec::new(),
        });
        let expected = [Reason::Generation { here: 1, known: 4 }];
        assert_eq!(judged(raised, &wrote(9)), expected);
    }

    #[test]
    fn whatever_is_missing_is_named_with_a_limit() {
        let mut difference = wrote(9);
        difference.missing.revocations = (0..9).map(|n| n.to_string()).collect();
        let all = judged(contents(9), &difference);
        let text = all[0].to_string();
        assert_eq!(text, "9 revocation(s) are missing: 0, 1, 2, 3, 4, …");
    }
}
