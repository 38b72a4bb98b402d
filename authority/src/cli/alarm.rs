//! `m2key-authority alarm …`: which terminals were in two places at once, and where do tag and claims not fit
//! together?

use clap::Subcommand;
use protocol::ids::TerminalId;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{AlarmClose, AlarmList, AlarmView, Alarms, TagAlarmView};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List alarms, latest first. Of tags: more claims on nfc than reads, a counter that went back, links used
    /// at two places, many reads without a claim. Of copied keys: a second key for one certificate, two streams
    /// at once, or a certificate that came back after a later one was used
    List {
        /// Only those of this terminal
        #[arg(long)]
        terminal: Option<TerminalId>,
        /// Closed alarms of tags, too
        #[arg(long)]
        closed: bool,
    },
    /// Close an alarm of a tag that is explained; twice as much of it on the same day opens it again
    Close {
        /// Where it rang
        terminal: TerminalId,
        /// As in the list, e.g. counter-back
        kind: String,
        /// As in the list, YYYY-MM-DD
        day: String,
        /// What was found out; it stays with the alarm and in the audit chain
        #[arg(long)]
        note: String,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::List { terminal, closed } => {
            let (terminal, closed) = (*terminal, *closed);
            tell(arguments, &ask(arguments, AlarmList { terminal, closed })?);
        }
        Verb::Close {
            terminal,
            kind,
            day,
            note,
        } => {
            let verb = AlarmClose {
                terminal: *terminal,
                kind: kind.clone(),
                day: day.clone(),
                note: note.clone(),
            };
            tell(arguments, &ask(arguments, verb)?);
        }
    }
    Ok(())
}

impl Say for Alarms {
    fn say(&self) -> String {
        let tags = self.tags.iter().map(Say::say);
        let lines: Vec<_> = tags.chain(self.alarms.iter().map(line)).collect();
        match lines.is_empty() {
            true => "no alarms".into(),
            false => lines.join("\n"),
        }
    }
}

impl Say for TagAlarmView {
    fn say(&self) -> String {
        let line = format!(
            "{}  {}  {}: {}",
            self.terminal, self.day, self.kind, self.reason
        );
        match (&self.closed_at, &self.closed_by, &self.note) {
            (Some(at), Some(by), Some(note)) => format!("{line}\n    closed {at} by {by}: {note}"),
            _ => line,
        }
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
