//! `m2key-authority tag forecast`: which terminals need a new tag, and by when?

use clap::Args;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{EndingView, FORECAST_MAX_DAYS, ForecastView, TagForecast};

#[derive(Debug, Args)]
pub(super) struct Forecast {
    /// How far to look ahead, in days
    #[arg(long, value_name = "DAYS", default_value_t = 90,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(FORECAST_MAX_DAYS)))]
    within: u32,
    /// Go on behind a page of 1000, as it said at its end
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

pub(super) fn run(arguments: &Arguments, forecast: &Forecast) -> Result<(), CliError> {
    let verb = TagForecast {
        within_days: forecast.within,
        after: forecast.after.clone(),
    };
    tell(arguments, &ask(arguments, verb)?);
    Ok(())
}

impl Say for ForecastView {
    fn say(&self) -> String {
        let mut lines = vec![format!("overdue  {}", self.overdue)];
        let months = self.months.iter();
        lines.extend(months.map(|it| format!("{}  {}", it.month, it.tags)));
        lines.push(format!("later    {}", self.later));
        lines.extend(self.tags.iter().map(line));
        if let Some(next) = &self.next {
            lines.push(format!("and more: --after {next}"));
        }
        lines.join("\n")
    }
}

fn line(ending: &EndingView) -> String {
    let EndingView {
        terminal,
        merchant,
        name,
        tag,
    } = ending;
    let by = tag.replace_by.to_string();
    format!(
        "{}  {terminal}  {} days left, {} % used  {merchant}  {name}",
        by.get(..10).unwrap_or(&by),
        tag.days_left,
        tag.percent_used,
    )
}
