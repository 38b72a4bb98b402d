//! How many bytes does one payment add to the database?
//!
//! `cargo test -p authority --test store growth -- --nocapture` prints the table of
//! docs/DATA_MODEL.md.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use protocol::token::Channel;
use rusqlite::Connection;

use crate::world::{World, screen_windows};

const PAYMENTS: i64 = 400;
/// What docs/DATA_MODEL.md promises.
const BYTES_PER_PAYMENT_MAX: i64 = 6_144;
/// About as long as a receipt is.
const RECEIPT_BYTES: usize = 1_150;

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_adds_no_more_than_the_data_model_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let world = World::new(Arc::new(crate::open(&path)));
    let anna = world.shopper("anna", PAYMENTS * 420).await;
    let merchant = world.merchant().await;
    let terminal = world.terminal_of(&merchant, 1).await;
    let before = bytes(&path);
    for _ in 0..PAYMENTS {
        let mut charge = world.new_charge(terminal, 420);
        charge.moved = screen_windows(terminal);
        world.store.start_charge(charge).await.unwrap();
        let record = world.claimed(terminal).await;
        let payment = world.paid(&record, &anna).await;
        let receipt = "r".repeat(RECEIPT_BYTES);
        world.receipt(&payment, &receipt).await.unwrap();
    }
    let after = bytes(&path);
    for (table, size) in &after {
        let grown = size - before.get(table).copied().unwrap_or(0);
        println!("{table:40} {:8.1}", grown as f64 / PAYMENTS as f64);
    }
    let sum = |sizes: &BTreeMap<String, i64>| sizes.values().sum::<i64>();
    let each = (sum(&after) - sum(&before)) / PAYMENTS;
    println!("{:40} {each:8}", "bytes per payment");
    assert!(each <= BYTES_PER_PAYMENT_MAX, "{each}");
    assert_eq!(
        world.shown(terminal, Channel::Nfc).await.token().turn,
        PAYMENTS as u16
    );
}

/// Bytes of payload per table and index; pages of the file if SQLite was built without that view.
fn bytes(path: &Path) -> BTreeMap<String, i64> {
    let conn = Connection::open(path).unwrap();
    let query = "SELECT name, sum(pgsize) FROM dbstat GROUP BY name";
    let Ok(mut statement) = conn.prepare(query) else {
        let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let size = conn.query_row(pages, [], |row| row.get(0)).unwrap();
        return BTreeMap::from([("all tables".to_owned(), size)]);
    };
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}
