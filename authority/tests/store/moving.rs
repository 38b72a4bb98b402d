//! Does an embedded store come into PostgreSQL whole, and is what cannot be used refused in words?

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use authority::store::postgres::{PostgresPlace, SchemaState, migrate, move_from, schema_state};
use authority::store::{KeyPurpose, Recorded, Right, Seed, StoreError, StoredCheckpoint};
use pki::lifecycle::KeyState;
use protocol::ids::TerminalId;
use rusqlite::Connection;

use crate::NODE;
use crate::cluster::Database;
use crate::suite::allowances::add_passkey;
use crate::suite::certificates::certificate;
use crate::suite::rotation::add_key;
use crate::suite::sign_ins::{new_session, session, start};
use crate::suite::tags::{record, takes, tap, terminal_with_tag};
use crate::world::{NOW, World, join_hash, new_schedule, number, person};

const BINARY: &str = env!("CARGO_BIN_EXE_m2key-authority");
const CONFIGURATION: &str = include_str!("../../../config/authority.toml");
const PAYMENTS: usize = 5;

/// A little of everything: money that came, went and came back, a tag, a browser, a certificate.
async fn fill(world: &World) {
    let store = &world.store;
    let anna = world.shopper("anna", 10_000).await;
    world.shopper("ben", 300).await;
    let (tagged, uid) = terminal_with_tag(world, 1).await;
    takes(world, tagged, Some(tap(uid, 1, 7))).await;
    let terminal = world.terminal(2).await;
    for _ in 0..PAYMENTS {
        let (charge, payment) = world.sold(terminal, &anna, 420).await;
        let stored = world.receipt(&payment, "e30.e30.").await;
        assert!(stored.is_ok(), "{stored:?}");
        world.refunded(world.refund_of(charge, terminal, 20)).await;
    }
    world.start(terminal, 100).await;
    start(world, &new_session(1, "anna", NOW)).await;
    add_passkey(world, &anna, 1).await;
    add_key(world, KeyPurpose::Receipt, KeyState::Active, 2).await;
    enrol(world, terminal).await;
    let scheduled = store.record_schedule(new_schedule(terminal, 1, 3)).await;
    assert!(scheduled.is_ok(), "{scheduled:?}");
    let checkpoint = StoredCheckpoint {
        at: NOW,
        jws: "e30.e30.".into(),
    };
    let heads = store.audit_heads().await.unwrap();
    store.add_checkpoint(checkpoint, heads).await.unwrap();
}

async fn enrol(world: &World, terminal: TerminalId) {
    let (store, hash) = (&world.store, join_hash(2));
    let redeemed = store.redeem_join_token(terminal, hash, [1; 32], NOW).await;
    assert!(redeemed.is_ok(), "{redeemed:?}");
    let first = certificate(terminal, "01", 1, NOW);
    let recorded = store.add_terminal_certificate(first, Right::JoinToken(hash), NOW);
    assert_eq!(recorded.await, Ok(Recorded::New));
}

/// What has no other way out of a store than by its verbs.
async fn seeds_and_keys(world: &World) -> (Vec<Seed>, String) {
    let mut seeds = Vec::new();
    for n in [1, 2] {
        seeds.push(world.seed(number(n), 5).await.unwrap());
    }
    let keys = world.store.keys().await.unwrap();
    assert_eq!(keys.len(), 2);
    (seeds, format!("{keys:?}"))
}

fn rows(conn: &Connection) -> Vec<(String, u64)> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
               ORDER BY name";
    let mut names = conn.prepare(sql).unwrap();
    let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let counted = names.map(|name| {
        let name = name.unwrap();
        let sql = format!("SELECT count(*) FROM {name}");
        let count: i64 = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        (name, count as u64)
    });
    counted.filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_store_moves_whole_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m2key.db");
    let before = World::new(Arc::new(crate::open(&file)));
    fill(&before).await;
    let (heads, kept) = (
        before.store.audit_heads().await.unwrap(),
        seeds_and_keys(&before).await,
    );
    drop(before);
    let database = Database::new();
    let moved = move_from(&file, &database.place()).unwrap();
    let moved: Vec<_> = moved.into_iter().map(|it| (it.name, it.rows)).collect();
    assert_eq!(moved, rows(&Connection::open(&file).unwrap()));
    for (table, rows) in &moved {
        let there = database.sql(&format!("SELECT count(*) FROM {table}"));
        assert_eq!(there, rows.to_string(), "{table}");
    }

    let world = World::new(Arc::new(database.open(NODE, 1)));
    assert_eq!(world.store.audit_heads().await.unwrap(), heads);
    assert_eq!(seeds_and_keys(&world).await, kept);
    world.check_books_and_audit().await;
    let anna = person("anna");
    assert_eq!(world.balance(&anna).await, 10_000 - 5 * 400);
    assert!(session(&world, 1).await.is_some());
    assert_eq!(
        record(&world, crate::suite::tags::uid(1), 1).await.terminal,
        number(1)
    );
    world.claimed(number(2)).await;
    world.credit_again(&anna).await;
    let after = world.store.audit_heads().await.unwrap();
    assert_eq!(after.len(), 1, "the chain is the same one");
    assert!(after[0].sequence > heads[0].sequence);
    world.check_books_and_audit().await;
}

