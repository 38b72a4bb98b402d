//! Which files are refused, and is what somebody changed in one found?

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use authority::store::SqlStore;
use authority::store::sqlite::{self, SqliteOptions};
use authority::store::{AuditLog, CloseOutcome, StoreError};
use protocol::audit::{BrokenChain, ChainCheck, ChainFault};
use rusqlite::Connection;

use crate::world::{LATER, NOW, World};

/// Nobody, who may write nothing.
const NOBODY: u32 = 65_534;

fn refusal(path: &Path, node: &str) -> StoreError {
    let opened = sqlite::open(path, SqliteOptions::new(node));
    opened.err().expect("it must not open")
}

fn unusable_with(error: StoreError, words: &str) {
    let StoreError::Unusable { detail } = &error else {
        panic!("{error}")
    };
    assert!(detail.contains(words), "{detail}");
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let text = "a letter, not a database. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    unusable_with(refusal(&path, crate::NODE), "not a database");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_database_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE songs (name TEXT)")
        .unwrap();
    unusable_with(refusal(&path, crate::NODE), "not one of M2Key");
    let tables = "SELECT count(*) FROM sqlite_schema";
    let count: i64 = other.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[test]
fn a_newer_schema_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    drop(crate::open(&path));
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    unusable_with(refusal(&path, crate::NODE), "version 99");
}

#[test]
fn a_database_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    drop(crate::open(&path));
    unusable_with(refusal(&path, "node-2"), "another node");
}

#[test]
fn a_directory_that_is_not_there_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nowhere").join("m2key.db");
    unusable_with(refusal(&path, crate::NODE), "nowhere");
}

#[test]
fn nobody_else_may_read_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let _open = crate::open(&path);
    for name in ["m2key.db", "m2key.db-wal"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o077, 0, "{name}");
    }
}

#[test]
fn a_read_only_file_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    drop(crate::open(&path));
    let may = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    may(dir.path(), 0o755);
    may(&path, 0o444);
    let mut command = Command::new(crate::crash::public_copy(dir.path()));
    if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
        // Whoever may write everything tries it as somebody who may not.
        command.uid(NOBODY);
        command.current_dir("/");
    }
    let child = crate::crash::spawn(&mut command, "crash::child_that_may_not_write", &path);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("read-only"), "{text}");
}

#[tokio::test]
async fn a_store_opens_again_with_everything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let world = World::new(Arc::new(crate::open(&path)));
    let merchant = world.merchant().await;
    drop(world);
    let again = World::new(Arc::new(crate::open(&path)));
    let stored = again.store.merchant(merchant.id).await.unwrap();
    assert_eq!(stored, Some(merchant));
    again.merchant().await;
    again.check_books_and_audit().await;
}

#[tokio::test]
async fn a_fact_whose_audit_row_cannot_be_written_does_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let world = World::new(Arc::new(crate::open(&path)));
    let merchant = world.merchant().await;
    let saboteur = Connection::open(&path).unwrap();
    saboteur
        .execute_batch(
            "CREATE TRIGGER no_audit BEFORE INSERT ON audit_rows
             BEGIN SELECT RAISE(ABORT, 'no audit today'); END",
        )
        .unwrap();
    let (terminal, seed, token) = crate::world::new_terminal(merchant.id, 1);
    let id = terminal.id;
    let added = world.store.add_terminal(terminal, seed, token).await;
    assert!(
        matches!(added, Err(StoreError::Corrupt { .. })),
        "{added:?}"
    );
    assert_eq!(world.store.terminal(id).await, Ok(None));
    saboteur.execute_batch("DROP TRIGGER no_audit").unwrap();
    world.terminal_of(&merchant, 1).await;
    world.check_books_and_audit().await;
}

#[tokio::test]
async fn a_changed_a_removed_and_an_inserted_audit_row_are_found() {
    for (tampering, found) in [
        (
            "UPDATE audit_rows SET body = replace(body, '3', '4') WHERE sequence = 3",
            (3, ChainFault::Changed),
        ),
        (
            "DELETE FROM audit_rows WHERE sequence = 3",
            (3, ChainFault::Missing),
        ),
        (
            "UPDATE audit_rows SET previous = zeroblob(32) WHERE sequence = 4",
            (4, ChainFault::Unlinked),
        ),
        (
            "UPDATE audit_rows SET at_ms = at_ms + 1 WHERE sequence = 5",
            (5, ChainFault::Changed),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m2key.db");
        let store = crate::open(&path);
        for n in 0..6 {
            let body = format!("{{\"number\":{}}}", n + 1);
            store.note("counted", body, NOW).await.unwrap();
        }
        let changed = Connection::open(&path).unwrap();
        assert_eq!(changed.execute(tampering, []).unwrap(), 1);
        let (at, fault) = found;
        assert_eq!(walk(&store).await, Err(BrokenChain { at, fault }));
    }
}

async fn walk(store: &SqlStore) -> Result<(), BrokenChain> {
    let mut check = ChainCheck::default();
    for row in store.audit_rows(crate::NODE, 0, 100).await.unwrap() {
        check.take(&row.row, &row.hash)?;
    }
    Ok(())
}

#[test]
fn every_column_of_the_schema_says_what_it_holds() {
    let schema = include_str!("../../migrations/sqlite/0001_first.sql");
    let is_column = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next().unwrap_or_default();
        line.starts_with("    ") && ["INTEGER", "TEXT", "BLOB"].contains(&kind)
    };
    let columns: Vec<&str> = schema.lines().filter(is_column).collect();
    assert!(columns.len() > 100, "{}", columns.len());
    for column in columns {
        assert!(column.contains(" -- "), "{column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_whose_entries_were_changed_by_hand_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let world = World::new(Arc::new(crate::open(&path)));
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let anna = world.shopper("anna", 1_000).await;
    let (_, payment) = world.sold(terminal, &anna, 420).await;
    let edit = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let close = || {
        world
            .store
            .close_day(crate::suite::books::close(merchant.id, LATER))
    };
    let refused = async |file_minor, ledger_minor| {
        let differs = CloseOutcome::Differs {
            file_minor,
            ledger_minor,
        };
        assert_eq!(close().await, Ok(differs));
        let none = world.store.settlements(merchant.id, None, 9).await;
        assert_eq!(none, Ok(Vec::new()));
    };
    // A line that says another amount than the ledger.
    edit("UPDATE bookings SET amount_minor = 421");
    refused(421, 0).await;
    edit("UPDATE bookings SET amount_minor = 420");
    // Money on the account that no line tells of.
    let account = merchant.account.0.simple();
    edit(&format!(
        "INSERT INTO ledger_entries VALUES (X'{account}', zeroblob(16), 5)"
    ));
    refused(420, 425).await;
    edit("DELETE FROM ledger_entries WHERE movement = zeroblob(16)");
    let closed = close().await.unwrap();
    assert!(matches!(closed, CloseOutcome::Closed(_)), "{closed:?}");
    let booked = world.store.booked(payment.id.0).await.unwrap();
    assert_eq!(booked.unwrap().payment, payment.id);
}
