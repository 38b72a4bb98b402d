//! Where do logs go, and in which form?

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// The default; `M2KEY_LOG` overrides it, in the syntax of `tracing_subscriber::EnvFilter`.
const DEFAULT: &str = "info";

/// Logs to standard error; a claim's id is the field `claim` everywhere.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("M2KEY_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second start in one process keeps the first one's subscriber.
    let _ = match format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
