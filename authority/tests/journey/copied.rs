//! Who looks at a copy of the database, and who is told when nobody can?

use std::sync::Arc;
use std::time::Duration;

use authority::services::operators::{NodeList, ReplicaView, TagForecast, TerminalList, carry_out};
use authority::services::{history, readiness};
use authority::store::postgres::{self, PostgresOptions, migrate};
use authority::store::{HistoryOf, Nodes as _, SqlStore};
use own_postgres::{Cluster, Durability};
use protocol::wire::history::HistoryQuery;

use crate::cluster::place_of;
use crate::world::World;

const LOOK: Duration = Duration::from_millis(50);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const AN_HOUR_MS: i64 = 3_600_000;
/// What stands still is soon further behind.
const SOON_MS: i64 = 4_000;

/// A world over a server with a copy that is read from.
struct Copied {
    _primary: Cluster,
    standby: Cluster,
    store: Arc<SqlStore>,
    world: World,
}

impl Copied {
    /// It is never too far behind, only there or not.
    async fn new() -> Self {
        Self::behind_at_most(AN_HOUR_MS).await
    }

    async fn behind_at_most(lag_max_ms: i64) -> Self {
        let primary = Cluster::start(Durability::OfProcess);
        let place = place_of(&primary, "postgres");
        migrate(&place).unwrap();
        let standby = primary.standby("copy");
        let options = PostgresOptions {
            replicas: vec![standby.socket().display().to_string()],
            replica_lag_max_ms: lag_max_ms,
            ..PostgresOptions::new("node-1", place)
        };
        let store = Arc::new(postgres::open(options).unwrap());
        let copied = Self {
            _primary: primary,
            standby,
            world: World::over(store.clone()).await,
            store,
        };
        copied.becomes(true).await;
        copied
    }

    async fn becomes(&self, current: bool) {
        let waited = async {
            while self.store.replicas()[0].is_current != current {
                tokio::time::sleep(LOOK).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, waited).await;
        assert!(came.is_ok(), "{:?}", self.store.replicas());
    }

    /// Whether the copy was read from since this was asked last.
    fn was_read(&self, before: &mut u64) -> bool {
        let reads = self.store.replicas()[0].reads;
        reads > std::mem::replace(before, reads)
    }

    /// What readiness warns of, and what is measured, of the copy.
    async fn told(&self) -> (Vec<String>, String) {
        let app = &self.world.app;
        let ready = readiness::check(app).await;
        let of_copy = |all: Vec<String>| all.into_iter().filter(|it| it.contains("replica"));
        assert_eq!(of_copy(ready.reasons).count(), 0, "it is as ready without");
        readiness::measure(app);
        let text = app.metrics.text();
        let lines = text.lines().filter(|it| it.contains("replica_"));
        let values = lines.filter(|it| !it.starts_with('#'));
        let values = values.collect::<Vec<_>>().join("\n");
        (of_copy(ready.warnings).collect(), values)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_is_read_from_a_copy_and_nothing_else() {
    let copied = Copied::new().await;
    let (app, mut before) = (&copied.world.app, 0);
    carry_out(app, "ops", TerminalList { after: None })
        .await
        .unwrap();
    assert!(!copied.was_read(&mut before), "who bans reads it next");
    let forecast = TagForecast {
        within_days: 90,
        after: None,
    };
    carry_out(app, "ops", forecast).await.unwrap();
    assert!(copied.was_read(&mut before));
    let page = async |before_ms: Option<i64>| {
        let cursor = before_ms.map(|ms| {
            let at = copied.world.now().ms() - ms;
            format!("{at}.{}", "0".repeat(32))
        });
        let query = HistoryQuery {
            cursor,
            limit: None,
        };
        let of = HistoryOf::Merchant(copied.world.merchant);
        history::page(app, of, &query).await.unwrap()
    };
    page(None).await;
    page(Some(AN_HOUR_MS / 2)).await;
    assert!(!copied.was_read(&mut before), "who has just paid looks");
    page(Some(AN_HOUR_MS * 2)).await;
    assert!(copied.was_read(&mut before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_gone_is_warned_of_and_measured() {
    let copied = Copied::new().await;
    let host = copied.standby.socket().display().to_string();
    let usable = |is: u8| format!("replica_usable{{host=\"{host}\"}} {is}");
    let (warned, measured) = copied.told().await;
    assert_eq!(warned, [""; 0]);
    assert!(measured.contains(&usable(1)), "{measured}");
    assert!(measured.contains("replica_lag_seconds"), "{measured}");
    copied.standby.kill();
    copied.becomes(false).await;
    let (warned, measured) = copied.told().await;
    assert_eq!(warned.len(), 1, "{warned:?}");
    let said = format!("the replica {host} is not read from: ");
    assert!(warned[0].starts_with(&said), "{warned:?}");
    assert!(measured.contains(&usable(0)), "{measured}");
    assert!(!measured.contains("replica_lag_seconds"), "{measured}");
    copied.standby.start_again();
    copied.becomes(true).await;
    let (warned, measured) = copied.told().await;
    assert_eq!(warned, [""; 0]);
    assert!(measured.contains(&usable(1)), "{measured}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_nodes_tells_of_each_copy_whether_it_is_read_from_and_how_far_it_is_behind() {
    let copied = Copied::behind_at_most(SOON_MS).await;
    let found = listed(&copied.world).await;
    let host = copied.standby.socket().display().to_string();
    assert_eq!((found.host, found.usable), (host, true));
    assert!(found.lag_ms.is_some_and(|lag| lag <= SOON_MS));

    copied
        .standby
        .sql("postgres", "SELECT pg_wal_replay_pause()");
    copied.world.give("carol", 1).await;
    copied.becomes(false).await;
    assert!(!listed(&copied.world).await.usable);
}

async fn listed(world: &World) -> ReplicaView {
    let listed = carry_out(&world.app, "ops", NodeList {}).await.unwrap();
    let names: Vec<_> = listed.nodes.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["node-1"]);
    let [replica]: [ReplicaView; 1] = listed.replicas.try_into().unwrap();
    replica
}
