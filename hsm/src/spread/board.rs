//! Which HSM token of a spread is asked next?
//!
//! The one with the fewest requests in hand; among equals each in its turn, so that none is found broken
//! only when it is needed.

use crate::sync::{Arc, Mutex, lock};

pub(super) struct Board {
    state: Arc<Mutex<State>>,
}

/// One request in the hands of one member, until it is dropped.
pub(super) struct Ticket {
    state: Arc<Mutex<State>>,
    pub(super) member: usize,
    answers: u64,
}

/// How often a member had answered when it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) member: usize,
    pub(super) answers: u64,
}

struct State {
    seats: Vec<Seat>,
    turn: usize,
}

#[derive(Clone, Default)]
struct Seat {
    in_hand: usize,
    answers: u64,
}

impl Board {
    pub(super) fn new(members: usize) -> Self {
        let seats = vec![Seat::default(); members];
        let state = Arc::new(Mutex::new(State { seats, turn: 0 }));
        Self { state }
    }

    /// The least busy of these; none if there are none.
    pub(super) fn take(&self, candidates: &[usize]) -> Option<Ticket> {
        let mut state = lock(&self.state);
        let (turn, members) = (state.turn, state.seats.len());
        let burden = |member: &&usize| {
            let waits = (**member + members - turn % members) % members;
            (state.seats[**member].in_hand, waits)
        };
        let member = *candidates.iter().min_by_key(burden)?;
        state.turn = member + 1;
        state.seats[member].in_hand += 1;
        Some(Ticket {
            state: self.state.clone(),
            member,
            answers: state.seats[member].answers,
        })
    }

    /// How often this member has answered anything.
    pub(super) fn answers(&self, member: usize) -> u64 {
        lock(&self.state).seats[member].answers
    }

    #[cfg(test)]
    pub(super) fn in_hand(&self) -> usize {
        lock(&self.state).seats.iter().map(|it| it.in_hand).sum()
    }
}

impl Ticket {
    pub(super) fn mark(&self) -> Mark {
        Mark {
            member: self.member,
            answers: self.answers,
        }
    }

    /// The member said something, be it a refusal.
    pub(super) fn answered(self) {
        lock(&self.state).seats[self.member].answers += 1;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.state).seats[self.member].in_hand -= 1;
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn the_least_busy_is_asked() {
        let board = Board::new(3);
        let held: Vec<_> = [0, 0, 1, 2, 2, 2]
            .map(|member| board.take(&[member]).unwrap())
            .into();
        assert_eq!(board.take(&[0, 1, 2]).unwrap().member, 1);
        assert_eq!(board.take(&[0, 2]).unwrap().member, 0);
        drop(held);
        assert_eq!(board.in_hand(), 0);
    }

    #[test]
    fn equals_are_asked_in_turn() {
        let board = Board::new(3);
        let all = [0, 1, 2];
        let order: Vec<_> = (0..6).map(|_| board.take(&all).unwrap().member).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        assert!(board.take(&[]).is_none());
    }

    #[test]
    fn who_answers_is_told_from_who_is_silent() {
        let board = Board::new(2);
        let (one, other) = (board.take(&[0]).unwrap(), board.take(&[0]).unwrap());
        let before = one.mark().answers;
        other.answered();
        assert_ne!(board.answers(0), before, "it answered something meanwhile");
        assert_eq!(board.answers(1), 0);
        assert_eq!(board.in_hand(), 1);
    }
}

#[cfg(all(test, feature = "loom"))]
mod model {
    use loom::thread;

    use super::*;
    use crate::model::explore;

    #[test]
    fn two_at_once_are_spread_over_two_and_nothing_stays_in_hand() {
        explore(|| {
            let board = Arc::new(Board::new(2));
            let (here, there) = (board.clone(), board.clone());
            // Not dropped before both are taken.
            let other = thread::spawn(move || there.take(&[0, 1]).unwrap());
            let mine = here.take(&[0, 1]).unwrap();
            let others = other.join().unwrap();
            assert_ne!(mine.member, others.member);
            let gives_up = thread::spawn(move || drop(mine));
            others.answered();
            gives_up.join().unwrap();
            assert_eq!(board.in_hand(), 0);
            assert_eq!(board.answers(0) + board.answers(1), 1);
        });
    }
}
