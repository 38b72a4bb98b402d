//! Who is undone, who runs again, and who hears of it?

#![allow(clippy::unwrap_used)]

use std::pin::{Pin, pin};
use std::sync::mpsc as std_mpsc;

use futures_util::FutureExt;
use protocol::ids::TerminalId;
use protocol::time::Timestamp;
use serde_json::json;

use super::super::conn::params;
use super::super::row::{all, get};
use super::*;
use crate::store::sqlite::schema::open_writer;

const NOW: Timestamp = Timestamp::from_ms(1_795_459_200_000);

fn writer(dir: &tempfile::TempDir, queue_max: usize) -> Writer {
    writer_telling(dir, queue_max, Lanes::narrow())
}

fn writer_telling(dir: &tempfile::TempDir, queue_max: usize, own_news: Lanes) -> Writer {
    let conn = open_writer(&dir.path().join("m2key.db"), "node-1").unwrap();
    let lane = (Conn::Sqlite(conn), Chain::of("node-1".into()));
    Writer::start(vec![lane], None, queue_max, Arc::default(), own_news).unwrap()
}

fn note(tx: &mut Tx<'_>, kind: &str) -> Verdict<()> {
    Ok(tx.record(kind, NOW, &json!({}))?)
}

async fn kinds(writer: &Writer) -> Vec<String> {
    let read = |tx: &mut Tx<'_>| {
        let sql = "SELECT kind FROM audit_rows ORDER BY sequence";
        Ok(all(tx.conn, sql, params![], |row| get(row, "kind"))?)
    };
    writer.write(Touches::Everything, read).await.unwrap()
}

/// Polls once, which puts the write into the queue.
async fn queue(mut write: &mut (impl Future + Unpin)) {
    std::future::poll_fn(|context| {
        let _ = Pin::new(&mut write).poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

/// Holds the writing thread until the sender is dropped, so that what follows is one batch.
async fn hold(
    writer: &Writer,
) -> (
    Pin<Box<dyn Future<Output = Result<()>> + '_>>,
    std_mpsc::Sender<()>,
) {
    let (started, starts) = std_mpsc::channel();
    let (open, closed) = std_mpsc::channel::<()>();
    let work = move |_: &mut Tx<'_>| {
        started.send(()).unwrap();
        let _ = closed.recv();
        Ok(())
    };
    let mut held: Pin<Box<dyn Future<Output = Result<()>> + '_>> =
        Box::pin(writer.write(Touches::Everything, work));
    queue(&mut held).await;
    starts.recv().unwrap();
    (held, open)
}

#[tokio::test]
async fn a_panic_undoes_its_own_write_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(&dir, 8);
    let (first, open) = hold(&writer).await;
    let mut before = pin!(writer.write(Touches::Everything, |tx| note(tx, "before")));
    let mut bad = pin!(writer.write(Touches::Everything, |tx| -> Verdict<()> {
        note(tx, "undone").ok();
        panic!("on purpose")
    }));
    let mut after = pin!(writer.write(Touches::Everything, |tx| note(tx, "after")));
    queue(&mut before).await;
    queue(&mut bad).await;
    queue(&mut after).await;
    drop(open);
    assert_eq!(first.await, Ok(()));
    assert_eq!(before.await, Ok(()));
    assert!(matches!(bad.await, Err(StoreError::Corrupt { .. })));
    assert_eq!(after.await, Ok(()));
    assert_eq!(kinds(&writer).await, ["before", "after"]);
}

#[tokio::test]
async fn one_more_than_the_queue_holds_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(&dir, 1);
    let (first, open) = hold(&writer).await;
    let mut second = pin!(writer.write(Touches::Everything, |tx| note(tx, "second")));
    queue(&mut second).await;
    let third = writer
        .write(Touches::Everything, |tx| note(tx, "third"))
        .await;
    assert_eq!(third, Err(StoreError::Busy));
    drop(open);
    assert_eq!((first.await, second.await), (Ok(()), Ok(())));
    assert_eq!(kinds(&writer).await, ["second"]);
}

