//! Was a link from a tag used at two places?
//!
//! A phone that is too late brings the same link as the one that was faster: two people at one till do that
//! now and then. Many a day are no chance: links of this tag go somewhere else. A terminal that does not hear
//! us shows a spent link until its window ends, to everybody, so nothing is counted there. Networks are compared
//! in memory and kept nowhere; only how many links it were is stored. A browser that repeats its own claim is
//! answered before it comes here.

use std::collections::HashMap;
use std::mem::take;
use std::sync::{Mutex, PoisonError};

use protocol::ids::TerminalId;
use protocol::presented::Presented;
use protocol::problem::ProblemType;
use protocol::time::{Millis, Timestamp};
use protocol::token::Channel;

use super::Failure;
use super::claims::NewClaim;
use super::sources::Source;

/// Spent links that are remembered at a time; more, and all are forgotten.
pub const LINKS_MAX: usize = 65_536;
/// How long after its claim a link is remembered: a default window and its grace, and as long again.
pub const LINK_KEPT_MS: Millis = 15 * 60_000;

/// Where links were spent lately, and how many came again from elsewhere.
#[derive(Default)]
pub struct Places(Mutex<State>);

#[derive(Default)]
struct State {
    links: HashMap<(TerminalId, [u8; 16]), Link>,
    elsewhere: HashMap<TerminalId, u32>,
}

struct Link {
    spent_from: Source,
    at: Timestamp,
    counted: bool,
}

impl Places {
    /// What became of a claim of `text` that came `from` there; `hears` says whether a terminal is connected.
    pub fn note(
        &self,
        text: &str,
        from: Option<Source>,
        claimed: &Result<NewClaim, Failure>,
        hears: impl FnOnce(TerminalId) -> bool,
        now: Timestamp,
    ) {
        let Ok(presented) = Presented::parse(text) else {
            return;
        };
        let (Some(token), Some(from)) = (presented.machine_token(), from) else {
            return;
        };
        let terminal = presented.terminal();
        let link = (terminal, *token.as_bytes());
        let problem = |why: &Failure| why.kind().problem_type();
        match claimed {
            Ok(new) if new.view.channel == Channel::Nfc => self.spent(link, from, now),
            Err(why) if problem(why) == Some(ProblemType::TokenSpent) && hears(terminal) => {
                self.again(link, from, now);
            }
            _ => {}
        }
    }

    /// How many links of each terminal came again from elsewhere since the last call.
    pub fn take(&self, now: Timestamp) -> Vec<(TerminalId, u32)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.links.retain(|_, link| now - link.at < LINK_KEPT_MS);
        take(&mut state.elsewhere).into_iter().collect()
    }

    fn spent(&self, link: (TerminalId, [u8; 16]), from: Source, now: Timestamp) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.links.len() >= LINKS_MAX {
            state.links.clear();
        }
        let spent = Link {
            spent_from: from,
            at: now,
            counted: false,
        };
        // The same claim repeated does not move it.
        state.links.entry(link).or_insert(spent);
    }

    /// Each link counts once.
    fn again(&self, link: (TerminalId, [u8; 16]), from: Source, now: Timestamp) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = state.links.get_mut(&link) else {
            return;
        };
        let elsewhere = known.spent_from != from && now - known.at < LINK_KEPT_MS;
        if elsewhere && !std::mem::replace(&mut known.counted, true) {
            *state.elsewhere.entry(link.0).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_459_201_000);

    fn from(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    fn link(n: u8) -> (TerminalId, [u8; 16]) {
        (TerminalId::from_number(1).unwrap(), [n; 16])
    }

    #[test]
    fn a_link_counts_once_and_only_from_another_network_than_it_was_spent_from() {
        let places = Places::default();
        places.spent(link(1), from(1), NOW);
        places.spent(link(2), from(1), NOW);
        places.again(link(1), from(1), NOW);
        places.again(link(9), from(2), NOW);
        assert_eq!(places.take(NOW), []);
        for again in [from(2), from(3), from(2)] {
            places.again(link(1), again, NOW);
            places.again(link(2), again, NOW);
        }
        assert_eq!(places.take(NOW), [(link(1).0, 2)]);
        assert_eq!(places.take(NOW), []);
    }

    #[test]
    fn what_was_spent_long_ago_and_what_is_too_much_is_forgotten() {
        let places = Places::default();
        places.spent(link(1), from(1), NOW);
        places.again(link(1), from(2), NOW + LINK_KEPT_MS);
        assert_eq!(places.take(NOW + LINK_KEPT_MS), []);
        assert!(places.0.lock().unwrap().links.is_empty());
        for n in 0..LINKS_MAX + 9 {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            places.spent((link(1).0, bytes), from(1), NOW);
        }
        assert!(places.0.lock().unwrap().links.len() <= LINKS_MAX);
    }
}
