//! What follows at a node from what others did, and from what it may have missed?

use std::time::Duration;

use authority::clock::Moment;
use authority::services::neighbours;
use authority::services::operators::{Fleet, SeedRotate, carry_out};
use authority::services::rotation;
use authority::store::{
    Chore, Contact, LOST_AFTER, Nodes as _, OperationState, Rotation as _, When,
};
use futures_util::FutureExt;
use protocol::token::Channel;

use crate::nodes::{OF_A_LATER_VERSION, PATIENCE, Two, becomes_true, fenced};
use crate::rotating::rotate;

/// So long a verb waits for the end of what it began when nobody tells it.
const VERB_WAITS: Duration = Duration::from_secs(10);

/// The line over which the other node is called.
const LISTENS_THERE: &str = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'm2key-authority node-2 listening'";

impl Two {
    /// The other node holds the keys of the terminal's hours.
    async fn judges_there(&self) {
        self.has_begun_there().await;
        self.here.charge(420).await;
        let link = self.here.shown(Channel::Qr).await;
        self.claim_there(&link).await;
        assert_eq!(self.there.epoch_keys.terminals_kept(), 1);
    }

    /// This node carries operations out.
    async fn leads_here(&self) {
        let leads = || self.here.store.leads(Chore::Operations);
        becomes_true("nobody carries operations out", leads).await;
    }

    async fn forgets_there(&self) {
        let forgotten = || self.there.epoch_keys.terminals_kept() == 0;
        becomes_true("it still holds keys of before", forgotten).await;
    }
}

/// Whoever reads this table fails, and the server's log tells so.
struct Away<'a> {
    two: &'a Two,
    table: &'static str,
    told: String,
}

impl<'a> Away<'a> {
    fn take(two: &'a Two, table: &'static str) -> Self {
        let told = format!("the {table} of {} are away", two.database.place().database);
        two.database.sql(&format!(
            "CREATE FUNCTION away() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = '{told} for ' || current_setting('application_name'); END $$;
             ALTER TABLE {table} RENAME TO kept;
             CREATE VIEW {table} AS SELECT kept.* FROM (SELECT away() AS it OFFSET 0) away LEFT JOIN kept ON it"
        ));
        Self { two, table, told }
    }

    /// By the other node.
    fn was_read_in_vain(&self) -> usize {
        let told = format!("{} for m2key-authority node-2", self.told);
        self.two.database.log().matches(&told).count()
    }

    fn comes_back(self) {
        let table = self.table;
        self.two.database.sql(&format!(
            "DROP VIEW {table}; ALTER TABLE kept RENAME TO {table}"
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_again_is_closed_until_bans_and_keys_are_read() {
    // So often that it would long be open.
    for (table, tries) in [("revocations", 8), ("keys", 3)] {
        let two = Two::new().await;
        let app = &two.there.app;
        two.has_begun_there().await;
        let _connected = app.bans.watch(None, Some("0a"));
        let silence = two.database.silence("node-2");
        let begun = Moment::now();
        let away = Away::take(&two, table);
        two.database.sql(OF_A_LATER_VERSION);
        becomes_true("it hears on", || {
            // What was asked before the silence is too old by then.
            begun.age() > LOST_AFTER && matches!(app.store.contact(), Contact::Lost { .. })
        })
        .await;
        let closed = tokio::time::timeout(PATIENCE, app.neighbours.until_closed()).await;
        assert!(closed.is_ok(), "it does not close");
        drop(silence);
        let hears = || matches!(app.store.contact(), Contact::Kept { .. });
        becomes_true("it never hears again", hears).await;
        let closed = || neighbours::closed(app).is_some();
        becomes_true("nothing is read", || {
            assert!(closed(), "it is open without its {table}");
            away.was_read_in_vain() >= tries
        })
        .await;
        away.comes_back();
        becomes_true("it stays closed", || !closed()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_all_bans_is_told_that_some_may_have_been_missed() {
    let two = Two::new().await;
    two.has_begun_there().await;
    let mut bans = two.there.app.bans.listen();
    two.database.sql(OF_A_LATER_VERSION);
    let told = tokio::time::timeout(PATIENCE, bans.next()).await;
    assert_eq!(told, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_older_seed_are_forgotten_at_every_node() {
    let two = Two::new().await;
    two.judges_there().await;
    two.leads_here().await;
    rotate(&two.here, Fleet::All, When::Compromised).await;
    two.forgets_there().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_were_missed_may_have_been_any_but_a_ban() {
    let two = Two::new().await;
    two.judges_there().await;
    let mut bans = two.there.app.bans.listen();
    two.database.sql("UPDATE meta SET generation = 2");
    assert_eq!(two.database.sql(LISTENS_THERE), "t");
    two.forgets_there().await;
    let said = fenced(&two).await;
    assert!(said.contains("raised to 2"), "{said}");
    let told = bans.next().now_or_never();
    assert_eq!(told, None, "bans are rows, and no row was missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_for_an_operation_hears_that_another_node_ended_it() {
    let two = Two::new().await;
    two.has_begun_there().await;
    two.leads_here().await;
    let there = two.there.clone();
    let asked = tokio::spawn(async move {
        let verb = SeedRotate {
            fleet: Fleet::All,
            when: When::Planned,
            reason: "drill".into(),
            dry_run: false,
        };
        tokio::time::timeout(VERB_WAITS, carry_out(&there.app, "olga", verb)).await
    });
    let running = async || two.here.store.running_operations().await.unwrap().len();
    let ended = async {
        while running().await == 0 {
            tokio::task::yield_now().await;
        }
        while running().await > 0 {
            rotation::pass(&two.here.app).await.unwrap();
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    assert!(ended.is_ok(), "it is not carried out");
    let answered = asked.await.unwrap().expect("it waits as long as it may");
    let operation = answered.unwrap().operation.expect("it was begun");
    assert_eq!(operation.state, OperationState::Done);
}
