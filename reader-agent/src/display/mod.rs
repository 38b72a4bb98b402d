//! How does a customer display on a serial port show amount and code?
//!
//! ```text
//!  board ──▶ Scene ──▶ lines ──▶ escpos ──▶ port ──▶ the glass
//! ```
//! A port that is not there is tried again; everything else goes on without it.

pub mod escpos;
pub mod lines;
#[cfg(unix)]
mod port;
#[cfg(not(unix))]
#[path = "no_port.rs"]
mod port;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::core::Board;
use crate::look::Look;
use crate::scene::Scene;
use crate::words::Words;
pub use escpos::CodePage;
use lines::{Lines, lines};
use port::Port;

/// What most displays are set to.
pub const BAUD: u32 = 9_600;
/// What displays can be set to.
pub const BAUDS: [u32; 8] = [1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200];

/// Where the display is, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayPort {
    pub path: PathBuf,
    pub baud: u32,
    pub code_page: CodePage,
}

/// The display's task.
pub struct Display {
    pub port: DisplayPort,
    pub look: Arc<Look>,
    pub board: watch::Receiver<Board>,
    /// Why nothing is shown; none while it is.
    pub trouble: watch::Sender<Option<String>>,
    pub stop: watch::Receiver<bool>,
}

impl Display {
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.show(&mut backoff).await {
            self.note(&error);
            let pause = tokio::time::sleep(backoff.pause());
            tokio::select! {
                _ = self.stop.changed() => return,
                () = pause => {}
            }
        }
    }

    /// Shows the board from one end of the port to the other; ends well only when told to stop.
    async fn show(&mut self, backoff: &mut Backoff) -> io::Result<()> {
        let mut port = Port::open(&self.port)?;
        port.write(&escpos::start(self.port.code_page)).await?;
        let mut shown: Option<Lines> = None;
        loop {
            let now = self.lines();
            let changes = escpos::changes(shown.as_ref(), &now, self.port.code_page);
            port.write(&changes).await?;
            shown = Some(now);
            backoff.reset();
            self.well();
            tokio::select! {
                _ = self.stop.changed() => return port.write(escpos::CLEAR).await,
                error = port.gone() => return Err(error),
                changed = self.board.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    fn lines(&mut self) -> Lines {
        let scene = Scene::of(&self.board.borrow_and_update(), self.look.language);
        let shop = self.look.theme.name.as_deref();
        lines(&scene, Words(self.look.language), shop)
    }

    /// Said once, not at every try.
    fn note(&self, error: &io::Error) {
        let words = in_words(&self.port, error);
        let is_news = self.trouble.send_if_modified(|held| {
            let is_news = held.as_ref() != Some(&words);
            *held = Some(words.clone());
            is_news
        });
        if is_news {
            tracing::warn!("the customer display shows nothing: {words}");
        }
    }

    fn well(&self) {
        if self.trouble.send_if_modified(|held| held.take().is_some()) {
            tracing::info!("the customer display shows again");
        }
    }
}

fn in_words(port: &DisplayPort, error: &io::Error) -> String {
    let next = match error.kind() {
        io::ErrorKind::NotFound => "plug it in, or correct display in the configuration",
        io::ErrorKind::PermissionDenied => "let the agent's account use the port (group dialout)",
        io::ErrorKind::ResourceBusy => "end the other program that holds the port",
        io::ErrorKind::Unsupported => "take display out of the configuration on this system",
        _ => "check its cable and power, and that display names its port",
    };
    format!(
        "{}: {error}. Next: {next}; it is tried again by itself.",
        port.path.display()
    )
}

#[cfg(all(test, unix))]
mod tests;
