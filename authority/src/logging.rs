//! How does the daemon say what it does?
//!
//! Every request runs in a span with its `request` id; what concerns a claim records `claim` in the
//! same span, so one search finds it in all lines and, by the same id, at the terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging to standard error, once per process.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.filter).map_err(|error| error.to_string())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())
}

/// The span of one request. `claim` is empty until [`follow_claim`] fills it.
pub(crate) fn request_span(listener: &'static str, request: &str, method: &str) -> tracing::Span {
    tracing::info_span!(
        "request",
        listener,
        request,
        method,
        claim = tracing::field::Empty,
        terminal = tracing::field::Empty,
    )
}

/// From here on, every line of this request names the claim.
pub fn follow_claim(claim: protocol::ids::ClaimId) {
    tracing::Span::current().record("claim", tracing::field::display(claim));
}
