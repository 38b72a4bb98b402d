//! How worn is each tag, and how fast does it wear?

use protocol::time::Millis;
use protocol::wear::{DAY_MS, TagWear, planned};
use protocol::window::{Policy, WindowPolicy};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{State, StateError};
use crate::tag::Programming;

/// From one mark to the next; the pace is measured since the one before the last.
const MARK_EVERY_MS: Millis = 7 * DAY_MS;
/// What a tag is held to bear that was not visited since its kind is written down: the least.
const ENDURANCE_LEAST: u32 = 100_000;
const PER_LINK_MOST: u32 = 2;

/// Version 3. What was programmed before is known only as visits, and each is held to have worn a tag
/// as much as a link does.
pub(super) const SCHEMA: &str = "
    -- Programming cycles of the page or frame that is written most; counted before it is written.
    ALTER TABLE tag ADD COLUMN cycles INTEGER NOT NULL DEFAULT 0;
    -- What its data sheet promises, and what a link costs; NULL: not visited since version 2.
    ALTER TABLE tag ADD COLUMN endurance INTEGER;
    ALTER TABLE tag ADD COLUMN per_link INTEGER;
    -- Cycles at two moments, a week or more apart: the pace is measured since the earlier one.
    ALTER TABLE tag ADD COLUMN since_ms INTEGER;
    ALTER TABLE tag ADD COLUMN since_cycles INTEGER;
    ALTER TABLE tag ADD COLUMN mark_ms INTEGER;
    ALTER TABLE tag ADD COLUMN mark_cycles INTEGER;
    UPDATE tag SET cycles = 2 * writes;
";

/// What is counted of one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedTag {
    pub uid: String,
    /// Visits that programmed it.
    pub writes: u64,
    /// Pages or frames programmed.
    pub pages: u64,
    pub cycles: u32,
    /// Where its counter stood after our last visit.
    pub counter: Option<u32>,
    endurance: Option<u32>,
    per_link: Option<u32>,
    /// None: there is less than a day to measure.
    measured_per_day: Option<u32>,
}

impl CountedTag {
    /// With the pace of these windows as long as it was not measured.
    pub fn wear(&self, nfc: Option<&WindowPolicy>) -> TagWear {
        let per_link = self.per_link.unwrap_or(PER_LINK_MOST);
        let default = Policy::default().nfc;
        let planned = || planned(per_link, nfc.unwrap_or(&default));
        TagWear {
            cycles: self.cycles,
            endurance: self.endurance.unwrap_or(ENDURANCE_LEAST),
            per_link,
            cycles_per_day: self.measured_per_day.unwrap_or_else(planned),
        }
    }

    pub fn is_measured(&self) -> bool {
        self.measured_per_day.is_some()
    }
}

impl State {
    /// What is about to be programmed; counted when it returns.
    pub(super) fn count(&self, uid: &str, what: &Programming) -> Result<(), StateError> {
        self.lock().execute(
            "INSERT INTO tag (uid, writes, pages, cycles, endurance, per_link, last_visit_ms)
             VALUES (?1, 1, ?2, ?3, ?4, ?5, 0)
             ON CONFLICT (uid) DO UPDATE SET writes = writes + 1, pages = pages + excluded.pages,
                cycles = cycles + excluded.cycles, endurance = excluded.endurance,
                per_link = excluded.per_link",
            params![uid, what.pages, what.cycles, what.endurance, what.per_link],
        )?;
        Ok(())
    }

    /// Somebody knows that a tag was programmed this often elsewhere.
    pub fn count_elsewhere(&self, uid: &str, cycles: u32) -> Result<(), StateError> {
        self.lock().execute(
            "INSERT INTO tag (uid, writes, pages, cycles, last_visit_ms) VALUES (?1, 0, 0, ?2, 0)
             ON CONFLICT (uid) DO UPDATE SET cycles = max(cycles, excluded.cycles)",
            params![uid, cycles],
        )?;
        Ok(())
    }

    /// The tag that was visited last.
    pub fn last_tag(&self) -> Result<Option<CountedTag>, StateError> {
        let query = "SELECT * FROM tag ORDER BY last_visit_ms DESC LIMIT 1";
        let tag = self.lock().query_row(query, [], counted).optional()?;
        Ok(tag.map(|tag| self.whole(tag)))
    }

    pub fn tag(&self, uid: &str) -> Result<Option<CountedTag>, StateError> {
        let query = "SELECT * FROM tag WHERE uid = ?1";
        let tag = self.lock().query_row(query, [uid], counted).optional()?;
        Ok(tag.map(|tag| self.whole(tag)))
    }

