//! Which terminals were in two places at once?

use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LIST_MAX, Verb};
use crate::app::App;
use crate::services::Failure;
use crate::store::AlarmRecord;

/// Clone alarms, latest first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmList {}

#[derive(Debug, Serialize, Deserialize)]
pub struct Alarms {
    pub alarms: Vec<AlarmView>,
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
        let alarms = app.store.alarms(LIST_MAX).await?;
        Ok(Alarms {
            alarms: alarms.into_iter().map(AlarmView::from).collect(),
        })
    }
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
