//! Is this database ours, at a version that this program can use?
//!
//! Nodes do not change the schema by themselves: `m2key-authority migrate` does, while they go on. A step
//! only adds, so a node that knows less can use the database as long as the step says so.

use std::time::Duration;

use super::conn::{ALL, PgConn};
use crate::store::sql::conn::{Conn, params};
use crate::store::sql::control::Trouble;
use crate::store::sql::row::{all, find, get};
use crate::store::sqlite::error::unusable;
use crate::store::{LOST_AFTER, NEWS_EVERY, NodeSays, Result};

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

/// A node that was seen later than this ago is at work.
const AT_WORK_MS: i64 = 15_000;
/// Most nodes that are named.
const NAMED_MAX: usize = 5;
/// Held by whoever changes the schema.
const MIGRATING: i64 = 0x4d32_4b5a;
/// How often a step asks for its tables.
const TRIES_MAX: u32 = 8;
/// How long for each of them, in milliseconds: whoever comes next waits behind it. Less than nodes may hear nothing,
/// and less than PostgreSQL takes to look for a deadlock, so that it is the step that gives way.
const TRY_MS: u64 = 400;
const _: () = assert!(TRY_MS + NEWS_EVERY.as_millis() as u64 <= LOST_AFTER.as_millis() as u64);
/// From one try to the next, for whoever waited behind it.
const PAUSE: Duration = Duration::from_secs(1);

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

/// How many steps this program knows.
pub(super) fn known() -> u32 {
    STEPS.len() as u32
}

/// At which version the database is.
pub(super) fn state(conn: &Conn) -> Result<SchemaState> {
    let known = known();
    let version = stored(conn)?.map_or(0, |(version, _)| version);
    Ok(SchemaState { version, known })
}

/// Refuses what this program cannot use.
pub(super) fn check(conn: &Conn) -> Result<()> {
    let known = known();
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
    // After an error the end of the session gives the lock back.
    let steps = migrate_alone(conn, as_conn, STEPS, TRIES_MAX)?;
    conn.batch(&format!("SELECT pg_advisory_unlock({MIGRATING})"))?;
    Ok(steps)
}

fn migrate_alone(conn: &PgConn, as_conn: &Conn, steps: &[Step], tries_max: u32) -> Result<u32> {
    let SchemaState { version, .. } = state(as_conn)?;
    let lacking = steps.get(version as usize..).unwrap_or_default();
    for (step, number) in lacking.iter().zip(version + 1..) {
        let Step { sql, works_from } = step;
        if number > 1 {
            refuse_beside_older(as_conn, number, *works_from)?;
        }
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
                "DO $$ BEGIN
                     UPDATE schema_version SET version = {number}, works_from = {works_from}
                     WHERE version = {number} - 1;
                     IF NOT FOUND THEN
                         RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
                             MESSAGE = 'another `migrate` made this step meanwhile';
                     END IF;
                 END $$"
            ),
        };
        make(conn, &format!("{sql}; {mark}"), tries_max)?;
    }
    Ok(lacking.len() as u32)
}

/// Makes a step while nodes go on: no batch of theirs runs beside it, and it gives way to who reads. Busy: they were in
/// its way each time.
#[expect(clippy::disallowed_methods, reason = "a pause between bounded retries")]
fn make(conn: &PgConn, step: &str, tries_max: u32) -> Result<()> {
    let sql = format!(
        "BEGIN; SET LOCAL lock_timeout = {TRY_MS}; SELECT pg_advisory_xact_lock({ALL}); {step}; COMMIT"
    );
    let mut tries = 0;
    while let Err(why) = conn.batch(&sql) {
        conn.roll_back();
        tries += 1;
        if conn.trouble() != Some(Trouble::Crossed) || tries == tries_max {
            return Err(why);
        }
        std::thread::sleep(PAUSE);
        conn.mend(0)?;
    }
    Ok(())
}

