//! What does one report add to what is known of a terminal's tag?

use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TerminalEvent};
use rusqlite::params;

use super::super::row::{find, get};
use super::super::writer::Tx;
use super::alarms::{self, Times};
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
    let mut visit = Visit {
        terminal,
        day,
        now,
        uid: "",
        counter: None,
        written: None,
    };
    match &event.what {
        Seen::Tap {
            tag_uid,
            count,
            counter,
            ..
        } => {
            count_day(tx, terminal, day, *count, now)?;
            // Without it this event is a part of the visit that `TagWritten` tells of.
            let Some(counter) = counter else {
                return Ok(());
            };
            (visit.uid, visit.counter) = (tag_uid, Some(*counter));
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
            (visit.uid, visit.counter) = (tag_uid, *counter);
            visit.written = Some(*window);
        }
        Seen::TagFailed { .. } => return Ok(()),
    }
    visit.follow(tx)
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
        "INSERT INTO tap_days (terminal, day, taps, claims, second_places, next_at_ms)
         VALUES (?1, ?2, ?3, 0, 0, ?4)
         ON CONFLICT DO UPDATE SET taps = taps + ?3, next_at_ms = coalesce(next_at_ms, ?4)
             WHERE ?3 > 0",
        params![terminal.value(), day, taps, due],
    )?;
    Ok(())
}

/// One visit of a terminal to its tag.
struct Visit<'a> {
    terminal: TerminalId,
    day: i64,
    now: Timestamp,
    uid: &'a str,
    counter: Option<TagCounter>,
    written: Option<SeenWindow>,
}

/// Epoch and number of a window.
type Place = (u32, u16);

impl Visit<'_> {
    fn follow(&self, tx: &mut Tx<'_>) -> Result<()> {
        let before = find(
            tx.conn,
            "SELECT * FROM tag_watches WHERE terminal = ?1",
            [self.terminal.value()],
            |row| {
                let watched = Watched {
                    tag_uid: get(row, "tag_uid")?,
                    counter: get(row, "counter")?,
                };
                let epoch = get::<Option<u32>>(row, "epoch")?;
                Ok((watched, epoch.zip(get::<Option<u16>>(row, "window")?)))
            },
        )?;
        let (watched, on_tag) = before.unzip();
        let on_tag: Option<Place> = on_tag.flatten();
        let reads = reads_between(watched.as_ref(), self.uid, self.counter);
        if let Reads::Back { from, to } = reads {
            self.went_back(tx, from, to)?;
        }
        if let Some(place) = on_tag {
            self.add(tx, place, reads)?;
        }
        let written = self.written.map(|it| (it.epoch, it.window));
        if let Some(next) = written.filter(|it| Some(*it) != on_tag) {
            if let Some(place) = on_tag {
                self.end(tx, place, next)?;
            }
            self.begin(tx, next, reads)?;
        }
        self.keep(tx, written.or(on_tag))
    }

    fn add(&self, tx: &Tx<'_>, (epoch, window): Place, reads: Reads) -> Result<()> {
        let (taps, counted) = match reads {
            Reads::Counted(taps) => (taps, true),
            Reads::Unknown | Reads::Back { .. } => (0, false),
        };
        tx.execute(
            "UPDATE tap_windows SET taps = taps + ?4, counted = min(counted, ?5)
             WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3",
            params![self.terminal.value(), epoch, window, taps, counted],
        )?;
        Ok(())
    }

    fn end(&self, tx: &Tx<'_>, (epoch, window): Place, next: Place) -> Result<()> {
        tx.execute(
            "UPDATE tap_windows SET until_epoch = ?4, until_window = ?5, next_at_ms = ?6
             WHERE terminal = ?1 AND epoch = ?2 AND \"window\" = ?3 AND judged = 0",
            params![
                self.terminal.value(),
                epoch,
                window,
                next.0,
                next.1,
                (self.now + JUDGE_AFTER_MS).ms()
            ],
        )?;
        Ok(())
    }

    /// What was on the tag before must be known, or this window may have been on it already.
    fn begin(&self, tx: &Tx<'_>, (epoch, window): Place, reads: Reads) -> Result<()> {
        let counted = matches!(reads, Reads::Counted(_));
        tx.execute(
            "INSERT INTO tap_windows (terminal, epoch, \"window\", taps, counted, judged)
             VALUES (?1, ?2, ?3, 0, ?4, 0)
             ON CONFLICT DO UPDATE SET counted = 0",
            params![self.terminal.value(), epoch, window, counted],
        )?;
        Ok(())
    }

    fn keep(&self, tx: &Tx<'_>, on_tag: Option<Place>) -> Result<()> {
        tx.execute_one(
            "INSERT INTO tag_watches (terminal, tag_uid, counter, epoch, \"window\")
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET tag_uid = excluded.tag_uid, counter = excluded.counter,
                 epoch = excluded.epoch, \"window\" = excluded.\"window\"",
            params![
                self.terminal.value(),
                self.uid,
                self.counter.map(|it| it.left.min(COUNTER_MAX)),
                on_tag.map(|it| it.0),
                on_tag.map(|it| it.1)
            ],
        )
    }

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
            self.day,
            Times::More(1),
            self.now,
            reason,
        )
    }
}
