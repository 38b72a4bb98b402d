//! Is this database ours, at a version that this program can use?
//!
//! Nodes do not change the schema by themselves: `m2key-authority migrate` does, while they go on. A step
//! only adds, so a node that knows less can use the database as long as the step says so.

use super::conn::PgConn;
use crate::store::Result;
use crate::store::sql::conn::{Conn, params};
use crate::store::sql::row::{find, get};
use crate::store::sqlite::error::unusable;

/// One step of the schema.
struct Step {
    sql: &'static str,
    /// The least version whose programs can use the database after this step.
    works_from: i64,
}

/// Steps from one version to the next; the first makes version 1.
const STEPS: &[Step] = &[
    Step {
        sql: include_str!("../../../migrations/postgres/0001_first.sql"),
        works_from: 1,
    },
    // A node of before keeps a late repeat of an event that is gone, until it is replaced.
    Step {
        sql: include_str!("../../../migrations/postgres/0002_reports.sql"),
        works_from: 1,
    },
];

/// Held by whoever changes the schema.
const MIGRATING: i64 = 0x4d32_4b5a;

/// What a schema is at, and what this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaState {
    /// 0: there is none yet.
    pub version: u32,
    pub known: u32,
}

impl SchemaState {
    /// How many steps are to be made.
    pub fn behind(self) -> u32 {
        self.known.saturating_sub(self.version)
    }
}

/// At which version the database is.
pub(super) fn state(conn: &Conn) -> Result<SchemaState> {
    let known = STEPS.len() as u32;
    let version = stored(conn)?.map_or(0, |(version, _)| version);
    Ok(SchemaState { version, known })
}

/// Refuses what this program cannot use.
pub(super) fn check(conn: &Conn) -> Result<()> {
    let known = STEPS.len() as u32;
    match stored(conn)? {
        None => Err(unusable(
            "the database holds no schema of M2Key: run `m2key-authority migrate`",
        )),
        Some((version, _)) if version < known => Err(unusable(format!(
            "its schema has version {version}, this program needs {known}: run `m2key-authority migrate`"
        ))),
        Some((version, works_from)) if works_from > known => Err(unusable(format!(
            "its schema has version {version}, this program knows {known}: use a newer program"
        ))),
        Some(_) => Ok(()),
    }
}

/// Makes the steps that are lacking, each in a transaction of its own; answers how many.
pub(super) fn migrate(conn: &PgConn, as_conn: &Conn) -> Result<u32> {
    conn.batch(&format!("SELECT pg_advisory_lock({MIGRATING})"))?;
    let migrated = migrate_alone(conn, as_conn);
    conn.batch(&format!("SELECT pg_advisory_unlock({MIGRATING})"))?;
    migrated
}

fn migrate_alone(conn: &PgConn, as_conn: &Conn) -> Result<u32> {
    let SchemaState { version, known } = state(as_conn)?;
    let lacking = STEPS.get(version as usize..).unwrap_or_default();
    for (step, number) in lacking.iter().zip(version + 1..) {
        let Step { sql, works_from } = step;
        let mark = match number {
            1 => format!(
                "CREATE TABLE schema_version (
                     only_row   BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1), -- there is one row
                     version    BIGINT NOT NULL, -- how many steps were made
                     works_from BIGINT NOT NULL  -- programs that know so many can use it
                 );
                 INSERT INTO schema_version VALUES (1, 1, {works_from})"
            ),
            _ => format!(
                "UPDATE schema_version SET version = {number}, works_from = {works_from}"
            ),
        };
        let made = conn.batch(&format!("BEGIN; {sql}; {mark}; COMMIT"));
        if made.is_err() {
            conn.roll_back();
        }
        made?;
    }
    Ok(known.saturating_sub(version))
}

fn stored(conn: &Conn) -> Result<Option<(u32, u32)>> {
    let table = find(
        conn,
        "SELECT to_regclass('schema_version') IS NOT NULL AS found",
        params![],
        |row| get::<bool>(row, "found"),
    )?;
    if table != Some(true) {
        return Ok(None);
    }
    find(
        conn,
        "SELECT version, works_from FROM schema_version",
        params![],
        |row| Ok((get(row, "version")?, get(row, "works_from")?)),
    )
}