#[tokio::test]
async fn a_failed_commit_fails_everyone_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(&dir, 8);
    let (first, open) = hold(&writer).await;
    let mut innocent = pin!(writer.write(Touches::Everything, |tx| note(tx, "innocent")));
    let mut orphan = pin!(writer.write(Touches::Everything, |tx| {
        tx.execute("PRAGMA defer_foreign_keys = ON", params![])?;
        tx.execute_one("INSERT INTO receipts_due VALUES (1, ?1)", [[0_u8; 16]])?;
        note(tx, "orphan")
    }));
    queue(&mut innocent).await;
    queue(&mut orphan).await;
    drop(open);
    assert_eq!(first.await, Ok(()));
    assert!(matches!(innocent.await, Err(StoreError::Corrupt { .. })));
    assert!(matches!(orphan.await, Err(StoreError::Corrupt { .. })));
    assert_eq!(kinds(&writer).await, Vec::<String>::new());
    assert_eq!(
        writer
            .write(Touches::Everything, |tx| note(tx, "next"))
            .await,
        Ok(())
    );
    assert_eq!(kinds(&writer).await, ["next"]);
}

/// Two jobs in one batch: the first notes, the second does what it is told; answers how often the first ran.
async fn runs_beside(
    refused: impl Fn(&mut Tx<'_>) -> Verdict<()> + Send + 'static,
) -> (u32, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(&dir, 8);
    let (first, open) = hold(&writer).await;
    let runs = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = runs.clone();
    let mut kept = pin!(writer.write(Touches::Everything, move |tx| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        note(tx, "kept")
    }));
    let mut beside = pin!(writer.write(Touches::Everything, refused));
    queue(&mut kept).await;
    queue(&mut beside).await;
    drop(open);
    assert_eq!(first.await, Ok(()));
    assert_eq!(kept.await, Ok(()));
    assert_eq!(beside.await, Ok(()));
    let runs = runs.load(std::sync::atomic::Ordering::Relaxed);
    (runs, kinds(&writer).await)
}

#[tokio::test]
async fn a_batch_runs_again_only_for_a_job_that_is_undone_after_a_change() {
    let at_once = runs_beside(|_| Err(Stop::Refused(())));
    assert_eq!(at_once.await, (1, vec!["kept".to_owned()]));
    // What would have been written at the end of the batch is not written yet.
    let noted = runs_beside(|tx| {
        note(tx, "undone").ok();
        Err(Stop::Refused(()))
    });
    assert_eq!(noted.await, (1, vec!["kept".to_owned()]));
    let late = runs_beside(|tx| {
        note(tx, "undone").ok();
        tx.execute(
            "INSERT INTO probe (only_row, value) VALUES (1, ?1)",
            [[7_u8; 16]],
        )?;
        Err(Stop::Refused(()))
    });
    assert_eq!(late.await, (2, vec!["kept".to_owned()]));
}

#[tokio::test]
async fn what_is_committed_after_its_caller_went_away_is_news_to_its_own_process() {
    let (dir, lanes) = (tempfile::tempdir().unwrap(), Lanes::narrow());
    let mut news = lanes.listen();
    let writer = writer_telling(&dir, 8, lanes);
    let ban = |tx: &mut Tx<'_>| {
        tx.spread(News::Banned(TerminalId::from_number(7).unwrap()));
        note(tx, "banned")
    };
    let refused = |tx: &mut Tx<'_>| -> Verdict<()> {
        tx.spread(News::Keys);
        Err(Stop::Refused(()))
    };
    {
        let mut gone = pin!(writer.write(Touches::Everything, refused));
        queue(&mut gone).await;
        let mut gone = pin!(writer.write(Touches::Everything, ban));
        queue(&mut gone).await;
    }
    let next = writer.write(Touches::Everything, |tx| note(tx, "next"));
    assert_eq!(next.await, Ok(()));
    let told = news.next().now_or_never();
    let banned = News::Banned(TerminalId::from_number(7).unwrap());
    assert_eq!(told, Some(banned));
    // Whoever hears the answer does what follows.
    assert_eq!(writer.write(Touches::Everything, ban).await, Ok(()));
    assert_eq!(news.next().now_or_never(), None);
    assert_eq!(kinds(&writer).await, ["banned", "next", "banned"]);
}

#[tokio::test]
async fn what_was_queued_is_written_before_the_writer_ends() {
    let dir = tempfile::tempdir().unwrap();
    {
        let writer = writer(&dir, 8);
        let mut queued = pin!(writer.write(Touches::Everything, |tx| note(tx, "queued")));
        queue(&mut queued).await;
    }
    assert_eq!(kinds(&writer(&dir, 8)).await, ["queued"]);
}
