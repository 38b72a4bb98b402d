//! How is an alarm raised once a day, and closed?

use crate::store::sql::conn::{Conn, Row, params};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;

use super::super::row::{count, find, get, signed, terminal as terminal_of, time, time_or_none};
use super::super::writer::Tx;
use crate::store::sqlite::error::corrupt;
use crate::store::{Closed, Result, TagAlarm, TagAlarmKind};

/// How much of it there is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Times {
    /// So many more than before.
    More(u64),
    /// So many in all.
    In(u64),
}

/// Raises it, or lets it grow. The audit chain hears of the first time, and when it is open again.
pub(super) fn raise(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    kind: TagAlarmKind,
    day: i64,
    times: Times,
    at: Timestamp,
    reason: impl Fn(u64) -> String,
) -> Result<()> {
    let before = find_one(tx.conn, terminal, kind, day)?;
    let known = before.as_ref().map_or(0, |before| before.0.times);
    let times = match times {
        Times::More(more) => known.saturating_add(more),
        Times::In(all) => all,
    };
    if times <= known {
        return Ok(());
    }
    let reason = reason(times);
    let closed_times = before.as_ref().and_then(|before| before.1);
    let opens = closed_times.is_some_and(|closed| times >= closed.saturating_mul(2));
    tx.execute_one(
        "INSERT INTO tag_alarms (terminal, kind, day, times, reason, first_at_ms, last_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
         ON CONFLICT (terminal, kind, day) DO UPDATE SET times = excluded.times,
             reason = excluded.reason, last_at_ms = excluded.last_at_ms,
             closed_at_ms = CASE ?7 WHEN 1 THEN NULL ELSE tag_alarms.closed_at_ms END,
             closed_by = CASE ?7 WHEN 1 THEN NULL ELSE tag_alarms.closed_by END,
             closed_note = CASE ?7 WHEN 1 THEN NULL ELSE tag_alarms.closed_note END,
             closed_times = CASE ?7 WHEN 1 THEN NULL ELSE tag_alarms.closed_times END",
        params![
            terminal.value(),
            kind.name(),
            day,
            signed(times),
            reason,
            at.ms(),
            opens
        ],
    )?;
    if before.is_some() && !opens {
        return Ok(());
    }
    let body = json!({
        "terminal": terminal,
        "kind": kind.name(),
        "day": day,
        "times": times,
        "reason": reason,
    });
    tx.record("tag-alarm.raised", at, &body)
}

pub(super) fn close(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    kind: TagAlarmKind,
    day: i64,
    note: &str,
    at: Timestamp,
) -> Result<Option<TagAlarm>> {
    let Some((alarm, _)) = find_one(tx.conn, terminal, kind, day)? else {
        return Ok(None);
    };
    if alarm.closed.is_some() {
        return Ok(Some(alarm));
    }
    let by = tx.by.clone().unwrap_or_else(|| "authority".into());
    tx.execute_one(
        "UPDATE tag_alarms SET closed_at_ms = ?4, closed_by = ?5, closed_note = ?6, closed_times = times
         WHERE terminal = ?1 AND kind = ?2 AND day = ?3",
        params![terminal.value(), kind.name(), day, at.ms(), by, note],
    )?;
    let body = json!({
        "terminal": terminal,
        "kind": kind.name(),
        "day": day,
        "times": alarm.times,
        "note": note,
    });
    tx.record("tag-alarm.closed", at, &body)?;
    Ok(find_one(tx.conn, terminal, kind, day)?.map(|found| found.0))
}

/// With how much of it there was when it was closed.
fn find_one(
    conn: &Conn,
    terminal: TerminalId,
    kind: TagAlarmKind,
    day: i64,
) -> Result<Option<(TagAlarm, Option<u64>)>> {
    find(
        conn,
        "SELECT * FROM tag_alarms WHERE terminal = ?1 AND kind = ?2 AND day = ?3",
        params![terminal.value(), kind.name(), day],
        |row| {
            let closed: Option<i64> = get(row, "closed_times")?;
            Ok((read(row)?, closed.map(i64::unsigned_abs)))
        },
    )
}

pub(in super::super) fn read(row: &Row<'_>) -> Result<TagAlarm> {
    let closed = match time_or_none(row, "closed_at_ms")? {
        Some(at) => Some(Closed {
            at,
            by: get(row, "closed_by")?,
            note: get(row, "closed_note")?,
        }),
        None => None,
    };
    Ok(TagAlarm {
        terminal: terminal_of(row, "terminal")?,
        kind: kind_of(&get::<String>(row, "kind")?)?,
        day: get(row, "day")?,
        times: count(row, "times")?,
        reason: get(row, "reason")?,
        first_at: time(row, "first_at_ms")?,
        last_at: time(row, "last_at_ms")?,
        closed,
    })
}

pub(super) fn kind_of(name: &str) -> Result<TagAlarmKind> {
    TagAlarmKind::of_name(name).ok_or_else(|| corrupt(format!("an alarm about {name}")))
}
