//! Is this file our database, at our version?

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::error::{cannot_write, corrupt, unusable};
use crate::store::sql::persons::random;
use crate::store::{Result, StoreError};

/// Steps from one version to the next; the first makes version 1.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_first.sql"),
    include_str!("../../../migrations/sqlite/0002_identities.sql"),
    include_str!("../../../migrations/sqlite/0003_fence.sql"),
    include_str!("../../../migrations/sqlite/0004_rotation.sql"),
    include_str!("../../../migrations/sqlite/0005_approvals.sql"),
    include_str!("../../../migrations/sqlite/0006_trust.sql"),
    include_str!("../../../migrations/sqlite/0007_forgotten.sql"),
    include_str!("../../../migrations/sqlite/0008_alarms.sql"),
    include_str!("../../../migrations/sqlite/0009_profiles.sql"),
    include_str!("../../../migrations/sqlite/0010_rails.sql"),
    include_str!("../../../migrations/sqlite/0011_sign_in.sql"),
    include_str!("../../../migrations/sqlite/0012_step_up.sql"),
    include_str!("../../../migrations/sqlite/0013_wallet.sql"),
    include_str!("../../../migrations/sqlite/0014_sms.sql"),
    include_str!("../../../migrations/sqlite/0015_books.sql"),
    include_str!("../../../migrations/sqlite/0016_kept.sql"),
    include_str!("../../../migrations/sqlite/0017_evidence.sql"),
    include_str!("../../../migrations/sqlite/0018_tags.sql"),
    include_str!("../../../migrations/sqlite/0019_tag_wear.sql"),
    include_str!("../../../migrations/sqlite/0020_taps.sql"),
    include_str!("../../../migrations/sqlite/0021_nodes.sql"),
    include_str!("../../../migrations/sqlite/0022_epochs.sql"),
    include_str!("../../../migrations/sqlite/0023_reports.sql"),
    include_str!("../../../migrations/sqlite/0024_checks.sql"),
];

/// "M2KY" in the header of the file: ours.
const APPLICATION_ID: i32 = 0x4d32_4b59;
/// How long a write waits for another process, e.g. a backup, before it answers busy.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements that each connection keeps.
const STATEMENTS_MAX: usize = 160;
/// The write-ahead log is moved into the file whenever it has so many pages, 32 MB.
const LOG_PAGES: i64 = 8_192;
/// What the connection that writes keeps of the file in memory, in bytes: nobody else changes it, so the upper pages of
/// large tables stay there. Not more, because a commit that split a page looks at all of it. Readers begin anew after
/// each commit.
const WRITER_CACHE_BYTES_MAX: i64 = 8 * 1024 * 1024;
/// The same for a migration, which builds whole tables and indexes anew.
const MIGRATION_CACHE_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// The write-ahead log is cut back to this size, in bytes.
const LOG_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// Opens the one connection that writes; makes the file if there is none.
pub(in crate::store) fn open_writer(path: &Path, node: &str) -> Result<Connection> {
    make_private(path)?;
    let mut conn = open(path)?;
    if conn.is_readonly("main")? {
        return Err(cannot_write("the file is read-only"));
    }
    refuse_foreign(&conn)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    conn.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    conn.pragma_update(None, "cache_size", -MIGRATION_CACHE_BYTES_MAX / 1024)?;
    migrate(&mut conn)?;
    own(&conn, node)?;
    conn.pragma_update(None, "cache_size", -WRITER_CACHE_BYTES_MAX / 1024)?;
    // What a savepoint would restore stays in memory, else each job of a batch writes its pages to a file first. A
    // migration sorts whole tables, and may use files.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(conn)
}

/// Opens a connection that only reads.
pub(in crate::store) fn open_reader(path: &Path) -> Result<Connection> {
    let conn = open(path)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

fn open(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // A plan stands whatever is bound: without this, a table with a partial index has its statements compiled
    // anew for every value that one of them is given.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

/// Makes the file readable by nobody else; SQLite gives its log the same mode.
fn make_private(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(of_making(path, &error)),
    }
}

fn of_making(path: &Path, error: &std::io::Error) -> StoreError {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => unusable(detail),
        _ => cannot_write(detail),
    }
}

fn refuse_foreign(conn: &Connection) -> Result<()> {
    let application_id: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application_id != APPLICATION_ID && tables > 0 {
        return Err(unusable("it is a database, but not one of M2Key"));
    }
    Ok(())
}

/// For who only reads, and so brings nothing up to date.
pub(in crate::store) fn refuse_other_version(conn: &Connection) -> Result<()> {
    refuse_foreign(conn)?;
    let version: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len();
    if version as usize == known {
        return Ok(());
    }
    Err(unusable(format!(
        "its schema has version {version}, this program needs {known}: start the authority on it once"
    )))
}

/// A step may rebuild a table that others point to, so foreign keys are off while it runs, and checked
/// before it counts (SQLite, "Making Other Kinds Of Table Schema Changes").
fn migrate(conn: &mut Connection) -> Result<()> {
    conn.pragma_update(None, "foreign_keys", false)?;
    let migrated = migrate_unchecked(conn);
    conn.pragma_update(None, "foreign_keys", true)?;
    migrated
}

fn migrate_unchecked(conn: &mut Connection) -> Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(steps) = MIGRATIONS.get(version as usize..) else {
        let known = MIGRATIONS.len();
        return Err(unusable(format!(
            "its schema has version {version}, this program knows {known}: use a newer program"
        )));
    };
    for step in steps {
        tx.execute_batch(step)?;
    }
    if !steps.is_empty() {
        check_foreign_keys(&tx)?;
        tx.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(tx.commit()?)
}

fn check_foreign_keys(conn: &Connection) -> Result<()> {
    let broken: Option<String> = conn
        .query_row("PRAGMA foreign_key_check", [], |row| row.get(0))
        .optional()?;
    match broken {
        None => Ok(()),
        Some(table) => Err(corrupt(format!(
            "a row of {table} points to nothing after the migration"
        ))),
    }
}

/// A database belongs to the node that made it: two nodes must not append to one chain.
fn own(conn: &Connection, node: &str) -> Result<()> {
    conn.execute(
        "INSERT OR IGNORE INTO meta (only_row, generation, node) VALUES (1, 1, ?1)",
        [node],
    )?;
    let parting_key: [u8; 32] = random()?;
    conn.execute(
        "UPDATE meta SET parting_key = ?1 WHERE parting_key IS NULL",
        [parting_key],
    )?;
    let owner: Option<String> = conn
        .query_row("SELECT node FROM meta", [], |row| row.get(0))
        .optional()?;
    match owner {
        Some(owner) if owner == node => Ok(()),
        _ => Err(unusable(format!("it belongs to another node than {node}"))),
    }
}
