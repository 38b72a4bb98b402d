//! Which link was on a tag?

use protocol::ids::TerminalId;
use protocol::wire::reports::SeenWindow;
use rusqlite::Row;

use super::super::row::get;
use crate::store::Result;

/// A link on nfc, in the order in which a terminal shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Place {
    pub(in super::super) epoch: u32,
    pub(in super::super) window: u16,
    pub(in super::super) turn: u16,
}

/// From the link on the tag to the one that took its place, and what was never told of in between.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Span {
    pub(in super::super) terminal: TerminalId,
    pub(in super::super) from: Place,
    pub(in super::super) until: Place,
}

impl Place {
    /// From the columns epoch, window and turn.
    pub(in super::super) fn read(row: &Row<'_>) -> Result<Option<Self>> {
        Self::of([get(row, "epoch")?, get(row, "window")?, get(row, "turn")?])
    }

    /// What took its place, if that was told.
    pub(in super::super) fn read_until(row: &Row<'_>) -> Result<Option<Self>> {
        Self::of([
            get(row, "until_epoch")?,
            get(row, "until_window")?,
            get(row, "until_turn")?,
        ])
    }

    fn of(columns: [Option<u32>; 3]) -> Result<Option<Self>> {
        let [Some(epoch), Some(window), Some(turn)] = columns else {
            return Ok(None);
        };
        let number = |column: u32| {
            u16::try_from(column)
                .map_err(|_| super::super::error::corrupt(format!("window {column}")))
        };
        Ok(Some(Self {
            epoch,
            window: number(window)?,
            turn: number(turn)?,
        }))
    }
}

impl From<SeenWindow> for Place {
    fn from(seen: SeenWindow) -> Self {
        Self {
            epoch: seen.epoch,
            window: seen.window,
            turn: seen.turn,
        }
    }
}
