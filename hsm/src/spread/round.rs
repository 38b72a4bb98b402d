//! Who is asked one request, in which order, and what is said if nobody could answer it?

use std::collections::VecDeque;

use super::board::{Board, Ticket};
use crate::HsmError;

pub(super) struct Round {
    /// Those of the first rank before anybody of the next.
    ranks: VecDeque<Vec<usize>>,
    refusals: Vec<(usize, HsmError)>,
}

impl Round {
    pub(super) fn new(ranks: impl Into<VecDeque<Vec<usize>>>) -> Self {
        Self {
            ranks: ranks.into(),
            refusals: Vec::new(),
        }
    }

    /// The next member to ask; each is asked once.
    pub(super) fn next(&mut self, board: &Board) -> Option<Ticket> {
        while let Some(rank) = self.ranks.front_mut() {
            if let Some(ticket) = board.take(rank) {
                rank.retain(|member| *member != ticket.member);
                return Some(ticket);
            }
            self.ranks.pop_front();
        }
        None
    }

    /// Enough was tried.
    pub(super) fn end(&mut self) {
        self.ranks.clear();
    }

    pub(super) fn handle_refusal(&mut self, member: usize, error: HsmError) {
        self.refusals.push((member, error));
    }

    /// Who refused, and how.
    pub(super) fn refusals(&self) -> &[(usize, HsmError)] {
        &self.refusals
    }

    /// Of several refusals the one that says least about the request: a key is unknown, or a seed foreign,
    /// only if nobody had other troubles.
    pub(super) fn verdict(self) -> HsmError {
        let mut refusals: Vec<_> = self.refusals.into_iter().map(|(_, error)| error).collect();
        refusals.sort_by_key(says_of_the_request);
        let verdict = refusals.into_iter().next();
        verdict.unwrap_or_else(|| HsmError::Busy {
            detail: "no HSM token of the spread could be asked in time".into(),
        })
    }
}

fn says_of_the_request(error: &HsmError) -> u8 {
    match error {
        HsmError::Busy { .. }
        | HsmError::SessionLost { .. }
        | HsmError::DeviceLost { .. }
        | HsmError::PinRefused { .. }
        | HsmError::TokenUnknown { .. }
        | HsmError::ModuleAbsent { .. } => 0,
        HsmError::KeyDiffers { .. } | HsmError::Unsupported { .. } | HsmError::Bug { .. } => 1,
        HsmError::NotOurKey { .. } => 2,
        HsmError::CallerFault { .. } | HsmError::LabelTaken { .. } => 3,
        HsmError::KeyUnknown { .. } => 4,
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn unknown() -> HsmError {
        HsmError::KeyUnknown { label: "k".into() }
    }

    fn lost() -> HsmError {
        HsmError::DeviceLost {
            detail: "test".into(),
        }
    }

    #[test]
    fn everybody_is_asked_once_and_the_next_rank_after_the_first() {
        let board = Board::new(4);
        let mut round = Round::new([vec![1, 3], vec![0]]);
        let mut order = Vec::new();
        while let Some(ticket) = round.next(&board) {
            order.push(ticket.member);
        }
        assert_eq!(order, [1, 3, 0]);
    }

    #[test]
    fn a_key_is_unknown_only_if_everybody_says_so() {
        let mut round = Round::new([vec![]]);
        round.handle_refusal(0, unknown());
        round.handle_refusal(1, unknown());
        assert_eq!(round.verdict(), unknown());
        let mut round = Round::new([vec![]]);
        round.handle_refusal(0, unknown());
        round.handle_refusal(1, lost());
        assert_eq!(round.verdict(), lost());
    }

    #[test]
    fn who_could_ask_nobody_is_told_to_come_later() {
        let verdict = Round::new([vec![]]).verdict();
        assert_eq!(verdict.outcome(), "busy");
    }
}
