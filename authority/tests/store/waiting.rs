//! What becomes of a write that waits too long for others?

use std::sync::Arc;

use authority::store::{SqlStore, Store, StoreError};
use tokio::task::JoinHandle;

use crate::NODE;
use crate::cluster::{Database, HeldWrites};
use crate::nodes::becomes_true;
use crate::world::NOW;

const NOTED: &str = "SELECT count(*) FROM audit_rows WHERE kind = 'noted'";

/// Somebody holds what a write waits for.
struct Held {
    database: Database,
    writes: HeldWrites,
    write: JoinHandle<Result<(), StoreError>>,
}

impl Held {
    async fn new() -> Self {
        let database = Database::new();
        let store: Arc<SqlStore> = Arc::new(database.open(NODE, 1));
        let writes = database.hold_writes().await;
        let store: Arc<dyn Store> = store;
        let write = tokio::spawn(async move { store.note("noted", "{}".into(), NOW).await });
        Self {
            database,
            writes,
            write,
        }
    }

    /// The write waits, in another transaction than this one; answers which.
    async fn waits_in_another(&self, before: &str) -> String {
        let waits = || {
            self.database.sql(
                "SELECT pid || ' since ' || xact_start FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event = 'advisory'",
            )
        };
        becomes_true("it does not wait", || {
            assert!(!self.write.is_finished(), "it is over");
            let now = waits();
            !now.is_empty() && now != before
        })
        .await;
        waits()
    }

    async fn ends_once_it_may(self) {
        self.writes.let_go().await;
        self.write.await.unwrap().unwrap();
        assert_eq!(self.database.sql(NOTED), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_wait_for_others_is_cut_is_run_again() {
    let held = Held::new().await;
    let first = held.waits_in_another("").await;
    let pid = first.split(' ').next().unwrap();
    let cut = held
        .database
        .sql(&format!("SELECT pg_cancel_backend({pid})"));
    assert_eq!(cut, "t");
    held.waits_in_another(&first).await;
    held.ends_once_it_may().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waited_for_others_as_long_as_it_may_is_run_again() {
    let held = Held::new().await;
    let first = held.waits_in_another("").await;
    held.waits_in_another(&first).await;
    held.ends_once_it_may().await;
}
