//! Is a server noticed that is an earlier one of itself, although it never stopped?
//!
//! As when a whole machine is put back, with all that it had in memory: it shows the same timeline and the same start.
//! Only its log is shorter, and here that is what new sessions are told.

use std::sync::Arc;

use authority::journal::{Fact, Known};
use authority::store::Store;

use crate::NODE;
use crate::cluster::Database;
use crate::nodes::{LOOK, PATIENCE, becomes_true};
use crate::world::{NOW, World};

fn puts_back(database: &Database) {
    let name = database.place().database;
    let ends = |what: &str| {
        format!(
            "CREATE FUNCTION earlier.pg_current_wal_{what}_lsn() RETURNS pg_lsn LANGUAGE sql AS
                 $$ SELECT '0/1000000'::pg_lsn $$;"
        )
    };
    database.sql(&format!(
        "CREATE SCHEMA earlier; {} {}
         ALTER DATABASE {name} SET search_path = earlier, public, pg_catalog;",
        ends("insert"),
        ends("flush"),
    ));
    database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_ends_before_it_did_is_compared_with_all_that_is_known() {
    let database = Database::new();
    let store = Arc::new(database.open(NODE, 1)) as Arc<dyn Store>;
    let terminal = World::new(store.clone()).terminal(1).await;
    puts_back(&database);
    becomes_true("nobody notices", || store.server_in_question().is_some()).await;
    let refused = store.audit_heads().await.unwrap_err().to_string();
    assert!(refused.contains("further back on timeline 1"), "{refused}");
    let mut known = Known::nothing("journal".into(), NODE.into());
    known.take(&Fact::Banned {
        terminal,
        version: 1,
        banned_at: NOW,
        reason: "stolen".into(),
    });
    let difference = store.differs_in_question(Arc::new(known)).await.unwrap();
    assert_eq!(difference.missing.bans, [terminal]);
    assert_eq!(
        difference.missing.heads,
        [],
        "what it acknowledged is there"
    );
    store.accept_server(store.server_in_question().unwrap());
    let served = async {
        while store.audit_heads().await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let served = tokio::time::timeout(PATIENCE, served).await;
    assert!(served.is_ok(), "it is asked about again");
    assert_eq!(store.server_in_question(), None);
}
