//! What is due, and does it fit?

use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::window::EpochClock;
use rusqlite::{Connection, Row, params};

use super::super::row::{all, count, get, one, signed, terminal};
use super::super::writer::Tx;
use super::alarms::{self, Times};
use crate::store::tap_rules::{PAST_DAYS, Proofs, too_many_places, too_many_reads, untapped};
use crate::store::{
    Reconciled, Result, SPAN_EPOCHS_MAX, TagAlarmKind, WINDOWS_KEPT_MS, day_of, end_of_day,
};

/// The windows from the one on the tag to the one that took its place.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Span {
    pub(in super::super) terminal: TerminalId,
    pub(in super::super) from: (u32, u16),
    pub(in super::super) until: (u32, u16),
}

struct Window {
    span: Span,
    taps: u64,
    counted: bool,
    judged: bool,
}

pub(super) fn reconcile(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Result<Reconciled> {
    let windows = all(
        tx.conn,
        "SELECT * FROM tap_windows WHERE next_at_ms <= ?1 ORDER BY next_at_ms LIMIT ?2",
        params![now.ms(), limit],
        read_window,
    )?;
    let days = all(
        tx.conn,
        "SELECT * FROM tap_days WHERE next_at_ms <= ?1 ORDER BY next_at_ms LIMIT ?2",
        params![now.ms(), limit],
        read_day,
    )?;
    for window in &windows {
        judge_window(tx, window, now)?;
    }
    for day in &days {
        judge_day(tx, day, now)?;
    }
    let most = windows.len().max(days.len());
    Ok(Reconciled {
        done: u32::try_from(windows.len() + days.len()).unwrap_or(u32::MAX),
        more: most >= limit as usize,
    })
}

fn judge_window(tx: &mut Tx<'_>, window: &Window, now: Timestamp) -> Result<()> {
    let Span {
        terminal,
        from: (epoch, number),
        until,
    } = window.span;
    let place = params![terminal.value(), epoch, number];
    if window.judged {
        return tx.execute_one(
            "DELETE FROM tap_windows WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3",
            place,
        );
    }
    if window.counted && until.0.saturating_sub(epoch) <= SPAN_EPOCHS_MAX {
        compare(tx, window, now)?;
    }
    tx.execute_one(
        "UPDATE tap_windows SET judged = 1, next_at_ms = ?4
         WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3",
        params![
            terminal.value(),
            epoch,
            number,
            (now + WINDOWS_KEPT_MS).ms()
        ],
    )
}

fn compare(tx: &mut Tx<'_>, window: &Window, now: Timestamp) -> Result<()> {
    let claims = claims_between(tx.conn, &window.span)?;
    let proofs = taps_that_prove(tx.conn, &window.span, window.taps)?;
    let missing = untapped(claims, proofs);
    if missing == 0 {
        return Ok(());
    }
    let (terminal, (epoch, number)) = (window.span.terminal, window.span.from);
    let day = day_of(EpochClock::of(terminal).opens(epoch));
    let reason = |times: u64| {
        format!(
            "claims on nfc without a read of the tag: {times}; the latest: {claims} claims and {} \
             reads while window {number} of epoch {epoch} was on the tag",
            proofs.taps()
        )
    };
    let kind = TagAlarmKind::ClaimsWithoutTaps;
    alarms::raise(tx, terminal, kind, day, Times::More(missing), now, reason)
}

/// Claims on nfc of the windows of a span.
pub(in super::super) fn claims_between(conn: &Connection, span: &Span) -> Result<u64> {
    one(
        conn,
        "WITH RECURSIVE hours (epoch) AS (
             SELECT ?2 UNION ALL SELECT epoch + 1 FROM hours WHERE epoch < ?4)
         SELECT count(*) AS claims FROM hours CROSS JOIN spent
         WHERE spent.epoch = hours.epoch AND spent.terminal = ?1 AND spent.channel = ?6
           AND (spent.epoch, spent.\"window\") >= (?2, ?3)
           AND (spent.epoch, spent.\"window\") < (?4, ?5)",
        params![
            span.terminal.value(),
            span.from.0,
            span.from.1,
            span.until.0,
            span.until.1,
            Channel::Nfc.byte()
        ],
        |row| count(row, "claims"),
    )
}

/// How many reads prove claims of a span: what the terminal counted, and what tags signed themselves.
///
/// The one place that knows of proofs. No link is verified as signed by its tag yet, so none counts.
pub(in super::super) fn taps_that_prove(
    _conn: &Connection,
    _span: &Span,
    counted: u64,
) -> Result<Proofs> {
    Ok(Proofs { counted, signed: 0 })
}

struct Day {
    terminal: TerminalId,
    day: i64,
    taps: u64,
    second_places: u64,
}

fn judge_day(tx: &mut Tx<'_>, found: &Day, now: Timestamp) -> Result<()> {
    let Day { terminal, day, .. } = *found;
    let claims = claims_of_day(tx.conn, terminal, day)?;
    let past = past(tx.conn, terminal, day)?;
    let unclaimed = found.taps.saturating_sub(claims);
    if let Some(bound) = too_many_reads(unclaimed, &past) {
        let (taps, known) = (found.taps, past.len());
        let reason = |_| {
            format!(
                "the tag was read {taps} times and claimed {claims} times: {unclaimed} reads without \
                 a claim, above the bound of {bound} ({known} days before are known)"
            )
        };
        let (kind, times) = (TagAlarmKind::TapsWithoutClaims, Times::In(unclaimed));
        alarms::raise(tx, terminal, kind, day, times, now, reason)?;
    }
    if let Some(bound) = too_many_places(found.second_places, claims) {
        let reason = |times: u64| {
            format!(
                "{times} links that were spent came again from another network, above the bound of \
                 {bound} for {claims} claims on nfc"
            )
        };
        let (kind, times) = (TagAlarmKind::SecondPlace, Times::In(found.second_places));
        alarms::raise(tx, terminal, kind, day, times, now, reason)?;
    }
    tx.execute_one(
        "UPDATE tap_days SET claims = ?3, next_at_ms = NULL WHERE terminal = ?1 AND day = ?2",
        params![terminal.value(), day, signed(claims)],
    )
}

/// Of the epochs that begin on this day.
fn claims_of_day(conn: &Connection, terminal: TerminalId, day: i64) -> Result<u64> {
    let clock = EpochClock::of(terminal);
    let first_of = |day: i64| clock.epoch_at(end_of_day(day - 1) - 1) + 1;
    let span = Span {
        terminal,
        from: (first_of(day), 0),
        until: (first_of(day + 1), 0),
    };
    claims_between(conn, &span)
}

/// Unclaimed reads of the days before.
fn past(conn: &Connection, terminal: TerminalId, day: i64) -> Result<Vec<u64>> {
    all(
        conn,
        "SELECT max(taps - claims, 0) AS unclaimed FROM tap_days
         WHERE terminal = ?1 AND day >= ?2 AND day < ?3",
        params![terminal.value(), day - PAST_DAYS, day],
        |row| count(row, "unclaimed"),
    )
}

fn read_window(row: &Row<'_>) -> Result<Window> {
    let from = (get(row, "epoch")?, get(row, "window")?);
    let until: Option<u32> = get(row, "until_epoch")?;
    let until = until.zip(get::<Option<u16>>(row, "until_window")?);
    Ok(Window {
        span: Span {
            terminal: terminal(row, "terminal")?,
            from,
            until: until.unwrap_or(from),
        },
        taps: count(row, "taps")?,
        counted: get(row, "counted")?,
        judged: get(row, "judged")?,
    })
}

fn read_day(row: &Row<'_>) -> Result<Day> {
    Ok(Day {
        terminal: terminal(row, "terminal")?,
        day: get(row, "day")?,
        taps: count(row, "taps")?,
        second_places: count(row, "second_places")?,
    })
}
