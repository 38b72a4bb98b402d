//! How is a terminal window drawn on, and left as it was found?

use std::fs::File;
use std::io::{self, Write};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr,
    tcgetwinsize, tcsetattr,
};

/// A second screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Colours back, cursor back, first screen back.
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";
/// Between these a terminal that knows them shows nothing, and then everything at once.
const HOLD: &str = "\x1b[?2026h";
const RELEASE: &str = "\x1b[?2026l";
/// What is taken for a window that does not say its size: columns, rows.
const USUAL: Size = (80, 24);

/// Columns and rows.
pub(super) type Size = (usize, usize);

/// A terminal window that is ours until it is dropped.
pub(super) struct Window {
    tty: File,
    before: Termios,
    drawn: Option<(Size, Vec<String>)>,
}

impl Window {
    pub(super) fn open(tty: File) -> io::Result<Self> {
        let before = tcgetattr(&tty)?;
        let mut window = Self {
            tty,
            before,
            drawn: None,
        };
        let mut settings = window.before.clone();
        // What is typed is not shown, and Ctrl-S does not stop the picture. Ctrl-C ends us, as anything.
        settings
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON);
        settings.input_modes.remove(InputModes::IXON);
        tcsetattr(&window.tty, OptionalActions::Now, &settings)?;
        window.tty.write_all(ENTER.as_bytes())?;
        Ok(window)
    }

    pub(super) fn size(&self) -> Size {
        match tcgetwinsize(&self.tty) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => USUAL,
        }
    }

    /// Draws rows over what is there, in one piece and only if it is another picture.
    pub(super) fn draw(&mut self, size: Size, rows: Vec<String>) -> io::Result<()> {
        let picture = Some((size, rows));
        if self.drawn == picture {
            return Ok(());
        }
        self.drawn = picture;
        let mut text = String::from(HOLD);
        let rows = self.drawn.iter().flat_map(|(_, rows)| rows);
        for (row, line) in (1..=size.1).zip(rows) {
            text += &format!("\x1b[{row};1H{line}\x1b[0m\x1b[K");
        }
        text += "\x1b[J";
        text += RELEASE;
        self.tty.write_all(text.as_bytes())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // A window that is gone needs nothing back.
        let _ = self.tty.write_all(LEAVE.as_bytes());
        let _ = tcflush(&self.tty, QueueSelector::IFlush);
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &self.before);
    }
}
