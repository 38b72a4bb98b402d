//! What hears whoever asks while the database is slow, or stands still?

use std::process::Command;
use std::time::Duration;

use harness::cluster::{Cluster, DATABASE, Node};
use harness::load::agent::slug;
use harness::load::phone::{Approved, Phone, Trouble};
use harness::load::stage::Stage;
use harness::wait;
use protocol::token::Channel;
use tokio::task::JoinSet;

use crate::books::{assert_whole, time_passes};
use crate::{FLEET, claimed, patient, pays, run_of, stage};

/// What each statement takes.
const SLOW: Duration = Duration::from_secs(2);
/// One node is asked, so nobody goes elsewhere; a phone that waits longer than this fails the fact.
const ANSWER_MAX: &str = "30s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_slow_or_stands_still_leaves_nobody_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(dir.path(), 1, false, FLEET).await.unwrap();
    let wanted = run_of(&format!(
        "--rate 4 --for 5s --retries 5 --patience {ANSWER_MAX} --seed 9"
    ));
    let stage = stage(&cluster, &wanted).await;
    what_is_not_durable_is_not_acknowledged(&mut cluster, &stage).await;
    let node = &cluster.nodes[0];

    // Those who write and read stand still; whoever listens does not, so the node stays open.
    let stopped = Stopped::all_but_who_listens(&cluster);
    let answers = all_claim(&stage).await;
    for answer in &answers {
        assert_eq!(answer, "answer-late", "{answers:?}");
    }
    node.until_not_ready("").await.unwrap();
    drop(stopped);
    node.until_ready().await.unwrap();

    // Everything is slow: it closes, and says so.
    node.lines[0].delay(SLOW);
    node.until_not_ready("other nodes are not heard")
        .await
        .unwrap();
    let answers = all_claim(&stage).await;
    for answer in &answers {
        assert_eq!(answer, "not-ready", "{answers:?}");
    }
    node.lines[0].delay(Duration::ZERO);
    node.until_ready().await.unwrap();

    // What was claimed late, and nobody knows of, is released when its time is over.
    time_passes(&cluster);
    let free = async || is_free(&cluster).then_some(());
    wait::until("claims that nobody knows of to end", free)
        .await
        .unwrap();
    let outcome = pays(&stage, &wanted).await.unwrap();
    assert_whole(&cluster, &stage, &wanted, &outcome).await;
}

/// What all phones hear, each at a terminal of its own.
async fn all_claim(stage: &Stage) -> Vec<String> {
    let mut phones = JoinSet::new();
    for (customer, agent) in stage.fleet.shoppers.iter().zip(&stage.agents) {
        let shown = agent.shows(Channel::Qr).unwrap().text().to_owned();
        let phone = Phone::of(&stage.air, customer, 0).await.unwrap();
        phones.spawn(claimed(phone, shown));
    }
    phones.join_all().await
}

/// No commit arrives, and then the process is gone: an answer that said otherwise would have been a lie.
async fn what_is_not_durable_is_not_acknowledged(cluster: &mut Cluster, stage: &Stage) {
    let (agent, customer) = (&stage.agents[0], &stage.fleet.shoppers[0]);
    let mut phone = Phone::of(&stage.air, customer, 0).await.unwrap();
    let shown = agent.shows(Channel::Qr).unwrap().text().to_owned();
    let held = phone.claim(&shown).await.unwrap();
    let amount = held.view.amount.unwrap();
    let other = stage.agents[1].shows(Channel::Qr).unwrap();
    let other = claimed(patient(stage, 1, 0).await, other.text().to_owned());
    cluster.nodes[0].lines[0].hold_commits();
    assert_eq!(other.await, "answer-late");
    match phone.approve(&held, amount).await {
        Err(Trouble::Problem(problem)) => assert_eq!(slug(&problem), "answer-late"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is acknowledged, and nowhere written"),
    }
    let node = &mut cluster.nodes[0];
    node.authority.kill();
    node.heal();
    node.authority.serve().await.unwrap();
    let paid = phone.approve(&held, amount).await.unwrap();
    assert!(
        matches!(paid, Approved::Receipt(_)),
        "the same again pays once"
    );
    assert_eq!(cluster.sql("SELECT count(*) FROM payments"), "1");
    let back = async || {
        stage
            .agents
            .iter()
            .all(|it| it.hear().borrow().up)
            .then_some(())
    };
    wait::until("the terminals to come back", back)
        .await
        .unwrap();
}

fn is_free(cluster: &Cluster) -> bool {
    cluster.sql("SELECT count(*) FROM claims WHERE state = 'held'") == "0"
}

/// Server processes of a node that stand still; they go on when this is dropped.
struct Stopped(Vec<String>);

impl Stopped {
    fn all_but_who_listens(cluster: &Cluster) -> Self {
        let Node { name, .. } = &cluster.nodes[0];
        let pids = cluster.postgres.sql(
            DATABASE,
            &format!(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'm2key-authority {name}'"
            ),
        );
        let pids: Vec<String> = pids.lines().map(str::to_owned).collect();
        assert!(!pids.is_empty(), "it has connections");
        signal("-STOP", &pids);
        Self(pids)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(which: &str, pids: &[String]) {
    let sent = Command::new("kill").arg(which).args(pids).status().unwrap();
    assert!(sent.success());
}
