//! Is what may lag read from a copy, and only as long as that is not too far behind?

use std::time::Duration;

use authority::store::postgres::{self, PostgresOptions, migrate};
use authority::store::{
    AuditLog as _, Nodes, Retention as _, SqlStore, Terminals as _, may_lag, unhurried,
};
use own_postgres::{Cluster, Durability, SUPERUSER};

use crate::NODE;
use crate::cluster::place_of;
use crate::nodes::becomes_true;
use crate::world::{NOW, World};

/// More than a replica that follows is ever behind, on a machine with much to do.
const LAG_MAX_MS: i64 = 4_000;
/// So that it is read from while it stands still.
const LAG_OF_HOURS_MS: i64 = 3_600_000;
/// Between two looks at what comes about by itself.
const LOOK: Duration = Duration::from_millis(50);
/// Far more than anything here takes.
const LOOKS: usize = 1_200;
const PATIENCE: Duration = Duration::from_secs(60);

struct Copied {
    primary: Cluster,
    standby: Cluster,
    /// Where there are two.
    other: Option<Cluster>,
    world: World,
    store: std::sync::Arc<SqlStore>,
}

impl Copied {
    async fn new() -> Self {
        Self::within(LAG_MAX_MS).await
    }

    async fn within(lag_max_ms: i64) -> Self {
        Self::of(lag_max_ms, None).await
    }

    async fn of(lag_max_ms: i64, other: Option<&str>) -> Self {
        let primary = Cluster::start(Durability::Full);
        migrate(&place_of(&primary, "postgres")).unwrap();
        let standby = primary.standby("copy");
        let other = other.map(|name| primary.standby(name));
        let copies = [Some(&standby), other.as_ref()].into_iter().flatten();
        let options = PostgresOptions {
            readers: 2,
            lanes: 1,
            replicas: copies.map(|it| it.socket().display().to_string()).collect(),
            replica_lag_max_ms: lag_max_ms,
            ..PostgresOptions::new(NODE, place_of(&primary, "postgres"))
        };
        let store = std::sync::Arc::new(postgres::open(options).unwrap());
        let copied = Self {
            primary,
            standby,
            other,
            world: World::new(store.clone()),
            store,
        };
        copied.becomes(true).await;
        copied
    }

