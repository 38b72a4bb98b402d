//! Which terminals were in two places at once, and where do tag and claims not fit together?

use protocol::ids::TerminalId;
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb, malformed, refused};
use crate::app::App;
use crate::services::Failure;
use crate::store::{AlarmRecord, Closed, TagAlarm, TagAlarmKind, day_of, end_of_day};

/// Longest note of who closes an alarm, in bytes.
const NOTE_MAX: usize = 400;

/// Clone alarms and open alarms of tags, each latest first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmList {
    /// Of one terminal: the list has an end, and this goes beyond it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub terminal: Option<TerminalId>,
    /// The closed ones, too.
    #[serde(default)]
    pub closed: bool,
}

/// An alarm of a tag is explained.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmClose {
    pub terminal: TerminalId,
    pub kind: String,
    /// YYYY-MM-DD, UTC.
    pub day: String,
    /// What was found out.
    pub note: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Alarms {
    pub alarms: Vec<AlarmView>,
    #[serde(default)]
    pub tags: Vec<TagAlarmView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TagAlarmView {
    pub terminal: TerminalId,
    /// `claims-without-taps`, `counter-back`, `second-place` or `taps-without-claims`.
    pub kind: String,
    /// YYYY-MM-DD, UTC.
    pub day: String,
    pub times: u64,
    pub reason: String,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct AlarmView {
    pub terminal: TerminalId,
    /// `second-key`, `second-stream` or `superseded`.
    pub kind: String,
    /// Serial of the certificate it was seen with.
    pub certificate: String,
    /// SHA-256 of the second key, or the serial of the other certificate.
    pub other: String,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub times: u64,
}

impl Verb for AlarmList {
    const NAME: &'static str = "alarm-list";
    const CHANGES: bool = false;
    type Answer = Alarms;

    async fn run(self, app: &App) -> Result<Alarms, Failure> {
        let alarms = app.store.alarms(self.terminal, LIST_MAX).await?;
        let tags = app.store.tag_alarms(self.terminal, self.closed, LIST_MAX);
        Ok(Alarms {
            alarms: alarms.into_iter().map(AlarmView::from).collect(),
            tags: tags.await?.into_iter().map(TagAlarmView::from).collect(),
        })
    }
}

impl Verb for AlarmClose {
    const NAME: &'static str = "alarm-close";
    const CHANGES: bool = true;
    type Answer = TagAlarmView;

    async fn run(self, app: &App) -> Result<TagAlarmView, Failure> {
        let note = self.note.trim();
        if note.is_empty() || note.len() > NOTE_MAX {
            return Err(malformed(format!("a note of 1 to {NOTE_MAX} bytes")));
        }
        let Self { terminal, day, .. } = &self;
        let number = number_of(day).ok_or_else(|| malformed("a day as YYYY-MM-DD"))?;
        let unknown = || {
            let detail = format!("no alarm {} of terminal {terminal} on {day}", self.kind);
            refused(ProblemType::Unknown, detail)
        };
        let kind = TagAlarmKind::of_name(&self.kind).ok_or_else(unknown)?;
        let (store, now) = (&app.store, app.clock.now());
        let closed = store.close_tag_alarm(*terminal, kind, number, note.into(), now);
        Ok(closed.await?.ok_or_else(unknown)?.into())
    }
}

/// YYYY-MM-DD of days since 1970.
fn text_of(day: i64) -> String {
    let mut text = end_of_day(day - 1).to_string();
    text.truncate("YYYY-MM-DD".len());
    text
}

fn number_of(text: &str) -> Option<i64> {
    let midnight = serde_json::from_value(format!("{text}T00:00:00.000Z").into());
    let day = midnight.ok().map(day_of)?;
    (text_of(day) == text).then_some(day)
}

impl From<AlarmRecord> for AlarmView {
    fn from(record: AlarmRecord) -> Self {
        Self {
            terminal: record.alarm.terminal,
            kind: record.alarm.kind.name().into(),
            certificate: record.alarm.certificate,
            other: record.alarm.other,
            first_at: record.first_at,
            last_at: record.last_at,
            times: record.times,
        }
    }
}

impl From<TagAlarm> for TagAlarmView {
    fn from(alarm: TagAlarm) -> Self {
        let closed = |part: fn(Closed) -> String| alarm.closed.clone().map(part);
        Self {
            terminal: alarm.terminal,
            kind: alarm.kind.name().into(),
            day: text_of(alarm.day),
            times: alarm.times,
            reason: alarm.reason.clone(),
            first_at: alarm.first_at,
            last_at: alarm.last_at,
            closed_at: alarm.closed.as_ref().map(|closed| closed.at),
            closed_by: closed(|it| it.by),
            note: closed(|it| it.note),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written() {
        for day in [0, 20_783, -1] {
            assert_eq!(number_of(&text_of(day)), Some(day));
        }
        assert_eq!(text_of(20_783), "2026-11-26");
        for bad in ["", "2026-11-31", "2026-1-1", "26-11-2026", "2026-11-26T"] {
            assert_eq!(number_of(bad), None, "{bad}");
        }
    }
}
