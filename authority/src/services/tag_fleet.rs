//! How many tags of the fleet end soon?

use protocol::time::{Millis, Timestamp};
use protocol::wear::DAY_MS;

use super::Failure;
use crate::app::App;

/// Days to the replacement, as metrics tell them apart; 0: it is overdue.
const WITHIN_DAYS: [(Millis, &str); 5] =
    [(0, "0"), (30, "30"), (60, "60"), (90, "90"), (180, "180")];
const LATER: &str = "later";

/// Counts the fleet's tags by when they are to be replaced; answers how many there are.
pub async fn measure(app: &App, now: Timestamp) -> Result<usize, Failure> {
    let ends = WITHIN_DAYS.map(|(days, _)| now + days * DAY_MS);
    let counts = app.store.count_ending_tags(ends.to_vec()).await?;
    let names = WITHIN_DAYS.map(|(_, name)| name);
    for (name, count) in names.into_iter().chain([LATER]).zip(&counts) {
        let gauge = app.metrics.tags_to_replace.with_label_values(&[name]);
        gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
    }
    Ok(usize::try_from(counts.iter().sum::<u64>()).unwrap_or(usize::MAX))
}
