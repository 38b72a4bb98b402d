//! Where is it kept what tags counted, and who compares it with claims?

use crate::store::sql::conn::params;
use async_trait::async_trait;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;

use super::SqlStore;
use super::row::{all, count, get, one};
use crate::store::{Reconciled, Result, TagAlarm, TagAlarmKind, Taps, day_of};

pub(super) mod alarms;
mod follow;
mod judge;
mod link;

pub(super) use follow::take;
pub(super) use judge::{claims_between, taps_that_prove};
pub(super) use link::{Place, Span};

#[async_trait]
impl Taps for SqlStore {
    async fn taps_due(&self, now: Timestamp) -> Result<bool> {
        self.read(move |conn| {
            one(
                conn,
                "SELECT EXISTS (SELECT 1 FROM tag_links WHERE next_at_ms <= ?1)
                     OR EXISTS (SELECT 1 FROM tap_days WHERE next_at_ms <= ?1)
                     OR EXISTS (SELECT 1 FROM tap_days WHERE next_at_ms IS NULL AND day < ?2)
                     OR EXISTS (SELECT 1 FROM tag_alarms WHERE closed_at_ms <= ?3) AS due",
                params![
                    now.ms(),
                    judge::first_kept(now),
                    judge::closed_kept_since(now).ms()
                ],
                |row| get(row, "due"),
            )
        })
        .await
    }

    async fn reconcile_taps(&self, now: Timestamp, limit: u32) -> Result<Reconciled> {
        self.write(move |tx| Ok(judge::reconcile(tx, now, limit)?))
            .await
    }

    async fn add_second_places(&self, seen: Vec<(TerminalId, u32)>, at: Timestamp) -> Result<()> {
        self.write(move |tx| {
            for (terminal, links) in &seen {
                tx.execute(
                    "INSERT INTO tap_days (terminal, day, taps, counted, claims, second_places,
                                           next_at_ms)
                     SELECT id, ?2, 0, 0, 0, ?3, ?4 FROM terminals WHERE id = ?1
                     ON CONFLICT (terminal, day) DO UPDATE
                         SET second_places = tap_days.second_places + ?3,
                             next_at_ms = coalesce(tap_days.next_at_ms, ?4)",
                    params![terminal.value(), day_of(at), links, at.ms()],
                )?;
            }
            Ok(())
        })
        .await
    }

    async fn tag_alarms(
        &self,
        terminal: Option<TerminalId>,
        with_closed: bool,
        limit: u32,
    ) -> Result<Vec<TagAlarm>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM tag_alarms
                 WHERE (?1 = 1 OR closed_at_ms IS NULL) AND (?3 IS NULL OR terminal = ?3)
                 ORDER BY last_at_ms DESC, terminal, kind, day LIMIT ?2",
                params![with_closed, limit, terminal.map(TerminalId::value)],
                alarms::read,
            )
        })
        .await
    }

    async fn open_tag_alarms(&self) -> Result<Vec<(TagAlarmKind, u64)>> {
        self.read(|conn| {
            all(
                conn,
                "SELECT kind, count(*) AS number FROM tag_alarms
                 WHERE closed_at_ms IS NULL GROUP BY kind",
                params![],
                |row| {
                    let kind = alarms::kind_of(&get::<String>(row, "kind")?)?;
                    Ok((kind, count(row, "number")?))
                },
            )
        })
        .await
    }

    async fn close_tag_alarm(
        &self,
        terminal: TerminalId,
        kind: TagAlarmKind,
        day: i64,
        note: String,
        at: Timestamp,
    ) -> Result<Option<TagAlarm>> {
        self.write(move |tx| Ok(alarms::close(tx, terminal, kind, day, &note, at)?))
            .await
    }
}
