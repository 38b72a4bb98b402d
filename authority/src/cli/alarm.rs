//! `m2key-authority alarm …`: which terminals were in two places at once?

use clap::Subcommand;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{AlarmList, AlarmView, Alarms};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List clone alarms, latest first: a second key for one certificate, two streams at once, or a
    /// certificate that came back after a later one was used
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
        "second-key" => format!("was to be renewed with a second key, SHA-256 {other}"),
        "superseded" => "came back after a later one was used".into(),
        _ => format!("and at the same time {other}"),
    };
    format!("{terminal}  {last_at}  {times} times: certificate {certificate} {what}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::AlarmKind;
    use protocol::ids::TerminalId;
    use protocol::time::Timestamp;

    #[test]
    fn every_kind_of_alarm_has_words_of_its_own() {
        let said = |kind: AlarmKind| {
            line(&AlarmView {
                terminal: TerminalId::from_number(1).unwrap(),
                kind: kind.name().into(),
                certificate: "0a".into(),
                other: "0b".into(),
                first_at: Timestamp::from_ms(0),
                last_at: Timestamp::from_ms(0),
                times: 2,
            })
        };
        let all: std::collections::BTreeSet<_> = AlarmKind::ALL.map(said).into_iter().collect();
        assert_eq!(all.len(), AlarmKind::ALL.len(), "{all:?}");
    }
}
