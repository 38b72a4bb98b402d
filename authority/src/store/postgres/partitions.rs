//! Where does a day of spent tokens lie, so that it can go as a whole?
//!
//! `spent` and `turns` have a partition for each day of epochs, named by its first epoch, made ahead by the
//! retention job. What no day takes lies in the rest, and is brought to its day when that is made.

use std::collections::BTreeSet;

use crate::store::sql::conn::{Conn, params};
use crate::store::sql::row::{all, get, one};
use crate::store::{DAY_EPOCHS, Result};

/// What is kept by day.
const TABLES: [&str; 2] = ["spent", "turns"];

/// The first of these days that has no partition, or else a day that has rows in the rest.
pub(in crate::store) fn lacking(conn: &Conn, wanted: &[u32]) -> Result<Option<u32>> {
    for table in TABLES {
        let there = days(conn, table)?;
        if let Some(day) = wanted.iter().find(|day| !there.contains(*day)) {
            return Ok(Some(*day));
        }
        let oldest = one(
            conn,
            &format!("SELECT min(epoch) AS epoch FROM {table}_rest"),
            params![],
            |row| get::<Option<u32>>(row, "epoch"),
        )?;
        if let Some(epoch) = oldest {
            return Ok(Some(epoch / DAY_EPOCHS * DAY_EPOCHS));
        }
    }
    Ok(None)
}

/// Makes the partitions of the day that begins with this epoch, and brings there what lies in the rest.
pub(in crate::store) fn make(conn: &Conn, day: u32) -> Result<()> {
    let next = day.saturating_add(DAY_EPOCHS);
    for table in TABLES {
        if days(conn, table)?.contains(&day) {
            continue;
        }
        let steps = [
            format!("CREATE TABLE {table}_{day} (LIKE {table} INCLUDING ALL)"),
            format!(
                "WITH moved AS (DELETE FROM {table}_rest WHERE epoch >= {day} AND epoch < {next} RETURNING *)
                 INSERT INTO {table}_{day} SELECT * FROM moved"
            ),
            format!(
                "ALTER TABLE {table} ATTACH PARTITION {table}_{day} FOR VALUES FROM ({day}) TO ({next})"
            ),
        ];
        for step in steps {
            conn.execute(&step, params![])?;
        }
    }
    Ok(())
}

/// Drops the oldest day that lies wholly below this epoch; false if there is none.
pub(in crate::store) fn drop_one(conn: &Conn, below: u32) -> Result<bool> {
    for table in TABLES {
        let oldest = days(conn, table)?.first().copied();
        if let Some(day) = oldest.filter(|day| day.saturating_add(DAY_EPOCHS) <= below) {
            conn.execute(&format!("DROP TABLE {table}_{day}"), params![])?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many rows no day has taken, counted up to `most` of each table.
pub(in crate::store) fn rest(conn: &Conn, most: u32) -> Result<u32> {
    let mut rows = 0;
    for table in TABLES {
        rows += one(
            conn,
            &format!("SELECT count(*) AS rows FROM (SELECT 1 FROM {table}_rest LIMIT ?1) counted"),
            [most],
            |row| get::<u32>(row, "rows"),
        )?;
    }
    Ok(rows)
}

/// The first epochs of the days that have a partition of this table.
fn days(conn: &Conn, table: &str) -> Result<BTreeSet<u32>> {
    let names = all(
        conn,
        "SELECT child.relname::text AS name FROM pg_inherits
         JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = to_regclass(?1)",
        [table],
        |row| get::<String>(row, "name"),
    )?;
    let day = |name: &String| name.rsplit_once('_')?.1.parse().ok();
    Ok(names.iter().filter_map(day).collect())
}
