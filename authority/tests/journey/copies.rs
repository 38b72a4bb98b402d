//! Does an operator see which replicas a node reads from?

use std::sync::Arc;

use authority::services::operators::{NodeList, ReplicaView, carry_out};
use authority::store::Nodes as _;
use authority::store::postgres::{self, PostgresOptions, migrate};
use own_postgres::{Cluster, Durability};

use crate::cluster::place_of;
use crate::world::World;

/// So that what stands still is soon too far behind.
const LAG_MAX_MS: i64 = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_nodes_tells_of_each_replica_whether_it_is_read_from_and_how_far_it_is_behind()
{
    let primary = Cluster::start(Durability::Full);
    migrate(&place_of(&primary, "postgres")).unwrap();
    let standby = primary.standby("copy");
    let host = standby.socket().display().to_string();
    let options = PostgresOptions {
        replicas: vec![host.clone()],
        replica_lag_max_ms: LAG_MAX_MS,
        ..PostgresOptions::new("one", place_of(&primary, "postgres"))
    };
    let world = World::over(Arc::new(postgres::open(options).unwrap())).await;
    becomes(&world, true).await;
    let found = replica(&world).await;
    assert_eq!((found.host, found.usable), (host, true));
    assert!(found.lag_ms.is_some_and(|lag| lag <= LAG_MAX_MS));

    standby.sql("postgres", "SELECT pg_wal_replay_pause()");
    world.give("carol", 1).await;
    becomes(&world, false).await;
    assert!(!replica(&world).await.usable);
}

async fn replica(world: &World) -> ReplicaView {
    let listed = carry_out(&world.app, "ops", NodeList {}).await.unwrap();
    let names: Vec<_> = listed.nodes.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["one"]);
    let [replica]: [ReplicaView; 1] = listed.replicas.try_into().unwrap();
    replica
}

async fn becomes(world: &World, current: bool) {
    while world.store.replicas()[0].is_current != current {
        tokio::task::yield_now().await;
    }
}
