//! Which link was on a tag?

use crate::store::sql::conn::Row;
use protocol::ids::TerminalId;
use protocol::wire::reports::SeenWindow;

use super::super::row::get;
use crate::store::{Result, SPAN_EPOCHS_MAX};

/// A link on nfc, in the order in which a terminal shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Place {
    pub(in super::super) epoch: u32,
    pub(in super::super) window: u16,
    pub(in super::super) turn: u16,
}

/// From the link on the tag to the one that took its place, and what was never told of in between: of no more
/// epochs than somebody can count through.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Span {
    terminal: TerminalId,
    begins: Place,
    ends: Place,
}

impl Span {
    /// None if it is longer than [`SPAN_EPOCHS_MAX`]. Places are what terminals say.
    pub(in super::super) fn new(terminal: TerminalId, begins: Place, ends: Place) -> Option<Self> {
        let epochs = ends.epoch.saturating_sub(begins.epoch);
        (epochs <= SPAN_EPOCHS_MAX).then_some(Self {
            terminal,
            begins,
            ends,
        })
    }

    pub(super) fn terminal(&self) -> TerminalId {
        self.terminal
    }

    pub(super) fn begins(&self) -> Place {
        self.begins
    }

    pub(super) fn ends(&self) -> Place {
        self.ends
    }
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
                .map_err(|_| crate::store::sqlite::error::corrupt(format!("window {column}")))
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
