//! Which terminals need a new tag, and by when?

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::Offset;
use protocol::ids::{MerchantId, TerminalId};
use protocol::time::{Millis, Timestamp};
use protocol::wear::DAY_MS;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, malformed};
use crate::app::App;
use crate::services::Failure;
use crate::store::{EndingAfter, EndingTag, WornTag};

/// Farthest look ahead, in days: five years.
pub const FORECAST_MAX_DAYS: u32 = 1_826;

/// Tags to be replaced within so many days, the first ones first, and how many in each month.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagForecast {
    pub within_days: u32,
    /// As the page before said: go on behind it.
    #[serde(default)]
    pub after: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ForecastView {
    pub until: Timestamp,
    /// To be replaced already.
    pub overdue: u64,
    /// From now to `until`, UTC.
    pub months: Vec<MonthView>,
    /// Tags that last longer.
    pub later: u64,
    pub tags: Vec<EndingView>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct MonthView {
    /// As in 2027-03.
    pub month: String,
    pub tags: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct EndingView {
    pub terminal: TerminalId,
    pub merchant: MerchantId,
    pub name: String,
    #[serde(flatten)]
    pub tag: WornView,
}

/// How worn a terminal's tag is, as it last told.
#[derive(Debug, Serialize, Deserialize)]
pub struct WornView {
    pub tag_uid: String,
    pub cycles: u32,
    pub endurance: u32,
    pub percent_used: u32,
    pub cycles_per_day: u32,
    /// From now on, at that pace.
    pub days_left: u32,
    pub replace_by: Timestamp,
    pub told_at: Timestamp,
}

impl Verb for TagForecast {
    const NAME: &'static str = "tag-forecast";
    const CHANGES: bool = false;
    const MAY_LAG: bool = true;
    type Answer = ForecastView;

    async fn run(self, app: &App) -> Result<ForecastView, Failure> {
        if !(1..=FORECAST_MAX_DAYS).contains(&self.within_days) {
            return Err(malformed(format!("within 1 to {FORECAST_MAX_DAYS} days")));
        }
        let after = self.after.as_deref().map(read_cursor).transpose()?;
        let now = app.clock.now();
        let until = now + Millis::from(self.within_days) * DAY_MS;
        let months = months(now, until)?;
        let ends = [now]
            .into_iter()
            .chain(months.iter().map(|it| it.1))
            .collect();
        let counts = app.store.count_ending_tags(ends).await?;
        let mut found = app.store.ending_tags(until, after, LIST_MAX + 1).await?;
        let more = found.len() > LIST_MAX as usize;
        found.truncate(LIST_MAX as usize);
        let next = found.last().filter(|_| more).map(|it| cursor(&it.tag));
        let count = |n: usize| counts.get(n).copied().unwrap_or(0);
        Ok(ForecastView {
            until,
            overdue: count(0),
            later: count(months.len() + 1),
            months: (1..)
                .zip(months)
                .map(|(n, (month, _))| MonthView {
                    month,
                    tags: count(n),
                })
                .collect(),
            tags: found
                .into_iter()
                .map(|it| EndingView::of(it, now))
                .collect(),
            next,
        })
    }
}

impl EndingView {
    fn of(ending: EndingTag, now: Timestamp) -> Self {
        Self {
            terminal: ending.tag.terminal,
            merchant: ending.merchant,
            name: ending.name,
            tag: WornView::of(ending.tag, now),
        }
    }
}

impl WornView {
    pub(super) fn of(tag: WornTag, now: Timestamp) -> Self {
        let since = u32::try_from((now - tag.at) / DAY_MS).unwrap_or(0);
        Self {
            cycles: tag.wear.cycles,
            endurance: tag.wear.endurance,
            percent_used: tag.wear.percent_used(),
            cycles_per_day: tag.wear.cycles_per_day,
            days_left: tag.wear.lasts(tag.at).days_left.saturating_sub(since),
            replace_by: tag.replace_by,
            told_at: tag.at,
            tag_uid: tag.uid,
        }
    }
}

/// Each month from `now` on, with its end; the last one ends at `until`.
fn months(now: Timestamp, until: Timestamp) -> Result<Vec<(String, Timestamp)>, Failure> {
    let mut day = date_of(now)?.first_of_month();
    let mut months = Vec::new();
    loop {
        let name = format!("{:04}-{:02}", day.year(), day.month());
        day = day.checked_add(1.month()).map_err(malformed)?;
        let next = Offset::UTC.to_timestamp(day.at(0, 0, 0, 0));
        let next = next.map_err(malformed)?;
        // A month ends just before the next one begins.
        let ends = Timestamp::from_ms(next.as_millisecond()) - 1;
        months.push((name, ends.min(until)));
        if ends >= until {
            return Ok(months);
        }
    }
}

fn date_of(at: Timestamp) -> Result<Date, Failure> {
    let stamp = jiff::Timestamp::from_millisecond(at.ms()).map_err(malformed)?;
    Ok(Offset::UTC.to_datetime(stamp).date())
}

fn cursor(tag: &WornTag) -> String {
    format!("{}-{}", tag.replace_by.ms(), tag.terminal)
}

fn read_cursor(text: &str) -> Result<EndingAfter, Failure> {
    let read = || {
        let (ms, terminal) = text.split_once('-')?;
        let ms: u64 = ms.parse().ok()?;
        let at = Timestamp::from_ms(i64::try_from(ms).ok()?);
        Some((at, terminal.parse().ok()?))
    };
    read().ok_or_else(|| malformed("where to go on is what the page before said"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Timestamp {
        let stamp: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_ms(stamp.as_millisecond())
    }

    #[test]
    fn months_follow_each_other_and_the_last_one_ends_with_the_forecast() {
        let months = months(at("2026-12-30T12:00:00Z"), at("2027-02-10T00:00:00Z")).unwrap();
        let said: Vec<_> = months
            .iter()
            .map(|(name, end)| format!("{name} {end}"))
            .collect();
        assert_eq!(
            said,
            [
                "2026-12 2026-12-31T23:59:59.999Z",
                "2027-01 2027-01-31T23:59:59.999Z",
                "2027-02 2027-02-10T00:00:00.000Z",
            ]
        );
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_one() {
        let terminal = TerminalId::from_number(7).unwrap();
        let text = format!("1800000000000-{terminal}");
        let read = read_cursor(&text).unwrap();
        assert_eq!(read, (Timestamp::from_ms(1_800_000_000_000), terminal));
        for bad in [
            "",
            "-",
            "1-",
            "1-1",
            "-1-00000000",
            "99999999999999999999-00000000",
        ] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
