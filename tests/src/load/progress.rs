//! How does whoever waits see that it goes on? One line, drawn again on a terminal; a line now and then elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::stopwatch::Stopwatch;

const REDRAWN_EVERY: Duration = Duration::from_millis(250);
const SAID_EVERY: Duration = Duration::from_secs(5);
const BAR: usize = 24;

/// What is counted while it goes on.
#[derive(Debug, Default)]
pub struct Counts {
    pub wanted: AtomicU64,
    pub running: AtomicU64,
    pub paid: AtomicU64,
    pub refused: AtomicU64,
}

/// The line; it ends with this value.
pub struct Progress {
    counts: Arc<Counts>,
    drawer: AbortHandle,
    is_drawn: bool,
}

impl Progress {
    /// Of something that takes about this long.
    pub fn start(what: &str, span: Duration) -> Self {
        let counts = Arc::<Counts>::default();
        let is_drawn = stderr().is_terminal();
        let (shown, what, watch) = (counts.clone(), what.to_owned(), Stopwatch::start());
        let drawer = tokio::spawn(async move {
            let every = if is_drawn { REDRAWN_EVERY } else { SAID_EVERY };
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                let line = line(&what, watch.now(), span, &shown);
                match is_drawn {
                    true => draw(&line),
                    false => eprintln!("{line}"),
                }
            }
        });
        Self {
            counts,
            drawer: drawer.abort_handle(),
            is_drawn,
        }
    }

    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.drawer.abort();
        if self.is_drawn {
            draw("");
        }
    }
}

fn draw(line: &str) {
    // What cannot be drawn is not worth ending a run for.
    let _ = write!(stderr(), "\r\x1b[2K{line}").and_then(|()| stderr().flush());
}

fn line(what: &str, now: Duration, span: Duration, counts: &Counts) -> String {
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let share = (now.as_secs_f64() / span.as_secs_f64().max(0.001)).min(1.0);
    let full = (share * BAR as f64) as usize;
    format!(
        "{what} [{}{}] {:.0}/{:.0} s  {} wanted, {} at it, {} paid, {} went away",
        "#".repeat(full),
        ".".repeat(BAR - full),
        now.as_secs_f64(),
        span.as_secs_f64(),
        read(&counts.wanted),
        read(&counts.running),
        read(&counts.paid),
        read(&counts.refused),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is_and_never_beyond_the_end() {
        let counts = Counts::default();
        counts.paid.store(7, Ordering::Relaxed);
        let at = |s| {
            line(
                "run",
                Duration::from_secs(s),
                Duration::from_secs(10),
                &counts,
            )
        };
        assert!(
            at(5).contains("[############............] 5/10 s"),
            "{}",
            at(5)
        );
        assert!(at(5).contains("7 paid"));
        assert!(at(99).contains("[########################]"));
    }
}
