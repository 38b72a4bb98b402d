//! What hears whoever asks while the database is slow, or stands still?

use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use harness::cluster::{Cluster, DATABASE, Node};
use harness::load::agent::slug;
use harness::load::phone::{Phone, Trouble};
use harness::wait;
use protocol::token::Channel;

use crate::books::{assert_whole, time_passes};
use crate::{FLEET, pays, run_of, stage};

/// What each statement takes.
const SLOW: Duration = Duration::from_secs(2);
/// One node is asked, so nobody goes elsewhere; a phone that waits longer than this fails the fact.
const ANSWER_MAX: &str = "30s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_slow_or_stands_still_leaves_nobody_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::open(dir.path(), 1, false, FLEET).await.unwrap();
    let wanted = run_of(&format!(
        "--rate 4 --for 5s --retries 5 --patience {ANSWER_MAX} --seed 9"
    ));
    let stage = stage(&cluster, &wanted).await;
    let node = &cluster.nodes[0];
    let mut phones = Vec::new();
    for customer in &stage.fleet.shoppers {
        phones.push(Phone::of(&stage.air, customer, 0).await.unwrap());
    }
    let shown = || -> Vec<String> {
        let faces = stage.agents.iter().filter_map(|it| it.shows(Channel::Qr));
        faces.map(|face| face.text().to_owned()).collect()
    };

    // Those who write and read stand still; whoever listens does not, so the node stays open.
    let stopped = Stopped::all_but_who_listens(&cluster);
    let answers = claimed(&mut phones, &shown()).await;
    for answer in &answers {
        assert_eq!(answer, "answer-late", "{answers:?}");
    }
    node.until_not_ready("takes longer than").await.unwrap();
    drop(stopped);
    node.until_ready().await.unwrap();

    // Everything is slow: it closes, and says so.
    node.lines[0].delay(SLOW);
    node.until_not_ready("other nodes are not heard")
        .await
        .unwrap();
    let answers = claimed(&mut phones, &shown()).await;
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

/// What each phone hears, by the last part of its type; `claimed` if it worked.
async fn claimed(phones: &mut [Phone], shown: &[String]) -> Vec<String> {
    let all = phones
        .iter_mut()
        .zip(shown)
        .map(|(phone, shown)| async move {
            match phone.claim(shown).await {
                Ok(_) => "claimed".into(),
                Err(Trouble::Problem(problem)) => {
                    assert!(problem.retry_after_s.is_some(), "{problem:?}");
                    slug(&problem)
                }
                Err(Trouble::Unanswered(why)) => why,
            }
        });
    join_all(all).await
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
