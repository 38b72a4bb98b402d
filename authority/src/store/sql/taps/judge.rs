//! What is due, and does it fit?

use crate::store::sql::conn::{Conn, Row, params};
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::window::EpochClock;

use super::super::row::{all, count, get, one, signed, terminal};
use super::super::writer::Tx;
use super::alarms::{self, Times};
use super::link::{Place, Span};
use crate::store::sqlite::error::corrupt;
use crate::store::tap_rules::{
    DAYS_KEPT, PAST_DAYS, Proofs, too_many_places, too_many_reads, untapped,
};
use crate::store::{
    CLOSED_ALARMS_KEPT_MS, LINKS_KEPT_MS, Reconciled, Result, TagAlarmKind, day_of, end_of_day,
};

/// A link that was on a tag.
struct Link {
    terminal: TerminalId,
    from: Place,
    until: Option<Place>,
    taps: u64,
    counted: bool,
    judged: bool,
}

pub(super) fn reconcile(tx: &mut Tx<'_>, now: Timestamp, limit: u32) -> Result<Reconciled> {
    let links = all(
        tx.conn,
        "SELECT * FROM tag_links WHERE next_at_ms <= ?1 ORDER BY next_at_ms LIMIT ?2",
        params![now.ms(), limit],
        read_link,
    )?;
    let days = all(
        tx.conn,
        "SELECT * FROM tap_days WHERE next_at_ms <= ?1 ORDER BY next_at_ms LIMIT ?2",
        params![now.ms(), limit],
        read_day,
    )?;
    for link in &links {
        judge_link(tx, link, now)?;
    }
    for day in &days {
        judge_day(tx, day, now)?;
    }
    let (days_gone, alarms_gone) = forget(tx, now, limit)?;
    let all = [links.len(), days.len(), days_gone, alarms_gone];
    Ok(Reconciled {
        done: u32::try_from(all.iter().sum::<usize>()).unwrap_or(u32::MAX),
        more: all.iter().any(|found| *found >= limit as usize),
    })
}

/// The first day that anything is compared with.
pub(super) fn first_kept(now: Timestamp) -> i64 {
    day_of(now) - DAYS_KEPT
}

/// What was closed until then is forgotten.
pub(super) fn closed_kept_since(now: Timestamp) -> Timestamp {
    now - CLOSED_ALARMS_KEPT_MS
}

/// Days and closed alarms that nobody asks for any more.
fn forget(tx: &Tx<'_>, now: Timestamp, limit: u32) -> Result<(usize, usize)> {
    let days = tx.execute(
        "DELETE FROM tap_days WHERE (terminal, day) IN (
             SELECT terminal, day FROM tap_days WHERE next_at_ms IS NULL AND day < ?1 LIMIT ?2)",
        params![first_kept(now), limit],
    )?;
    let alarms = tx.execute(
        "DELETE FROM tag_alarms WHERE (terminal, kind, day) IN (
             SELECT terminal, kind, day FROM tag_alarms WHERE closed_at_ms <= ?1 LIMIT ?2)",
        params![closed_kept_since(now).ms(), limit],
    )?;
    Ok((days, alarms))
}

fn judge_link(tx: &mut Tx<'_>, link: &Link, now: Timestamp) -> Result<()> {
    let (terminal, from) = (link.terminal.value(), link.from);
    if link.judged {
        return tx.execute_one(
            "DELETE FROM tag_links
             WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3 AND turn = ?4",
            params![terminal, from.epoch, from.window, from.turn],
        );
    }
    let until = link.until.filter(|_| link.counted);
    if let Some(span) = until.and_then(|until| Span::new(link.terminal, from, until)) {
        compare(tx, &span, link.taps, now)?;
    }
    let kept_until = (now + LINKS_KEPT_MS).ms();
    tx.execute_one(
        "UPDATE tag_links SET judged = 1, next_at_ms = ?5
         WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3 AND turn = ?4",
        params![terminal, from.epoch, from.window, from.turn, kept_until],
    )
}

