//! `m2key-authority alarm …`: which terminals were in two places at once?

use clap::Subcommand;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{AlarmList, AlarmView, Alarms};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List clone alarms, latest first: a second key for one certificate, or two streams at once
    List,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::List => tell(arguments, &ask(arguments, AlarmList {})?),
    }
    Ok(())
}

impl Say for Alarms {
    fn say(&self) -> String {
        if self.alarms.is_empty() {
            return "no alarms".into();
        }
        let lines: Vec<_> = self.alarms.iter().map(line).collect();
        lines.join("\n")
    }
}

fn line(alarm: &AlarmView) -> String {
    let AlarmView {
        terminal,
        kind,
        certificate,
        other,
        last_at,
        times,
        ..
    } = alarm;
    let what = match kind.as_str() {
        "second-key" => "was to be renewed with a second key, SHA-256",
        _ => "and at the same time",
    };
    format!("{terminal}  {last_at}  {times} times: certificate {certificate} {what} {other}")
}
