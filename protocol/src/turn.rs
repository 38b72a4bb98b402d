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

/// The turn of a window that has used up all others. No token of this turn is shown or taken: a
/// last turn that counted could not move on, so a token shown for one charge could claim the next.
pub const TURN_SHUT: u16 = u16::MAX;

/// The turn after `turn`; none when the window is shut, and stays so until the next boundary.
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct KnownTurns(BTreeMap<WindowId, u16>);

/// Most windows a terminal remembers turns of; then the fullest channel loses its oldest window.
pub const KNOWN_TURNS_MAX: usize = 4_096;

impl KnownTurns {
    /// Takes in what the authority says; true when it changes anything.
    pub fn absorb(&mut self, states: impl IntoIterator<Item = TurnState>) -> bool {
        let mut changed = false;
        for state in states {
            if state.turn > self.of(&state.window) {
                self.0.insert(state.window, state.turn);
                changed = true;
            }
            if self.0.len() > KNOWN_TURNS_MAX {
                self.drop_oldest();
            }
        }
        changed
    }

    /// The turn to show; none while the window is shut.
    pub fn to_show(&self, window: &WindowId) -> Option<u16> {
        Some(self.of(window)).filter(|turn| *turn != TURN_SHUT)
    }

    /// The highest turn heard of: 0 until the authority has said otherwise.
    pub fn of(&self, window: &WindowId) -> u16 {
        self.0.get(window).copied().unwrap_or(0)
    }

    /// Forgets every epoch before `epoch`.
    pub fn forget_before(&mut self, epoch: u32) {
        self.0.retain(|window, _| window.epoch >= epoch);
    }

    fn drop_oldest(&mut self) {
        let of_channel = |channel| self.0.keys().filter(move |w| w.channel == channel);
        let oldest = Channel::ALL
            .into_iter()
            .max_by_key(|channel| of_channel(*channel).count())
            .and_then(|fullest| of_channel(fullest).min_by_key(|w| (w.epoch, w.window)))
            .copied();
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}
