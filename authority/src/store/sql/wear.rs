//! Where is how worn the tags are, one row per terminal, and at which pace are its epochs?

use crate::store::sql::conn::{Conn, Row, params};
use async_trait::async_trait;
use protocol::ids::{MerchantId, TerminalId};
use protocol::time::Timestamp;
use protocol::wear::TagWear;
use protocol::window::{EpochClock, NfcWindows};
use protocol::wire::reports::{Seen, TerminalEvent};
use serde_json::json;

use super::SqlStore;
use super::row::{all, find, get, one, terminal, time, time_or_none, uuid};
use super::writer::Tx;
use crate::store::{
    EndingAfter, EndingTag, NewSchedule, Pace, Pacing, Result, Terminal, Wear, WornTag,
};

/// Epochs before the present one whose tokens may still be judged, and one to spare.
const JUDGED_BEFORE: u32 = 2;

#[async_trait]
impl Wear for SqlStore {
    async fn worn_tag(&self, terminal: TerminalId) -> Result<Option<WornTag>> {
        self.look(move |conn| find_worn(conn, terminal)).await
    }

    async fn worn_tags(&self, first: TerminalId, last: TerminalId) -> Result<Vec<WornTag>> {
        self.read(move |conn| {
            all(
                conn,
                "SELECT * FROM tag_wear WHERE terminal BETWEEN ?1 AND ?2 ORDER BY terminal",
                params![first.value(), last.value()],
                read_worn,
            )
        })
        .await
    }

    async fn ending_tags(
        &self,
        until: Timestamp,
        after: Option<EndingAfter>,
        limit: u32,
    ) -> Result<Vec<EndingTag>> {
        let (time, terminal) = after.map_or((i64::MIN, -1), |(time, terminal)| {
            (time.ms(), i64::from(terminal.value()))
        });
        self.read(move |conn| {
            all(
                conn,
                "SELECT tag_wear.*, merchant, name FROM tag_wear
                 CROSS JOIN terminals
                 WHERE terminals.id = tag_wear.terminal AND (replace_by_ms, terminal) > (?1, ?2) AND replace_by_ms <= ?3
                   AND banned_at_ms IS NULL
                 ORDER BY replace_by_ms, terminal LIMIT ?4",
                params![time, terminal, until.ms(), limit],
                |row| {
                    Ok(EndingTag {
                        tag: read_worn(row)?,
                        merchant: MerchantId(uuid(row, "merchant")?),
                        name: get(row, "name")?,
                    })
                },
            )
        })
        .await
    }

    async fn count_ending_tags(&self, until: Vec<Timestamp>) -> Result<Vec<u64>> {
        self.read(move |conn| {
            let mut counts = Vec::with_capacity(until.len() + 1);
            let mut from = i64::MIN;
            for until in until.iter().map(|until| until.ms()).chain([i64::MAX]) {
                counts.push(count_between(conn, from, until)?);
                from = until;
            }
            Ok(counts)
        })
        .await
    }

    async fn paces(&self, terminal: TerminalId) -> Result<Vec<Pace>> {
        self.look(move |conn| find_paces(conn, terminal)).await
    }
}

/// After `from`, up to `until`.
fn count_between(conn: &Conn, from: i64, until: i64) -> Result<u64> {
    one(
        conn,
        "SELECT count(*) AS tags FROM tag_wear
         CROSS JOIN terminals
         WHERE terminals.id = tag_wear.terminal AND replace_by_ms > ?1 AND replace_by_ms <= ?2 AND banned_at_ms IS NULL",
        params![from, until],
        |row| super::row::count(row, "tags"),
    )
}

fn find_worn(conn: &Conn, terminal: TerminalId) -> Result<Option<WornTag>> {
    find(
        conn,
        "SELECT * FROM tag_wear WHERE terminal = ?1",
        [terminal.value()],
        read_worn,
    )
}

/// Takes in the wear of a tag if this report tells it and no later one did. A count that went back is of a
/// terminal that lost it, or was restored to an earlier one: by as much as it went back there was more.
pub(super) fn take_wear(
    tx: &Tx<'_>,
    terminal: TerminalId,
    event: &TerminalEvent,
    now: Timestamp,
) -> Result<()> {
    let Seen::TagWritten {
        tag_uid: uid, wear, ..
    } = &event.what
    else {
        return Ok(());
    };
    let Some(wear) = wear.filter(TagWear::is_plausible) else {
        return Ok(());
    };
    // A terminal whose clock is ahead does not shut out what it tells later.
    let at = event.at.min(now);
    let known = find(
        tx.conn,
        "SELECT tag_uid, cycles, cycles_before, at_ms, due_since_ms FROM tag_wear
         WHERE terminal = ?1",
        [terminal.value()],
        read_known,
    )?;
    if known.as_ref().is_some_and(|known| at < known.at) {
        return Ok(());
    }
    let (before, due_since) = match known.filter(|known| known.uid == *uid) {
        Some(known) => {
            let back = known.cycles.saturating_sub(wear.cycles);
            (known.before.saturating_add(back), known.due_since)
        }
        None => (0, None),
    };
    let whole = TagWear {
        cycles: before.saturating_add(wear.cycles),
        ..wear
    };
    let due_since = whole.is_due().then(|| due_since.unwrap_or(at));
    let replace_by = due_since.unwrap_or_else(|| whole.lasts(at).replace_by);
    tx.execute_one(
        "INSERT INTO tag_wear (terminal, tag_uid, cycles, cycles_before, endurance, per_link,
                               cycles_per_day, at_ms, replace_by_ms, due_since_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (terminal) DO UPDATE SET
             tag_uid = excluded.tag_uid, cycles = excluded.cycles,
             cycles_before = excluded.cycles_before, endurance = excluded.endurance,
             per_link = excluded.per_link, cycles_per_day = excluded.cycles_per_day,
             at_ms = excluded.at_ms, replace_by_ms = excluded.replace_by_ms,
             due_since_ms = excluded.due_since_ms",
        params![
            terminal.value(),
            uid,
            wear.cycles,
            before,
            wear.endurance,
            wear.per_link,
            wear.cycles_per_day,
            at.ms(),
            replace_by.ms(),
            due_since.map(Timestamp::ms)
        ],
    )
}

