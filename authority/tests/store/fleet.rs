//! Is a forecast of a large fleet whole, in order and read page by page?

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::ids::TerminalId;
use protocol::wear::DAY_MS;
use rusqlite::{Connection, params};

use crate::world::{NOW, World, number};

const TERMINALS: u32 = 100_000;
const PAGE: u32 = 1_000;
/// Tags end over this many days, many of them at the same moment.
const DAYS: u32 = 500;

fn ends(n: u32) -> i64 {
    NOW.ms() + i64::from(n * 7 % DAYS) * DAY_MS
}

fn fill(conn: &mut Connection, merchant: &[u8]) {
    let transaction = conn.transaction().unwrap();
    {
        let mut terminal = transaction
            .prepare(
                "INSERT INTO terminals (id, merchant, name, version, sequence, revision, added_at_ms)
                 VALUES (?1, ?2, 'Counter', 1, 0, 0, 0)",
            )
            .unwrap();
        let mut tag = transaction
            .prepare(
                "INSERT INTO tag_wear (terminal, tag_uid, cycles, endurance, per_link,
                     cycles_per_day, at_ms, replace_by_ms)
                 VALUES (?1, '04A1', 5, 100000, 2, 640, ?2, ?3)",
            )
            .unwrap();
        for n in 0..TERMINALS {
            let id = number(n).value();
            terminal.execute(params![id, merchant]).unwrap();
            tag.execute(params![id, NOW.ms(), ends(n)]).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_terminals_are_forecast_each_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m2key.db");
    let world = World::new(Arc::new(crate::open(&path)));
    let merchant = world.merchant().await;
    fill(
        &mut Connection::open(&path).unwrap(),
        merchant.id.0.as_bytes(),
    );
    let until = NOW + i64::from(DAYS / 2 - 1) * DAY_MS;
    let (mut after, mut seen, mut pages) = (None, BTreeSet::<TerminalId>::new(), 0);
    loop {
        let page = world.store.ending_tags(until, after, PAGE).await.unwrap();
        let Some(last) = page.last() else { break };
        let begins = after;
        after = Some((last.tag.replace_by, last.tag.terminal));
        let order: Vec<_> = page
            .iter()
            .map(|it| (it.tag.replace_by, it.tag.terminal))
            .collect();
        assert!(
            order.is_sorted() && begins < order.first().copied(),
            "page {pages}"
        );
        seen.extend(order.iter().map(|it| it.1));
        pages += 1;
    }
    assert_eq!(
        (seen.len() as u32, pages),
        (TERMINALS / 2, TERMINALS / 2 / PAGE)
    );
    let months = (0..17).map(|month| NOW + month * 30 * DAY_MS).collect();
    let counts = world.store.count_ending_tags(months).await.unwrap();
    assert_eq!(counts.iter().sum::<u64>(), u64::from(TERMINALS));
    assert_eq!(counts[1], u64::from(TERMINALS / DAYS * 30));
}