fn compare(tx: &mut Tx<'_>, span: &Span, counted: u64, now: Timestamp) -> Result<()> {
    let claims = claims_between(tx.conn, span)?;
    let proofs = taps_that_prove(tx.conn, span, counted)?;
    let missing = untapped(claims, proofs);
    if missing == 0 {
        return Ok(());
    }
    let (terminal, from) = (span.terminal(), span.begins());
    let day = day_of(EpochClock::of(terminal).opens(from.epoch));
    let reason = |times: u64| {
        format!(
            "claims on nfc without a read of the tag: {times}; the latest: {claims} claims and {} \
             reads while turn {} of window {} of epoch {} was on the tag",
            proofs.taps(),
            from.turn,
            from.window,
            from.epoch
        )
    };
    let kind = TagAlarmKind::ClaimsWithoutTaps;
    alarms::raise(tx, terminal, kind, day, Times::More(missing), now, reason)
}

/// Claims on nfc of the links of a span.
pub(in super::super) fn claims_between(conn: &Conn, span: &Span) -> Result<u64> {
    one(
        conn,
        "WITH RECURSIVE hours (epoch) AS (
             SELECT ?2 UNION ALL SELECT epoch + 1 FROM hours WHERE epoch < ?5)
         SELECT count(*) AS claims FROM hours CROSS JOIN spent
         WHERE spent.epoch = hours.epoch AND spent.terminal = ?1 AND spent.channel = ?8
           AND (spent.epoch, spent.\"window\", spent.turn) >= (?2, ?3, ?4)
           AND (spent.epoch, spent.\"window\", spent.turn) < (?5, ?6, ?7)",
        params![
            span.terminal().value(),
            span.begins().epoch,
            span.begins().window,
            span.begins().turn,
            span.ends().epoch,
            span.ends().window,
            span.ends().turn,
            Channel::Nfc.byte()
        ],
        |row| count(row, "claims"),
    )
}

/// How many reads prove claims of a span: what the terminal counted, and what tags signed themselves.
///
/// The one place that knows of proofs.
pub(in super::super) fn taps_that_prove(conn: &Conn, span: &Span, counted: u64) -> Result<Proofs> {
    let signed = one(
        conn,
        "SELECT count(*) AS signed FROM taps
         WHERE terminal = ?1
           AND (epoch, \"window\", turn) >= (?2, ?3, ?4)
           AND (epoch, \"window\", turn) < (?5, ?6, ?7)",
        params![
            span.terminal().value(),
            span.begins().epoch,
            span.begins().window,
            span.begins().turn,
            span.ends().epoch,
            span.ends().window,
            span.ends().turn
        ],
        |row| count(row, "signed"),
    )?;
    Ok(Proofs { counted, signed })
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
fn claims_of_day(conn: &Conn, terminal: TerminalId, day: i64) -> Result<u64> {
    let clock = EpochClock::of(terminal);
    let first_of = |day: i64| Place {
        epoch: clock.epoch_at(end_of_day(day - 1) - 1) + 1,
        window: 0,
        turn: 0,
    };
    let span = Span::new(terminal, first_of(day), first_of(day + 1));
    claims_between(conn, &span.ok_or_else(|| corrupt(format!("day {day}")))?)
}

/// Unclaimed reads of the days before on which a visit was counted.
fn past(conn: &Conn, terminal: TerminalId, day: i64) -> Result<Vec<u64>> {
    all(
        conn,
        "SELECT max(taps - claims, 0) AS unclaimed FROM tap_days
         WHERE terminal = ?1 AND day >= ?2 AND day < ?3 AND counted = 1",
        params![terminal.value(), day - PAST_DAYS, day],
        |row| count(row, "unclaimed"),
    )
}

fn read_link(row: &Row<'_>) -> Result<Link> {
    Ok(Link {
        terminal: terminal(row, "terminal")?,
        from: Place::read(row)?.ok_or_else(|| corrupt("a link without a place"))?,
        until: Place::read_until(row)?,
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
