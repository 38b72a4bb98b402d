//! When do spent tokens and reports go, and is there a place for what comes?
//!
//! ```text
//! now ──less [retention] reports_days▶ fence of reports ──▶ the same
//! now ──less [retention] spent_days──▶ fence of epochs ──▶ what lies behind it is deleted, in pieces with rests
//! now ──and DAYS_AHEAD more──────────▶ places made for the days to come
//! ```

use protocol::time::{Millis, Timestamp};
use protocol::window::EPOCH_MS;

use super::Failure;
use super::pieces::in_pieces;
use crate::app::App;
use crate::store::{Chore, DAY_EPOCHS};

/// So many days have their place before they begin.
const DAYS_AHEAD: u32 = 3;
/// Most steps of a kind in one run: what is left is done in the next ones.
const STEPS_MAX: usize = 64;

/// The same for reports, of which a large fleet makes thousands a second.
const REPORT_STEPS_MAX: usize = 1_000;
const DAY_MS: Millis = DAY_EPOCHS as Millis * EPOCH_MS;

/// Keeps house once; answers how many steps that took.
pub async fn run(app: &App, now: Timestamp) -> Result<usize, Failure> {
    let store = &app.store;
    let today = epoch(now);
    let mut steps = 0;
    while steps < STEPS_MAX && store.make_day(today, DAYS_AHEAD).await? {
        steps += 1;
    }
    // Whole days, and one to spare: a terminal's epoch begins up to an hour late.
    let kept = epoch(now - app.config.retention.spent_ms) / DAY_EPOCHS * DAY_EPOCHS;
    let below = kept.saturating_sub(DAY_EPOCHS);
    let fence = store.raise_epoch_fence(below, now).await?;
    app.metrics.epoch_fence.set(i64::from(fence));
    let piece = || async { store.forget_behind_fence().await.map(usize::from) };
    steps += in_pieces(app, Chore::Forgetting, STEPS_MAX, 1, piece).await?;
    steps += forget_reports(app, now).await?;
    let rest = store.rows_without_day().await?;
    app.metrics.rows_without_day.set(i64::from(rest));
    Ok(steps)
}

/// By whole days: raising the fence is a write that is alone.
async fn forget_reports(app: &App, now: Timestamp) -> Result<usize, Failure> {
    let kept = (now - app.config.retention.reports_ms).ms();
    let below = Timestamp::from_ms(kept.div_euclid(DAY_MS) * DAY_MS);
    if app.store.report_fence().await? < below {
        app.store.raise_report_fence(below, now).await?;
    }
    let piece = || async { app.store.forget_reports().await.map(usize::from) };
    in_pieces(app, Chore::Forgetting, REPORT_STEPS_MAX, 1, piece).await
}

/// The hour of a clock without an offset: no terminal is in a later epoch.
fn epoch(at: Timestamp) -> u32 {
    u32::try_from(at.ms().div_euclid(EPOCH_MS)).unwrap_or(0)
}