    pub(super) fn cycles(&self, uid: &str) -> Result<u32, StateError> {
        let tag = self.tag(uid)?;
        Ok(tag.map_or_else(|| self.cycles_waiting(uid), |tag| tag.cycles))
    }

    /// With what is not on the disk.
    fn whole(&self, tag: CountedTag) -> CountedTag {
        let cycles = tag.cycles.saturating_add(self.cycles_waiting(&tag.uid));
        CountedTag { cycles, ..tag }
    }
}

/// After a visit at this moment.
pub(super) fn mark(connection: &Connection, uid: &str, at: Moment) -> Result<(), StateError> {
    let query = "SELECT since_ms, since_cycles, mark_ms, mark_cycles FROM tag WHERE uid = ?1";
    let pace = connection.query_row(query, [uid], Pace::read)?;
    let Pace { since, mark } = Pace::marked(pace, at);
    connection.execute(
        "UPDATE tag SET since_ms = ?2, since_cycles = ?3, mark_ms = ?4, mark_cycles = ?5
         WHERE uid = ?1",
        params![uid, since.0, since.1, mark.0, mark.1],
    )?;
    Ok(())
}

/// A moment, and the cycles that were counted until then.
pub(super) type Moment = (i64, i64);

/// Over which time the pace is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    since: Moment,
    mark: Moment,
}

impl Pace {
    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let moment = |ms, cycles| -> rusqlite::Result<Option<Moment>> {
            Ok(row.get::<_, Option<i64>>(ms)?.zip(row.get(cycles)?))
        };
        let since = moment("since_ms", "since_cycles")?;
        let mark = moment("mark_ms", "mark_cycles")?;
        Ok(since.zip(mark).map(|(since, mark)| Self { since, mark }))
    }

    /// A clock that went back has told nothing that can be used.
    fn marked(pace: Option<Self>, now: Moment) -> Self {
        match pace {
            Some(pace) if now.0 >= pace.mark.0 => match now.0 - pace.mark.0 >= MARK_EVERY_MS {
                true => Self {
                    since: pace.mark,
                    mark: now,
                },
                false => pace,
            },
            _ => Self {
                since: now,
                mark: now,
            },
        }
    }

    /// Rounded up.
    fn per_day(&self, until: Moment) -> Option<u32> {
        let span = until.0 - self.since.0;
        if span < DAY_MS {
            return None;
        }
        let cycles = i128::from(until.1 - self.since.1) * i128::from(DAY_MS);
        let per_day = (cycles + i128::from(span) - 1) / i128::from(span);
        Some(u32::try_from(per_day.max(0)).unwrap_or(u32::MAX))
    }
}

fn counted(row: &Row<'_>) -> rusqlite::Result<CountedTag> {
    let cycles: i64 = row.get("cycles")?;
    let until = (row.get("last_visit_ms")?, cycles);
    Ok(CountedTag {
        uid: row.get("uid")?,
        writes: row.get::<_, i64>("writes")?.unsigned_abs(),
        pages: row.get::<_, i64>("pages")?.unsigned_abs(),
        cycles: u32::try_from(cycles).unwrap_or(u32::MAX),
        counter: row.get("counter")?,
        endurance: row.get("endurance")?,
        per_link: row.get("per_link")?,
        measured_per_day: Pace::read(row)?.and_then(|pace| pace.per_day(until)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(days: std::ops::Range<i64>, per_day: i64, mut pace: Option<Pace>) -> (Pace, Moment) {
        let mut now = (0, 0);
        for day in days {
            now = (day * DAY_MS, now.1 + per_day);
            pace = Some(Pace::marked(pace, now));
        }
        (
            pace.unwrap_or(Pace {
                since: now,
                mark: now,
            }),
            now,
        )
    }

    #[test]
    fn the_pace_is_known_after_a_day_and_forgets_what_is_two_weeks_past() {
        let (pace, now) = over(0..1, 640, None);
        assert_eq!(pace.per_day(now), None);
        let (pace, now) = over(0..2, 640, None);
        assert_eq!(pace.per_day(now), Some(640));
        let (mut pace, mut now) = over(0..100, 640, None);
        for day in 100..122 {
            now = (day * DAY_MS, now.1 + 200);
            pace = Pace::marked(Some(pace), now);
        }
        assert_eq!(pace.per_day(now), Some(200));
    }

    #[test]
    fn a_clock_that_went_back_begins_anew() {
        let (pace, now) = over(0..30, 640, None);
        let wrong = (1_000 * DAY_MS, now.1 + 1);
        let back = (31 * DAY_MS, now.1 + 2);
        let pace = Pace::marked(Some(Pace::marked(Some(pace), wrong)), back);
        assert_eq!((pace.since, pace.mark), (back, back));
        assert_eq!(pace.per_day(back), None);
    }
}
