//! What did the database of an earlier version look like?
//!
//! Made by the very migrations that made it then, and filled with what today's holds, as far as the
//! earlier one had a place for it: so a later migration spoils no test of an earlier one.

use std::path::Path;

use rusqlite::Connection;

const APPLICATION_ID: i32 = 0x4d32_4b59;

/// Until profiles came, a person was one identity.
const PERSONS_OF_ONE_IDENTITY: &str =
    "INSERT INTO persons (id, issuer, subject, audit_salt, pairwise_salt)
     SELECT p.id, i.issuer, i.subject, p.audit_salt, p.pairwise_salt
     FROM now.persons p JOIN now.identities i ON i.person = p.id";

/// Turns the database at `path`, which nobody has open, into one of `version`.
pub(crate) fn make(path: &Path, version: usize) {
    let old = path.with_extension("old");
    let conn = Connection::open(&old).unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    for step in steps().iter().take(version) {
        conn.execute_batch(step).unwrap();
    }
    conn.pragma_update(None, "user_version", version as i64)
        .unwrap();
    conn.pragma_update(None, "application_id", APPLICATION_ID)
        .unwrap();
    let now = path.to_str().unwrap();
    conn.execute("ATTACH ?1 AS now", [now]).unwrap();
    for table in names(
        &conn,
        "SELECT name FROM main.sqlite_schema WHERE type = 'table'",
    ) {
        copy(&conn, &table);
    }
    conn.execute_batch("DETACH now").unwrap();
    drop(conn);
    std::fs::rename(&old, path).unwrap();
}

/// The texts of all migrations, in order.
fn steps() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text = |file: &std::path::PathBuf| std::fs::read_to_string(file).unwrap();
    files.iter().map(text).collect()
}

/// The columns that both have; a table of one name may have been another one then.
fn copy(conn: &Connection, table: &str) {
    let columns = |schema: &str| {
        let sql = format!("SELECT name FROM pragma_table_info('{table}', '{schema}')");
        names(conn, &sql)
    };
    let (then, today) = (columns("main"), columns("now"));
    if table == "persons" && then.iter().any(|column| column == "issuer") {
        conn.execute_batch(PERSONS_OF_ONE_IDENTITY).unwrap();
        return;
    }
    let common: Vec<_> = then
        .iter()
        .filter(|column| today.contains(column))
        .collect();
    if !common.is_empty() {
        let columns = common.iter().map(|column| format!("\"{column}\""));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let sql =
            format!("INSERT INTO \"{table}\" ({columns}) SELECT {columns} FROM now.\"{table}\"");
        conn.execute_batch(&sql).unwrap();
    }
}

fn names(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    let found = statement.query_map([], |row| row.get(0)).unwrap();
    found.map(Result::unwrap).collect()
}
