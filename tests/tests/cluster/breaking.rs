//! What is left when nodes are killed, stopped and cut off, and their database dies and fails over, while people pay?

use std::time::Duration;

use harness::cluster::Cluster;

use crate::books::{assert_no_journal_misses_anything, assert_whole};
use crate::{FLEET, pays, run_of, stage};

/// Longer than the lease of a chore, and than the second within which a ban must be heard.
const STANDS_STILL: Duration = Duration::from_secs(5);
/// Between two misfortunes, so that some payments are undisturbed.
const CALM: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_whatever_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(dir.path(), 3, true, FLEET).await.unwrap();
    let wanted = run_of("--rate 3 --for 45s --retries 40 --patience 16s --drain 90s --seed 5");
    let stage = stage(&cluster, &wanted).await;
    let paying = pays(&stage, &wanted);
    misfortunes(&mut cluster).await;
    assert_whole(&cluster, &stage, &wanted, &paying.await.unwrap()).await;
    drop(stage);
    without_standby(&cluster);
    assert_no_journal_misses_anything(&mut cluster).await;
}

async fn misfortunes(cluster: &mut Cluster) {
    killed(cluster).await;
    stopped(cluster).await;
    cut_off(cluster).await;
    database_killed(cluster).await;
    failed_over(cluster).await;
}

async fn killed(cluster: &mut Cluster) {
    calm().await;
    let node = &mut cluster.nodes[1];
    node.authority.kill();
    calm().await;
    node.authority.serve().await.unwrap();
    println!("killed, and back");
}

async fn stopped(cluster: &Cluster) {
    calm().await;
    let node = &cluster.nodes[2];
    node.authority.signal("STOP").unwrap();
    tokio::time::sleep(STANDS_STILL).await;
    node.authority.signal("CONT").unwrap();
    node.until_ready().await.unwrap();
    println!("stood still, and goes on");
}

async fn cut_off(cluster: &Cluster) {
    calm().await;
    let node = &cluster.nodes[1];
    node.partition();
    node.until_not_ready("other nodes are not heard")
        .await
        .unwrap();
    tokio::time::sleep(STANDS_STILL).await;
    node.heal();
    node.until_ready().await.unwrap();
    println!("cut off, and back");
}

async fn database_killed(cluster: &Cluster) {
    calm().await;
    cluster.postgres.kill();
    calm().await;
    cluster.postgres.start_again();
    for node in &cluster.nodes {
        node.until_ready().await.unwrap();
    }
    println!("the database died, and is back");
}

async fn failed_over(cluster: &mut Cluster) {
    calm().await;
    // The standby follows again, or what it lacks would be missed.
    let streams = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
    cluster.postgres.wait_for(streams);
    cluster.fail_over().unwrap();
    for node in &cluster.nodes {
        // There is no standby any more, and that is what it says.
        node.until_not_ready("no synchronous standby")
            .await
            .unwrap();
    }
    println!("failed over");
}

/// What it was is the primary now, and nobody asks for another one.
fn without_standby(cluster: &Cluster) {
    for node in &cluster.nodes {
        let changed = node.authority.change(|config| {
            let postgres = config["store"]["postgres"].as_table_mut().unwrap();
            postgres.remove("standby");
        });
        changed.unwrap();
    }
}

async fn calm() {
    tokio::time::sleep(CALM).await;
}