    /// Waits until it is read from, or is not.
    async fn becomes(&self, current: bool) {
        for _ in 0..LOOKS {
            if self
                .store
                .replicas()
                .iter()
                .all(|it| it.is_current == current)
            {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("it never came: {:?}", self.store.replicas());
    }

    fn failed(&self) -> u64 {
        self.store.replicas()[0].failed
    }

    fn reads(&self) -> u64 {
        self.store.replicas()[0].reads
    }

    async fn terminals(&self) -> usize {
        self.store.terminals(None, 100).await.unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_lag_is_read_from_a_copy_until_that_stands_still() {
    let copied = Copied::new().await;
    copied.world.terminal(1).await;
    assert_eq!(copied.terminals().await, 1);
    assert_eq!(copied.reads(), 0, "nobody said that it may lag");
    may_lag(async {
        copied.terminals().await;
        copied.store.audit_heads().await.unwrap();
        assert_eq!(copied.reads(), 2);
        // Who writes sees what was written.
        copied.world.terminal(2).await;
        assert_eq!(copied.terminals().await, 2);
        assert_eq!(copied.reads(), 2);
    })
    .await;
    copied
        .standby
        .sql("postgres", "SELECT pg_wal_replay_pause()");
    copied.world.terminal(3).await;
    copied.becomes(false).await;
    let before = copied.reads();
    assert_eq!(may_lag(copied.terminals()).await, 3, "the copy has two");
    assert_eq!(copied.reads(), before);
    copied
        .standby
        .sql("postgres", "SELECT pg_wal_replay_resume()");
    copied.becomes(true).await;
    assert_eq!(may_lag(copied.terminals()).await, 3);
    assert_eq!(copied.reads(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_copy_that_is_gone_or_stands_still() {
    let copied = Copied::new().await;
    copied.world.terminal(1).await;
    // Nothing was noticed yet: the read is done at the primary.
    copied.standby.pause();
    let asked = unhurried(may_lag(copied.terminals()));
    assert_eq!(tokio::time::timeout(PATIENCE, asked).await, Ok(1));
    assert_eq!((copied.reads(), copied.failed()), (0, 1));
    assert!(copied.store.replicas()[0].trouble.is_some());
    copied.becomes(false).await;
    copied.standby.resume();
    copied.becomes(true).await;
    copied.standby.kill();
    assert_eq!(may_lag(copied.terminals()).await, 1);
    copied.becomes(false).await;
    copied.store.probe().await.unwrap();
    copied.standby.start_again();
    copied.becomes(true).await;
}

/// Has a table of the primary locked until it commits.
async fn holds_terminals(primary: &Cluster) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(primary.socket()).user(SUPERUSER);
    config.dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = "BEGIN; LOCK TABLE terminals IN ACCESS EXCLUSIVE MODE";
    client.batch_execute(lock).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_has_begun_at_a_copy_and_stands_still_there_is_done_at_the_primary() {
    let copied = Copied::within(LAG_OF_HOURS_MS).await;
    copied.world.terminal(1).await;
    locked_at_the_copy(&copied).await;
    may_lag(async {
        assert_eq!(copied.terminals().await, 1);
        assert_eq!((copied.reads(), copied.failed()), (0, 1));
        copied
            .standby
            .sql("postgres", "SELECT pg_wal_replay_resume()");
        copied.becomes(true).await;
        // It may be older than what the primary has answered.
        assert_eq!(copied.terminals().await, 1);
        assert_eq!((copied.reads(), copied.failed()), (0, 1));
    })
    .await;
    assert_eq!(may_lag(copied.terminals()).await, 1);
    assert_eq!((copied.reads(), copied.failed()), (1, 1));
}

/// The copy replays the lock of a table, and not its end.
async fn locked_at_the_copy(copied: &Copied) {
    let holding = holds_terminals(&copied.primary).await;
    copied.standby.wait_for(
        "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted
             AND relation = 'terminals'::regclass",
    );
    copied
        .standby
        .sql("postgres", "SELECT pg_wal_replay_pause()");
    let paused = "SELECT 1 WHERE pg_get_wal_replay_pause_state() = 'paused'";
    copied.standby.wait_for(paused);
    holding.batch_execute("COMMIT").await.unwrap();
    copied.becomes(true).await;
}

/// One in a hurry keeps the time to ask the primary, and one who has all the time does not wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_machine_stands_still_under_its_reads_holds_up_nobody() {
    let copied = Copied::within(LAG_OF_HOURS_MS).await;
    copied.world.terminal(1).await;
    locked_at_the_copy(&copied).await;
    let read = tokio::time::timeout(PATIENCE, async {
        tokio::join!(
            may_lag(copied.terminals()),
            unhurried(may_lag(copied.terminals())),
            async {
                copied.standby.wait_for(
                    "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'terminals'::regclass
                         HAVING count(*) = 2",
                );
                copied.standby.pause();
            }
        )
    });
    let read = read.await;
    copied.standby.resume();
    assert_eq!(read, Ok((1, 1, ())));
    assert_eq!((copied.reads(), copied.failed()), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_says_nothing_is_not_read_from_however_far_behind_it_may_be() {
    let copied = Copied::within(LAG_OF_HOURS_MS).await;
    copied.standby.pause();
    copied.becomes(false).await;
    assert_eq!(copied.failed(), 0, "no read had to find that out");
    copied.standby.resume();
    copied.becomes(true).await;
}

/// Its clock ran ahead, and what it wrote then is still what the copy knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_seen_later_than_now_says_nothing_of_how_far_behind_a_copy_is() {
    let copied = Copied::new().await;
    copied.primary.sql(
        "postgres",
        "CREATE FUNCTION ahead() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN NEW.seen_ms := NEW.seen_ms + 3600000; RETURN NEW; END';
         CREATE TRIGGER ahead BEFORE INSERT OR UPDATE ON nodes FOR EACH ROW EXECUTE FUNCTION ahead()",
    );
    copied.becomes(false).await;
    copied
        .primary
        .sql("postgres", "DROP TRIGGER ahead ON nodes");
    copied.becomes(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_read_from_in_turn_and_one_alone_when_the_other_is_gone() {
    let copied = Copied::of(LAG_MAX_MS, Some("other")).await;
    let reads = || {
        copied
            .store
            .replicas()
            .iter()
            .map(|it| it.reads)
            .collect::<Vec<_>>()
    };
    for _ in 0..4 {
        may_lag(copied.terminals()).await;
    }
    assert_eq!(reads(), [2, 2]);
    copied.other.as_ref().unwrap().kill();
    let is_gone = || !copied.store.replicas()[1].is_current;
    becomes_true("nobody notices", is_gone).await;
    for _ in 0..4 {
        may_lag(copied.terminals()).await;
    }
    assert_eq!(reads(), [6, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_promoted_is_no_copy() {
    let copied = Copied::within(LAG_OF_HOURS_MS).await;
    copied.standby.promote();
    copied.becomes(false).await;
    copied.world.terminal(1).await;
    assert_eq!(may_lag(copied.terminals()).await, 1);
    assert_eq!(copied.reads(), 0);
    let raised = copied.store.raise_epoch_fence(1, NOW).await;
    assert_eq!(raised, Ok(1), "{}", copied.primary.log());
}
