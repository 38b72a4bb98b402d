//! What does one report add to what is known of a terminal's tag?

use crate::store::sql::conn::params;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TerminalEvent};

use super::super::row::{find, get};
use super::super::writer::Tx;
use super::alarms::{self, Times};
use super::link::Place;
use crate::store::tap_rules::{COUNTER_MAX, Reads, Watched, reads_between};
use crate::store::{JUDGE_AFTER_MS, JUDGE_DAY_EVERY_MS, LATE_MAX_MS, Result, TagAlarmKind, day_of};

const DAY_MS: i64 = 24 * 3_600_000;

/// Takes in one event that was not known yet, in the order in which the terminal sends them.
pub(in super::super) fn take(
    tx: &mut Tx<'_>,
    terminal: TerminalId,
    event: &TerminalEvent,
    now: Timestamp,
) -> Result<()> {
    let day = day_of(believed(event.at, now));
    let visit = |uid, counter, written| Visit {
        terminal,
        now,
        uid,
        counter,
        written,
    };
    match &event.what {
        Seen::Tap {
            tag_uid,
            count,
            window,
            counter,
        } => {
            count_day(tx, terminal, day, *count, now)?;
            let known = match window {
                Some(window) => issued(tx, terminal, *window)?,
                None => None,
            };
            if known.is_none() {
                unsure(tx, terminal)?;
            }
            // Without it this event is a part of the visit that `TagWritten` tells of.
            match counter {
                Some(counter) => visit(tag_uid, Some(*counter), None).follow(tx),
                None => Ok(()),
            }
        }
        Seen::TagWritten {
            tag_uid,
            window,
            counter,
            ..
        } => {
            if counter.is_some() {
                count_day(tx, terminal, day, 0, now)?;
            }
            let written = issued(tx, terminal, *window)?;
            visit(tag_uid, *counter, written).follow(tx)?;
            match written {
                Some(_) => Ok(()),
                None => unsure(tx, terminal),
            }
        }
        Seen::TagFailed { .. } => unsure(tx, terminal),
    }
}

/// What a terminal can have on its tag: a link of an epoch that some schedule of it held.
fn issued(tx: &Tx<'_>, terminal: TerminalId, window: SeenWindow) -> Result<Option<Place>> {
    let found = find(
        tx.conn,
        "SELECT 1 FROM terminals WHERE id = ?1 AND issued_until >= ?2",
        params![terminal.value(), window.epoch],
        |_| Ok(()),
    )?;
    Ok(found.map(|()| window.into()))
}

/// A visit failed, or the terminal does not know what it had written: another link than the last one told
/// may have been on the tag, and read.
fn unsure(tx: &Tx<'_>, terminal: TerminalId) -> Result<()> {
    tx.execute(
        "UPDATE tag_watches SET unsure = 1 WHERE terminal = ?1",
        [terminal.value()],
    )?;
    Ok(())
}

/// The terminal's clock, unless it is far off.
fn believed(at: Timestamp, now: Timestamp) -> Timestamp {
    let late = now - at;
    match (-DAY_MS..=LATE_MAX_MS).contains(&late) {
        true => at,
        false => now,
    }
}

fn count_day(tx: &Tx<'_>, terminal: TerminalId, day: i64, taps: u32, now: Timestamp) -> Result<()> {
    let due = (taps > 0).then(|| (now + JUDGE_DAY_EVERY_MS).ms());
    tx.execute(
        "INSERT INTO tap_days (terminal, day, taps, counted, claims, second_places, next_at_ms)
         VALUES (?1, ?2, ?3, 1, 0, 0, ?4)
         ON CONFLICT (terminal, day) DO UPDATE SET taps = tap_days.taps + ?3, counted = 1,
             next_at_ms = coalesce(tap_days.next_at_ms, ?4)
             WHERE ?3 > 0 OR tap_days.counted = 0",
        params![terminal.value(), day, taps, due],
    )?;
    Ok(())
}

/// One visit of a terminal to its tag.
struct Visit<'a> {
    terminal: TerminalId,
    now: Timestamp,
    uid: &'a str,
    counter: Option<TagCounter>,
    written: Option<Place>,
}

/// What was known before.
struct Before {
    watched: Watched,
    on_tag: Option<Place>,
    unsure: bool,
}

