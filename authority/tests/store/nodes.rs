//! Does a node hear of what others commit, notice when it cannot, and leave its chores to them?

use std::sync::Arc;
use std::time::Duration;

use authority::journal::{Fact, Known, Last};
use authority::store::{
    Chore, Contact, Fences, ForgetNode, News, NewsListener, Nodes, Raise, SqlStore, Store,
    StoreError,
};

use protocol::ids::TerminalId;

use crate::cluster::Database;
use crate::world::{NOW, World};

/// Far more than anything here takes; a fact that does not come about fails by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Two nodes over one database, and a world at the first.
pub(crate) struct Two {
    pub(crate) database: Database,
    world: World,
    pub(crate) here: Arc<SqlStore>,
    pub(crate) there: Arc<SqlStore>,
}

impl Two {
    pub(crate) fn new() -> Self {
        let database = Database::new();
        let here = Arc::new(database.open("node-1", 2));
        let there = Arc::new(database.open("node-2", 2));
        Self {
            world: World::new(here.clone() as Arc<dyn Store>),
            database,
            here,
            there,
        }
    }
}

/// Waits for exactly this news.
pub(crate) async fn until(news: &mut NewsListener, wanted: &News) {
    let heard = async { while news.next().await != *wanted {} };
    let heard = tokio::time::timeout(PATIENCE, heard).await;
    assert!(heard.is_ok(), "{wanted:?} was not heard");
}

pub(crate) async fn becomes_true(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, waited).await;
    assert!(came.is_ok(), "{what}");
}

