//! When does a token change before its window ends?
//!
//! A turn starts at 0 in every window and only the authority advances it, in the transaction that
//! causes it:
//!
//! | cause | moves |
//! |---|---|
//! | a token is spent | the window it was spent in |
//! | a charge starts or ends, a claim is released | every acceptable qr and code window |
//!
//! The nfc turn moves by spends only, because tags wear. Absolute turns travel to the terminal,
//! which keeps the highest it has seen: late, doubled and reordered messages change nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::token::{Channel, TokenId, WindowId};

/// Why turns move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnCause {
    Spent(TokenId),
    ChargeStarted,
    ChargeEnded,
    ClaimReleased,
}

impl TurnCause {
    /// Which of the windows acceptable now move by one.
    pub fn moves(self, acceptable: impl IntoIterator<Item = WindowId>) -> Vec<WindowId> {
        let moves = |window: &WindowId| match self {
            Self::Spent(token) => *window == token.window,
            Self::ChargeStarted | Self::ChargeEnded | Self::ClaimReleased => {
                window.channel != Channel::Nfc
            }
        };
        acceptable.into_iter().filter(moves).collect()
    }
}

/// The turn after `turn`; none when a window has used up all of them, and it stays shut until the
/// next boundary.
pub fn next_turn(turn: u16) -> Option<u16> {
    turn.checked_add(1)
}

/// The absolute turn of one window, as it travels to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnState {
    #[serde(flatten)]
    pub window: WindowId,
    pub turn: u16,
}

/// What a terminal knows of turns: the highest of every window, ignoring the past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownTurns(BTreeMap<WindowId, u16>);

/// Most windows a terminal remembers turns of; the oldest epochs go first.
pub const KNOWN_TURNS_MAX: usize = 4_096;

impl KnownTurns {
    /// Takes in what the authority says; true when it changes anything.
    pub fn absorb(&mut self, states: impl IntoIterator<Item = TurnState>) -> bool {
        let mut changed = false;
        for state in states {
            let known = self.0.entry(state.window).or_insert(0);
            if state.turn > *known {
                *known = state.turn;
                changed = true;
            }
        }
        while self.0.len() > KNOWN_TURNS_MAX {
            self.drop_oldest_epoch();
        }
        changed
    }

    /// The turn to show: 0 until the authority has said otherwise.
    pub fn of(&self, window: &WindowId) -> u16 {
        self.0.get(window).copied().unwrap_or(0)
    }

    /// Forgets every epoch before `epoch`.
    pub fn forget_before(&mut self, epoch: u32) {
        self.0.retain(|window, _| window.epoch >= epoch);
    }

    fn drop_oldest_epoch(&mut self) {
        if let Some(oldest) = self.0.keys().map(|window| window.epoch).min() {
            self.forget_before(oldest + 1);
        }
    }
}
