//! What does a running authority do when its PostgreSQL is suddenly another server?

use std::time::Duration;

use authority::services::{fence, readiness, revocation};
use authority::store::postgres::{PostgresOptions, PostgresPlace, migrate, move_from, open};
use authority::store::{
    AuditLog as _, Certificate, Identities as _, StoreError, Subject, Timelines as _,
};
use own_postgres::{Cluster, Durability, SUPERUSER};
use pki::crl::Reason;
use protocol::time::Timestamp;

use crate::world::World;

/// Far more than anything here takes; a fact that does not come about fails by it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A world that moved to a server with a standby.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    world: World,
    _dir: tempfile::TempDir,
}

impl Pair {
    async fn new() -> Self {
        let primary = Cluster::start(Durability::Full);
        let standby = primary.standby("twin");
        let hosts = [&primary, &standby].map(|it| it.socket().display().to_string());
        let place = PostgresPlace {
            hosts: hosts.into(),
            database: "postgres".into(),
            user: SUPERUSER.into(),
            password_file: None,
            root: None,
        };
        let world = World::new().await;
        migrate(&place).unwrap();
        move_from(&world.database(), &place).unwrap();
        let node = world.app.config.node.to_string();
        let dir = tempfile::tempdir().unwrap();
        let begun = fence::begin(&node, &dir.path().join("fence.journal")).unwrap();
        let store = open(PostgresOptions::new(&node, place)).unwrap();
        store.attach(begun.journal.clone());
        let world = world.restart_over(store).await;
        fence::judge(&world.app, begun).await.unwrap();
        world.journey.checkpoint(world.now()).await.unwrap();
        Self {
            primary,
            standby,
            world,
            _dir: dir,
        }
    }

    /// The standby has everything that was committed until now.
    fn caught_up(&self) {
        let all = "SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
        self.primary.wait_for(all);
    }

    /// Asks until the store has met the new server.
    async fn met(&self) -> StoreError {
        loop {
            let asked = self.world.store.audit_heads().await;
            if self.world.store.server_in_question().is_some() {
                return asked.and(self.world.store.audit_heads().await).unwrap_err();
            }
        }
    }

    async fn compare(&self) -> usize {
        let compared = authority::services::timelines::look(&self.world.app).await;
        compared.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_has_everything_is_served_from_once_that_is_known() {
    let pair = Pair::new().await;
    assert_eq!(pair.compare().await, 0, "nothing to ask");
    pair.world.give("eve", 77).await;
    pair.caught_up();
    pair.primary.kill();
    pair.standby.promote();
    let refused = pair.met().await;
    assert!(
        refused.to_string().contains("timeline 2, and was on 1"),
        "{refused}"
    );
    let ready = readiness::check(&pair.world.app).await;
    assert!(
        ready.reasons.iter().any(|it| it.contains("timeline 2")),
        "{ready:?}"
    );
    assert_eq!(pair.compare().await, 1);
    assert_eq!(pair.world.app.fence.fenced(), None);
    assert_eq!(pair.world.balance("eve").await, 77);
    pair.world.give("fay", 1).await;
    let noted = "SELECT count(*) FROM audit_rows WHERE kind = 'database.timeline'";
    assert_eq!(pair.standby.sql("postgres", noted), "1");
    assert_eq!(pair.compare().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_from_before_what_was_acknowledged_is_fenced() {
    let pair = Pair::new().await;
    pair.caught_up();
    pair.standby.kill();
    pair.world.give("eve", 77).await;
    pair.primary.kill();
    pair.standby.start_again();
    pair.standby.promote();
    pair.met().await;
    assert_eq!(pair.compare().await, 1);
    let fenced = pair.world.app.fence.fenced().expect("something is missing");
    let said: Vec<String> = fenced.reasons.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|it| it.contains("row")), "{said:?}");
    assert!(
        pair.world.app.fence.problem().is_some(),
        "nothing is served"
    );
}

/// The disk of the server is put back to an earlier moment: the timeline is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_copy_under_a_running_node_is_fenced_and_a_restart_is_not() {
    let pair = Pair::new().await;
    let primary = &pair.primary;
    let now = pair.world.now();
    pair.world.give("eve", 77).await;
    let store = &pair.world.store;
    store.add_certificate(stolen(now), now).await.unwrap();
    primary.kill();
    primary.copy_disk();
    primary.start_again();
    let refused = met_soon(&pair).await;
    assert!(
        refused.to_string().contains("started anew on timeline 1"),
        "{refused}"
    );
    assert_eq!(pair.compare().await, 1);
    assert_eq!(pair.world.app.fence.fenced(), None, "it has everything");
    pair.world.give("fay", 1).await;
    let (app, terminal) = (&pair.world.app, pair.world.terminal);
    let banned = revocation::ban(app, terminal, "stolen".into(), now).await;
    assert!(banned.unwrap().is_some());
    let revoked = revocation::revoke(app, STOLEN, Reason::KeyCompromise, now).await;
    assert!(revoked.unwrap().is_some());
    primary.kill();
    primary.put_disk_back();
    primary.start_again();
    met_soon(&pair).await;
    assert_eq!(pair.compare().await, 1);
    let fenced = pair.world.app.fence.fenced().expect("fay's is missing");
    let said: Vec<String> = fenced.reasons.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|it| it.contains("row")), "{said:?}");
    let banned = format!("1 ban(s) are missing: {terminal}");
    assert!(said.contains(&banned), "the journal knows: {said:?}");
    let fence = &pair.world.app.fence;
    assert!(fence.is_revoked_outside(STOLEN), "also of who raises it");
    assert_eq!(primary.sql("postgres", TIMELINE), "1");
}

/// What an operator shows who may not ask for a raise any more.
fn stolen(now: Timestamp) -> Certificate {
    Certificate {
        serial: STOLEN.into(),
        subject: Subject::Operator("olga".into()),
        spki_sha256: [1; 32],
        not_before: now,
        not_after: now + AN_HOUR_MS,
        issuer_key: String::new(),
        der: vec![1],
    }
}

const STOLEN: &str = "4a";
const AN_HOUR_MS: i64 = 3_600_000;
const TIMELINE: &str = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)::int";

async fn met_soon(pair: &Pair) -> StoreError {
    let met = tokio::time::timeout(PATIENCE, pair.met()).await;
    met.expect("nobody asks for a comparison")
}
