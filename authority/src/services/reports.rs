//! What did the terminal see, and is it safe here?

use protocol::ids::TerminalId;
use protocol::problem::{Problem, ProblemType};
use protocol::wire::reports::{REPORTS_MAX, ReportRequest, ReportResponse};

use super::Failure;
use crate::app::App;

/// Stores what is new; the answer names what the terminal may forget.
pub async fn store(
    app: &App,
    terminal: TerminalId,
    request: ReportRequest,
) -> Result<ReportResponse, Failure> {
    if request.events.len() > REPORTS_MAX {
        let detail = format!("at most {REPORTS_MAX} events at a time");
        return Err(Problem::new(ProblemType::MalformedRequest)
            .with_detail(detail)
            .into());
    }
    let count = request.events.len() as u64;
    let stored = app
        .store
        .add_reports(terminal, request.events, app.clock.now())
        .await?;
    app.metrics
        .reports
        .with_label_values(&["stored"])
        .inc_by(stored.len() as u64);
    app.metrics
        .reports
        .with_label_values(&["refused"])
        .inc_by(count - stored.len() as u64);
    Ok(ReportResponse { stored })
}