impl Visit<'_> {
    fn follow(&self, tx: &mut Tx<'_>) -> Result<()> {
        let before = self.before(tx)?;
        let watched = before.as_ref().map(|before| &before.watched);
        let reads = reads_between(watched, self.uid, self.counter);
        if let Reads::Back { from, to } = reads {
            self.went_back(tx, from, to)?;
        }
        let on_tag = before.as_ref().and_then(|before| before.on_tag);
        if let Some(place) = on_tag {
            self.add(tx, place, reads)?;
        }
        if let Some(next) = self.written.filter(|it| Some(*it) != on_tag) {
            if let Some(place) = on_tag {
                self.end(tx, place, next)?;
            }
            let unsure = before.is_some_and(|before| before.unsure);
            self.begin(tx, next, reads, unsure)?;
        }
        self.keep(tx, self.written.or(on_tag))
    }

    fn before(&self, tx: &Tx<'_>) -> Result<Option<Before>> {
        find(
            tx.conn,
            "SELECT * FROM tag_watches WHERE terminal = ?1",
            [self.terminal.value()],
            |row| {
                Ok(Before {
                    watched: Watched {
                        tag_uid: get(row, "tag_uid")?,
                        counter: get(row, "counter")?,
                    },
                    on_tag: Place::read(row)?,
                    unsure: get(row, "unsure")?,
                })
            },
        )
    }

    fn add(&self, tx: &Tx<'_>, place: Place, reads: Reads) -> Result<()> {
        let (taps, counted) = match reads {
            Reads::Counted(taps) => (taps, true),
            Reads::Unknown | Reads::Back { .. } => (0, false),
        };
        tx.execute(
            "UPDATE tag_links SET taps = taps + ?5, counted = min(counted, ?6)
             WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3 AND turn = ?4",
            params![
                self.terminal.value(),
                place.epoch,
                place.window,
                place.turn,
                taps,
                counted
            ],
        )?;
        Ok(())
    }

    fn end(&self, tx: &Tx<'_>, place: Place, next: Place) -> Result<()> {
        tx.execute(
            "UPDATE tag_links
             SET until_epoch = ?5, until_window = ?6, until_turn = ?7, next_at_ms = ?8
             WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3 AND turn = ?4 AND judged = 0",
            params![
                self.terminal.value(),
                place.epoch,
                place.window,
                place.turn,
                next.epoch,
                next.window,
                next.turn,
                (self.now + JUDGE_AFTER_MS).ms()
            ],
        )?;
        Ok(())
    }

    /// What was on the tag before must be known, or this link may have been on it already; if it may have
    /// been since a visit that failed, those reads count for both.
    fn begin(&self, tx: &Tx<'_>, place: Place, reads: Reads, unsure: bool) -> Result<()> {
        let (taps, counted) = match reads {
            Reads::Counted(taps) => (if unsure { taps } else { 0 }, true),
            Reads::Unknown | Reads::Back { .. } => (0, false),
        };
        tx.execute(
            "INSERT INTO tag_links (terminal, epoch, \"window\", turn, taps, counted, judged)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)
             ON CONFLICT (terminal, epoch, \"window\", turn) DO UPDATE SET counted = 0",
            params![
                self.terminal.value(),
                place.epoch,
                place.window,
                place.turn,
                taps,
                counted
            ],
        )?;
        Ok(())
    }

    fn keep(&self, tx: &Tx<'_>, on_tag: Option<Place>) -> Result<()> {
        tx.execute_one(
            "INSERT INTO tag_watches (terminal, tag_uid, counter, epoch, \"window\", turn, unsure)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)
             ON CONFLICT (terminal) DO UPDATE SET tag_uid = excluded.tag_uid, counter = excluded.counter,
                 epoch = excluded.epoch, \"window\" = excluded.\"window\", turn = excluded.turn, unsure = 0",
            params![
                self.terminal.value(),
                self.uid,
                self.counter.map(|it| it.left.min(COUNTER_MAX)),
                on_tag.map(|it| it.epoch),
                on_tag.map(|it| it.window),
                on_tag.map(|it| it.turn)
            ],
        )
    }

    /// Of the day on which it is heard of: no reporter chooses which alarm grows.
    fn went_back(&self, tx: &mut Tx<'_>, from: u32, to: u32) -> Result<()> {
        let reason = |times: u64| {
            format!(
                "the counter of tag {} only rises, and went back {times} times; the latest: from \
                 {from} to {to}",
                self.uid
            )
        };
        let kind = TagAlarmKind::CounterBack;
        alarms::raise(
            tx,
            self.terminal,
            kind,
            day_of(self.now),
            Times::More(1),
            self.now,
            reason,
        )
    }
}
