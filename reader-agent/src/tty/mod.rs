//! How does a PC without a browser show the terminal's screen?
//!
//! ```text
//!  running agent ──events──▶ follow ──▶ Seen ──▶ picture ──▶ window
//! ```
//! A program of its own: it reads what the page reads, with the page's key.

mod picture;
mod window;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::app::{KIOSK_ADDRESS, KIOSK_SECRET};
use crate::authority::tls;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::error::AgentError;
use crate::files::Secret;
use crate::kiosk;
use crate::platform;
use crate::sse::Parser;
use crate::words::{Language, Words};
use picture::Seen;
use window::Window;

/// A stream that is silent for this long is dead: two keep-alives and some patience.
const SILENCE_MAX: Duration = Duration::from_secs(2 * kiosk::KEEP_ALIVE.as_secs() + 5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows the screen in this terminal window until told to stop.
pub async fn run(config: &Config) -> Result<(), AgentError> {
    let tty = File::from(
        io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(no_window)?,
    );
    let agent = Agent::of(config)?;
    let stop = async {
        // Without signals there is no way to be told, and the window can still be closed.
        if platform::told_to_stop().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    show(tty, agent, stop).await.map_err(no_window)
}

/// The agent on this machine, running or not.
struct Agent {
    data_dir: PathBuf,
    cookie: String,
    http: reqwest::Client,
    language: Language,
}

impl Agent {
    fn of(config: &Config) -> Result<Self, AgentError> {
        let secret = Secret::load_or_make(&config.data_dir.join(KIOSK_SECRET))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls::none()?)
            .connect_timeout(CONNECT_TIMEOUT);
        Ok(Self {
            data_dir: config.data_dir.clone(),
            cookie: kiosk::cookie_pair(&secret),
            http: http.build().map_err(AgentError::bug)?,
            language: config.screens.language,
        })
    }

    /// Tells what is seen for ever, also that nothing is.
    async fn follow(self, seen: watch::Sender<Option<Seen>>) {
        let mut backoff = Backoff::default();
        loop {
            // Why it ended makes no difference to who looks at it.
            let _ = self.listen(&seen, &mut backoff).await;
            seen.send_replace(Some(Seen::gone(Words(self.language))));
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Ends when the agent does. It may have another address each time.
    async fn listen(
        &self,
        seen: &watch::Sender<Option<Seen>>,
        backoff: &mut Backoff,
    ) -> Option<()> {
        let address = fs::read_to_string(self.data_dir.join(KIOSK_ADDRESS)).ok()?;
        let url = format!("http://{}/kiosk/events", address.trim());
        let get = self.http.get(url).header("cookie", &self.cookie);
        let asked = tokio::time::timeout(SILENCE_MAX, get.send()).await;
        let response = asked.ok()?.ok()?.error_for_status().ok()?;
        let mut parts = response.bytes_stream();
        let mut parser = Parser::default();
        loop {
            let part = tokio::time::timeout(SILENCE_MAX, parts.next())
                .await
                .ok()??;
            for frame in parser.feed(&part.ok()?).ok()? {
                seen.send_replace(Some(serde_json::from_str(&frame.data).ok()?));
                backoff.reset();
            }
        }
    }
}

/// Draws what is seen, until `stop`.
async fn show(tty: File, agent: Agent, stop: impl Future<Output = ()>) -> io::Result<()> {
    let words = Words(agent.language);
    let mut window = Window::open(tty)?;
    let mut resized = signal(SignalKind::window_change())?;
    let (sender, mut seen) = watch::channel(None);
    let follow = agent.follow(sender);
    tokio::pin!(stop, follow);
    loop {
        let size = window.size();
        if let Some(now) = &*seen.borrow_and_update() {
            window.draw(size, now.rows(size, words))?;
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = &mut follow => return Ok(()),
            _ = resized.recv() => {}
            _ = seen.changed() => {}
        }
    }
}

fn no_window(error: io::Error) -> AgentError {
    AgentError::usage(
        format!("this is no terminal window, or it is gone ({error})"),
        "run it in one, or open the page instead: m2key-agent kiosk-url",
    )
}

#[cfg(test)]
mod tests;
