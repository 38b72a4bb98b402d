//! What did this terminal see?

use std::sync::Arc;

use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use protocol::wire::reports::{REPORTS_MAX, ReportRequest, ReportResponse, Seen, TerminalEvent};

use super::Failure;
use crate::app::App;

/// Longest UID or reason of an event, in bytes.
pub const TEXT_MAX: usize = 256;

/// Takes in what terminals report.
pub struct Reports {
    app: Arc<App>,
}

impl Reports {
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Stores what is new; a repeat is harmless.
    pub async fn take(
        &self,
        terminal: TerminalId,
        request: ReportRequest,
        now: Timestamp,
    ) -> Result<ReportResponse, Failure> {
        check(&request.events)?;
        let told = request.events.iter().map(|event| taps(&event.what)).sum();
        let store = &self.app.store;
        let stored = store.add_reports(terminal, request.events, now).await?;
        let counter = &self.app.metrics.reports;
        counter
            .with_label_values(&["stored"])
            .inc_by(stored.len() as u64);
        self.app.metrics.taps.inc_by(told);
        Ok(ReportResponse { stored })
    }
}

fn check(events: &[TerminalEvent]) -> Result<(), Failure> {
    if events.len() > REPORTS_MAX {
        return Err(malformed(format!("at most {REPORTS_MAX} events")));
    }
    let too_long = |event: &TerminalEvent| text(&event.what).len() > TEXT_MAX;
    if events.iter().any(too_long) {
        return Err(malformed(format!("a text of at most {TEXT_MAX} bytes")));
    }
    Ok(())
}

fn taps(seen: &Seen) -> u64 {
    match seen {
        Seen::Tap { count, .. } => u64::from(*count),
        Seen::TagWritten { .. } | Seen::TagFailed { .. } => 0,
    }
}

fn text(seen: &Seen) -> &str {
    match seen {
        Seen::Tap { tag_uid, .. } | Seen::TagWritten { tag_uid, .. } => tag_uid,
        Seen::TagFailed { reason } => reason,
    }
}

fn malformed(detail: String) -> Failure {
    Problem::new(ProblemType::MalformedRequest)
        .with_detail(detail)
        .into()
}