impl World {
    async fn credit_again(&self, person: &authority::store::PersonKey) {
        let accounts = self.store.accounts_of(person.clone()).await.unwrap();
        self.credit(accounts[0].id, 5, "after the move").await;
        assert_eq!(self.balance(person).await, 10_000 - 5 * 400 + 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_into_a_database_that_holds_something() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m2key.db");
    let before = World::new(Arc::new(crate::open(&file)));
    before.shopper("anna", 100).await;
    drop(before);
    let database = Database::new();
    move_from(&file, &database.place()).unwrap();
    refuse_to_move(&file, &database, "holds rows already");
    let persons = database.sql("SELECT count(*) FROM persons");
    assert_eq!(persons, "1");

    let used = Database::new();
    let world = World::new(Arc::new(used.open(NODE, 1)));
    let ben = world.shopper("ben", 7).await;
    refuse_to_move(&file, &used, "holds rows already");
    assert_eq!(world.balance(&ben).await, 7);
    assert_eq!(used.sql("SELECT count(*) FROM persons"), "1");
    world.check_books_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_version_or_of_nobody_is_not_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (old, foreign) = (dir.path().join("old.db"), dir.path().join("foreign.db"));
    drop(crate::open(&old));
    crate::old::make(&old, 8);
    let database = Database::new();
    refuse_to_move(&old, &database, "start the authority on it once");
    Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE notes (a)")
        .unwrap();
    refuse_to_move(&foreign, &database, "not one of M2Key");
    refuse_to_move(&dir.path().join("nowhere.db"), &database, "");
    assert_eq!(database.sql("SELECT count(*) FROM meta"), "0");
}

fn refuse_to_move(file: &Path, database: &Database, says: &str) {
    let refused = move_from(file, &database.place()).unwrap_err();
    assert!(
        matches!(refused, StoreError::Unusable { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains(says), "{refused}");
}

/// Why this database is not opened.
fn refusal(place: PostgresPlace) -> String {
    let options = authority::store::postgres::PostgresOptions::new(NODE, place);
    let refused = authority::store::postgres::open(options).err();
    refused.expect("it is refused").to_string()
}

#[test]
fn a_database_of_another_version_is_refused_with_what_to_do() {
    let database = Database::bare();
    let known = schema_state(&database.place()).unwrap().known;
    let state = |version| SchemaState { version, known };
    assert_eq!(schema_state(&database.place()), Ok(state(0)));
    let said = refusal(database.place());
    assert!(said.contains("run `m2key-authority migrate`"), "{said}");
    assert_eq!(migrate(&database.place()), Ok(known));
    assert_eq!(migrate(&database.place()), Ok(0));
    assert_eq!(schema_state(&database.place()), Ok(state(known)));
    drop(database.open(NODE, 1));

    database.sql("UPDATE schema_version SET version = 99");
    drop(database.open(NODE, 1));
    database.sql("UPDATE schema_version SET works_from = 98");
    let said = refusal(database.place());
    assert!(said.contains("use a newer program"), "{said}");
}

/// The command, with a configuration of this database.
fn command(database: &Database, arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("authority.toml");
    let place = database.place();
    let ours = format!(
        "[fence]\njournal = \"fence.journal\"\n[store.postgres]\nhosts = {:?}\ndatabase = {:?}\nuser = {:?}\n",
        place.hosts, place.database, place.user
    );
    let embedded = "[store]\npath = \"/var/lib/m2key/store.sqlite\"\n";
    assert!(
        CONFIGURATION.contains(embedded),
        "the sample names its store"
    );
    std::fs::write(&config, CONFIGURATION.replace(embedded, &ours)).unwrap();
    let mut command = Command::new(BINARY);
    command
        .arg("--config")
        .arg(config)
        .arg("migrate")
        .args(arguments);
    command.output().unwrap()
}

#[track_caller]
fn says(output: &Output, code: i32, words: &[&str]) {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn the_command_checks_migrates_and_moves() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m2key.db");
    drop(crate::open(&file));
    let database = Database::bare();
    let checked = command(&database, &["--check"]);
    says(
        &checked,
        4,
        &[
            "version 0",
            "error: ",
            "lacking",
            "hint: run `m2key-authority migrate`",
        ],
    );
    assert_eq!(database.sql("SELECT to_regclass('meta') IS NULL"), "t");
    says(&command(&database, &[]), 0, &["the schema is up to date"]);
    let checked = command(&database, &["--check", "--json"]);
    says(&checked, 0, &["\"version\"", "\"known\""]);
    let path = file.to_str().unwrap();
    let moved = command(&database, &["--from", path]);
    says(
        &moved,
        0,
        &["1  meta", "rows moved, and read back the same"],
    );
    let again = command(&database, &["--from", path]);
    says(&again, 4, &["error: ", "holds rows already", "hint: "]);
    says(
        &command(&database, &["--check", "--from", path]),
        2,
        &["cannot be used with"],
    );
}