struct Known {
    uid: String,
    cycles: u32,
    before: u32,
    at: Timestamp,
    due_since: Option<Timestamp>,
}

fn read_known(row: &Row<'_>) -> Result<Known> {
    Ok(Known {
        uid: get(row, "tag_uid")?,
        cycles: get(row, "cycles")?,
        before: get(row, "cycles_before")?,
        at: time(row, "at_ms")?,
        due_since: time_or_none(row, "due_since_ms")?,
    })
}

/// Sets the pace of epochs that no schedule told before `new`, which is about to be recorded. What was told
/// stays as it was told, whoever asks.
/// Answers the paces as they are then.
pub(super) fn set_pace(tx: &mut Tx<'_>, known: &Terminal, new: &NewSchedule) -> Result<Vec<Pace>> {
    let mut paces = find_paces(tx.conn, new.terminal)?;
    match new.pacing {
        Pacing::Ended if paces.iter().all(|pace| pace.windows.is_none()) => {}
        Pacing::Ended => {
            tx.execute(
                "DELETE FROM nfc_paces WHERE terminal = ?1 AND from_epoch > ?2",
                params![new.terminal.value(), new.first.0],
            )?;
            insert_pace(tx, new, new.first.0, None)?;
            paces = find_paces(tx.conn, new.terminal)?;
        }
        Pacing::Set(windows) => {
            let untold = match known.issued_until {
                Some(told) => told.saturating_add(1).max(new.first.0),
                None => new.first.0,
            };
            let in_force = paces.iter().rev().find(|pace| pace.from_epoch <= untold);
            let is = in_force.and_then(|pace| pace.windows);
            if untold <= new.last.0 && is != windows {
                insert_pace(tx, new, untold, windows)?;
                paces = find_paces(tx.conn, new.terminal)?;
            }
        }
    }
    forget_past(tx, new, &mut paces)?;
    Ok(paces)
}

fn insert_pace(
    tx: &mut Tx<'_>,
    new: &NewSchedule,
    from_epoch: u32,
    windows: Option<NfcWindows>,
) -> Result<()> {
    let (shortest_ms, longest_ms) = windows
        .map(|windows| (windows.shortest_ms, windows.longest_ms))
        .unzip();
    tx.execute_one(
        "INSERT INTO nfc_paces (terminal, from_epoch, shortest_ms, longest_ms)
         VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (terminal, from_epoch) DO UPDATE SET
             shortest_ms = excluded.shortest_ms, longest_ms = excluded.longest_ms",
        params![new.terminal.value(), from_epoch, shortest_ms, longest_ms],
    )?;
    let body = json!({
        "terminal": new.terminal,
        "from_epoch": from_epoch,
        "shortest_ms": shortest_ms,
        "longest_ms": longest_ms,
    });
    tx.record("schedule.paced", new.at, &body)
}

/// The pace in force at the first epoch that may still be judged stays, and what follows it.
fn forget_past(tx: &Tx<'_>, new: &NewSchedule, paces: &mut Vec<Pace>) -> Result<()> {
    let present = EpochClock::of(new.terminal).epoch_at(new.at);
    let judged = present.saturating_sub(JUDGED_BEFORE);
    let begun = paces.iter().filter(|pace| pace.from_epoch <= judged);
    let Some(in_force) = begun.map(|pace| pace.from_epoch).max() else {
        return Ok(());
    };
    let before = paces.len();
    paces.retain(|pace| pace.from_epoch >= in_force);
    if paces.len() < before {
        tx.execute(
            "DELETE FROM nfc_paces WHERE terminal = ?1 AND from_epoch < ?2",
            params![new.terminal.value(), in_force],
        )?;
    }
    Ok(())
}

pub(super) fn find_paces(conn: &Conn, terminal: TerminalId) -> Result<Vec<Pace>> {
    all(
        conn,
        "SELECT from_epoch, shortest_ms, longest_ms FROM nfc_paces
         WHERE terminal = ?1 ORDER BY from_epoch",
        [terminal.value()],
        |row| {
            let lengths: (Option<i64>, Option<i64>) =
                (get(row, "shortest_ms")?, get(row, "longest_ms")?);
            Ok(Pace {
                from_epoch: get(row, "from_epoch")?,
                windows: lengths
                    .0
                    .zip(lengths.1)
                    .map(|(shortest_ms, longest_ms)| NfcWindows {
                        shortest_ms,
                        longest_ms,
                    }),
            })
        },
    )
}

fn read_worn(row: &Row<'_>) -> Result<WornTag> {
    let cycles: u32 = get(row, "cycles")?;
    Ok(WornTag {
        terminal: terminal(row, "terminal")?,
        uid: get(row, "tag_uid")?,
        wear: TagWear {
            cycles: cycles.saturating_add(get(row, "cycles_before")?),
            endurance: get(row, "endurance")?,
            per_link: get(row, "per_link")?,
            cycles_per_day: get(row, "cycles_per_day")?,
        },
        at: time(row, "at_ms")?,
        replace_by: time(row, "replace_by_ms")?,
        due_since: time_or_none(row, "due_since_ms")?,
    })
}