/// Nodes that do not know `works_from` steps could not go on after this one.
fn refuse_beside_older(conn: &Conn, number: u32, works_from: i64) -> Result<()> {
    let sql = "SELECT name, version FROM nodes
         WHERE seen_ms > CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) - ?1 ORDER BY name";
    let at_work = all(conn, sql, [AT_WORK_MS], |row| {
        let says = NodeSays::read(&get::<String>(row, "version")?);
        Ok((get::<String>(row, "name")?, says.schema))
    })?;
    // Whoever does not say what it knows is from before it was said: of the first step.
    let is_older = |(_, knows): &&(String, Option<u32>)| i64::from(knows.unwrap_or(1)) < works_from;
    let older = at_work
        .iter()
        .filter(is_older)
        .map(|(name, _)| name.as_str());
    let named: Vec<_> = older.take(NAMED_MAX).collect();
    match named.is_empty() {
        true => Ok(()),
        false => Err(unusable(format!(
            "step {number} of the schema is for programs that know {works_from}, and {} are at work that know \
             fewer: replace their programs first (`m2key-authority node list`)",
            named.join(", ")
        ))),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use own_postgres::{Cluster, Durability, SUPERUSER};

    use super::*;
    use crate::store::StoreError;
    use crate::store::postgres::connect::Connect;
    use crate::store::postgres::{PostgresPlace, migrate};

    const DATABASE: &str = "postgres";
    /// Fewer than a bank has patience for.
    const TRIES: u32 = 4;

    fn step(sql: &'static str, works_from: i64) -> Step {
        Step { sql, works_from }
    }

    /// Steps beyond the last one there is, as a later version would have them.
    fn made(cluster: &Cluster, more: Vec<Step>) -> Result<u32> {
        let place = place_of(cluster);
        let conn = PgConn::open(Connect::to(&place, "migrating")?)?;
        let as_conn = Conn::Postgres(Box::new(PgConn::open(Connect::to(&place, "reading")?)?));
        let known = STEPS.iter().map(|it| step(it.sql, it.works_from));
        let all: Vec<_> = known.chain(more).collect();
        migrate_alone(&conn, &as_conn, &all, TRIES)
    }

    fn place_of(cluster: &Cluster) -> PostgresPlace {
        PostgresPlace {
            hosts: vec![cluster.socket().display().to_string()],
            database: DATABASE.into(),
            user: SUPERUSER.into(),
            password_file: None,
            root: None,
        }
    }

    fn checked(cluster: &Cluster) -> Result<()> {
        let conn = PgConn::open(Connect::to(&place_of(cluster), "reading")?)?;
        check(&Conn::Postgres(Box::new(conn)))
    }

    #[test]
    fn a_step_that_a_node_at_work_cannot_follow_waits_until_it_is_replaced() {
        let cluster = Cluster::start(Durability::OfProcess);
        migrate(&place_of(&cluster)).unwrap();
        let known = i64::from(known());
        let node = |name: &str, version: &str, ago_s: u32| {
            cluster.sql(
                DATABASE,
                &format!(
                    "INSERT INTO nodes (name, since_ms, seen_ms, version) SELECT '{name}', now_ms, now_ms, '{version}'
                     FROM (SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) - {ago_s}000
                           AS now_ms) clock"
                ),
            );
        };
        node("of-before", "0.1.0", 1);
        node("of-today", &format!("0.2.0+schema.{known}"), 1);
        node("gone", "0.0.1+schema.0", 3_600);

        let adds = || step("ALTER TABLE charges ADD COLUMN later BIGINT", 1);
        assert_eq!(made(&cluster, vec![adds()]), Ok(1), "it only adds");
        assert_eq!(checked(&cluster), Ok(()), "an older program goes on");

        let parts = || step("CREATE TABLE later (of BIGINT)", known + 1);
        let refused = made(&cluster, vec![adds(), parts()])
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("of-before, of-today are at work"),
            "{refused}"
        );
        assert!(!refused.contains("gone"), "{refused}");
        assert_eq!(checked(&cluster), Ok(()), "nothing was changed");

        let newer = format!("UPDATE nodes SET version = '0.3.0+schema.{}'", known + 2);
        cluster.sql(DATABASE, &newer);
        assert_eq!(made(&cluster, vec![adds(), parts()]), Ok(1));
        let refused = checked(&cluster).unwrap_err().to_string();
        assert!(refused.contains("use a newer program"), "{refused}");
    }

    /// Tries of a step that were given up.
    fn given_up(cluster: &Cluster) -> usize {
        let said = "canceling statement due to lock timeout";
        cluster.log().matches(said).count()
    }

    #[test]
    fn a_step_lets_pass_who_reads_and_writes_and_is_made_then() {
        let cluster = Cluster::start(Durability::OfProcess);
        migrate(&place_of(&cluster)).unwrap();
        let node = PgConn::open(Connect::to(&place_of(&cluster), "node").unwrap()).unwrap();
        node.batch("SET idle_in_transaction_session_timeout = 0")
            .unwrap();
        let reads = "LOCK TABLE charges IN ACCESS SHARE MODE".to_owned();
        let writes = format!("SELECT pg_advisory_xact_lock_shared({ALL})");
        for (number, held) in [reads, writes].into_iter().enumerate() {
            let more = (0..=number).map(|_| {
                let sql = "ALTER TABLE charges ADD COLUMN IF NOT EXISTS later BIGINT";
                step(sql, 1)
            });
            let more: Vec<_> = more.collect();
            let before = given_up(&cluster);
            node.batch(&format!("BEGIN; {held}")).unwrap();
            let answered = std::thread::scope(|scope| {
                let making = scope.spawn(|| made(&cluster, more));
                while given_up(&cluster) == before && !making.is_finished() {
                    std::thread::yield_now();
                }
                node.batch("COMMIT").unwrap();
                making.join().unwrap()
            });
            assert!(given_up(&cluster) > before, "it waited for its tables");
            assert_eq!(answered, Ok(1));
        }
        let version = || cluster.sql(DATABASE, "SELECT version FROM schema_version");
        let before = version();
        node.batch("BEGIN; LOCK TABLE charges IN ACCESS SHARE MODE")
            .unwrap();
        let more = (0..3).map(|_| step("ALTER TABLE charges ADD COLUMN last BIGINT", 1));
        assert_eq!(made(&cluster, more.collect()), Err(StoreError::Busy));
        node.batch("COMMIT").unwrap();
        assert_eq!(version(), before);
    }

    #[test]
    fn a_step_waits_for_a_table_for_less_than_nodes_may_hear_nothing() {
        let cluster = Cluster::start(Durability::OfProcess);
        migrate(&place_of(&cluster)).unwrap();
        let asks = "CREATE TABLE asked AS SELECT current_setting('lock_timeout') AS within";
        assert_eq!(made(&cluster, vec![step(asks, 1)]), Ok(1));
        let within = cluster.sql(DATABASE, "SELECT within FROM asked");
        assert_eq!(within, format!("{TRY_MS}ms"));
    }

    #[test]
    fn a_step_that_another_one_made_meanwhile_is_not_marked_again() {
        let cluster = Cluster::start(Durability::OfProcess);
        migrate(&place_of(&cluster)).unwrap();
        let marks = "UPDATE schema_version SET version = version + 1";
        let refused = made(&cluster, vec![step(marks, 1)])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("another `migrate`"), "{refused}");
        let version = cluster.sql(DATABASE, "SELECT version FROM schema_version");
        assert_eq!(version, known().to_string());
    }
}