fn keeps(store: &SqlStore) -> bool {
    matches!(store.contact(), Contact::Kept { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_commits_the_other_hears() {
    let two = Two::new();
    let mut news = two.there.news();
    let terminal = two.world.terminal(1).await;
    two.world.start(terminal, 420).await;
    until(&mut news, &News::Terminal(terminal)).await;
    two.world.claimed(terminal).await;
    until(&mut news, &News::Terminal(terminal)).await;
    let banned = two.here.clone() as Arc<dyn Store>;
    let banned = banned.ban_terminal(terminal, "stolen".into(), NOW).await;
    assert!(banned.unwrap().is_some());
    until(&mut news, &News::Banned(terminal)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_is_not_heard_and_nobody_hears_themselves() {
    let two = Two::new();
    let (mut here, mut there) = (two.here.news(), two.there.news());
    let [unknown, one, two_of] = [
        crate::world::number(9),
        two.world.terminal(1).await,
        two.world.terminal(2).await,
    ];
    let store: Arc<dyn Store> = two.here.clone();
    let nobody = store.ban_terminal(unknown, "stolen".into(), NOW).await;
    assert_eq!(nobody, Ok(None));
    store.ban_terminal(one, "stolen".into(), NOW).await.unwrap();
    let other: Arc<dyn Store> = two.there.clone();
    other
        .ban_terminal(two_of, "stolen".into(), NOW)
        .await
        .unwrap();
    assert_eq!(first_ban(&mut there).await, one);
    assert_eq!(first_ban(&mut here).await, two_of);
}

async fn first_ban(news: &mut NewsListener) -> TerminalId {
    let heard = async {
        loop {
            if let News::Banned(terminal) = news.next().await {
                return terminal;
            }
        }
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await;
    heard.expect("a ban is heard")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_hear_says_so_and_hears_afterwards_what_it_missed() {
    let two = Two::new();
    let terminal = two.world.terminal(1).await;
    let mut news = two.there.news();
    assert!(keeps(&two.there));
    let silence = two.database.silence("node-2");
    becomes_true("a silent database is not noticed", || !keeps(&two.there)).await;
    assert!(Chore::ALL.iter().all(|chore| !two.there.leads(*chore)));
    assert!(keeps(&two.here), "the other one is well");
    let store: Arc<dyn Store> = two.here.clone();
    store
        .ban_terminal(terminal, "stolen".into(), NOW)
        .await
        .unwrap();
    drop(silence);
    until(&mut news, &News::Banned(terminal)).await;
    becomes_true("it does not come back", || keeps(&two.there)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chore_is_done_by_one_node_and_goes_to_another_when_that_is_gone() {
    let two = Two::new();
    let Two { here, there, .. } = &two;
    let all_here = || Chore::ALL.iter().all(|it| here.leads(*it));
    becomes_true("nobody does the chores", all_here).await;
    assert!(Chore::ALL.iter().all(|it| !there.leads(*it)));
    here.resign();
    assert!(Chore::ALL.iter().all(|it| !here.leads(*it)));
    let all_there = || Chore::ALL.iter().all(|it| there.leads(*it));
    becomes_true("nobody takes the chores over", all_there).await;
    let third = two.database.open("node-3", 1);
    assert!(Chore::ALL.iter().all(|it| !third.leads(*it)));
    let Two { there, .. } = two;
    // The last handle: as if the process had ended.
    drop(there);
    let all_third = || Chore::ALL.iter().all(|it| third.leads(*it));
    becomes_true("nobody inherits the chores", all_third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_held_by_one_process_and_is_free_when_that_has_ended() {
    let database = Database::new();
    let first = database.open("node-1", 2);
    let refused = database.try_open("node-1", 1).err();
    let said = match refused {
        Some(StoreError::Unusable { detail }) => detail,
        other => panic!("{other:?}"),
    };
    assert!(
        said.contains("node-1") && said.contains("another process"),
        "{said}"
    );
    drop(first);
    let again = database.open("node-1", 2);
    let names: Vec<String> = again
        .nodes()
        .await
        .unwrap()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["node-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_remembers_its_own_journal() {
    let two = Two::new();
    let line = |node: &str, n| Last {
        node: node.into(),
        journal: format!("journal of {node}"),
        n,
        hash: [n as u8; 32],
    };
    for (store, node, n) in [(&two.here, "node-1", 7), (&two.there, "node-2", 3)] {
        store.remember_journal(line(node, n)).await.unwrap();
    }
    for (node, n) in [("node-1", 7), ("node-2", 3)] {
        let known = Known::nothing("any".into(), node.into());
        let difference = two.there.differs_from(Arc::new(known)).await.unwrap();
        assert_eq!(difference.wrote, Some(line(node, n)));
    }
}

/// A node was away while another one raised the generation with its own journal.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_raise_has_seen_is_missed_by_the_node_whose_journal_knows_it() {
    let two = Two::new();
    let terminal = two.world.terminal(1).await;
    let ban = |version| Fact::Banned {
        terminal,
        version,
        banned_at: NOW,
        reason: "stolen".into(),
    };
    let journal = |facts: &[Fact]| {
        let mut known = Known::nothing("any".into(), "node-2".into());
        facts.iter().for_each(|fact| known.take(fact));
        Arc::new(known)
    };
    let first = Fact::Generation { generation: 1 };
    let knows = journal(&[first.clone(), ban(1)]);
    let missed = two.there.differs_from(knows.clone()).await.unwrap();
    assert_eq!(missed.missing.bans, [terminal], "the database is older");
    let raise = Raise {
        generation: 2,
        known: journal(&[]),
        since: 1,
        reason: "disk of node 1 replaced".into(),
        by: "olga".into(),
        successors: Vec::new(),
        found: Vec::new(),
    };
    assert!(two.here.raise(raise, NOW).await.unwrap().is_some());
    let missed = two.there.differs_from(knows).await.unwrap();
    assert_eq!(missed.missing.bans, [terminal], "no raise has seen it");
    let raised = journal(&[first, ban(1), Fact::Generation { generation: 2 }]);
    let agreed = two.there.differs_from(raised).await.unwrap();
    assert_eq!(agreed.missing.bans, [], "that raise has");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_one_process_leads_everything_and_has_no_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(&dir.path().join("m2key.db"));
    assert_eq!(store.contact(), Contact::Alone);
    assert!(Chore::ALL.iter().all(|it| store.leads(*it)));
    assert_eq!(store.nodes().await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_it_is_and_is_forgotten_once_it_is_gone_for_good() {
    let Two {
        database,
        here,
        there,
        ..
    } = Two::new();
    let nodes = here.nodes().await.unwrap();
    let names: Vec<_> = nodes.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["node-1", "node-2"]);
    for node in &nodes {
        assert!(node.runs && node.silent_ms < 60_000, "{node:?}");
        assert_eq!(node.says.version, env!("CARGO_PKG_VERSION"));
        assert!(node.says.schema.is_some_and(|it| it >= 1), "{node:?}");
        assert!(node.says.ahead_ms.is_some(), "{node:?}");
    }
    let forget = |name: &str| here.forget_node(name.into(), NOW);
    assert_eq!(forget("node-9").await, Ok(ForgetNode::Unknown));
    assert_eq!(forget("node-2").await, Ok(ForgetNode::Runs));
    drop(there);
    let ended = async {
        loop {
            match forget("node-2").await {
                Ok(ForgetNode::Runs) => tokio::time::sleep(LOOK).await,
                forgotten => return forgotten,
            }
        }
    };
    let forgotten = tokio::time::timeout(PATIENCE, ended).await;
    let forgotten = forgotten.expect("it never ended");
    assert_eq!(forgotten, Ok(ForgetNode::SeenLately));
    database.sql("UPDATE nodes SET seen_ms = seen_ms - 60000 WHERE name = 'node-2'");
    assert_eq!(forget("node-2").await, Ok(ForgetNode::Forgotten));
    assert_eq!(here.nodes().await.unwrap().len(), 1);
}
