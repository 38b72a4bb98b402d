//! Do people notice that nodes come, go, and are replaced by others of another version?

use std::time::Duration;

use harness::Failure;
use harness::authority::set;
use harness::cluster::Cluster;
use harness::load::run::Outcome;
use harness::load::stage::Stage;
use protocol::token::Channel;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::books::{assert_no_journal_misses_anything, assert_whole};
use crate::{FLEET, SLOWLY, claimed, in_hand, patient, pays, run_of, stage};

/// What `migrate` of the next version does, as far as a node of this one can tell: to the tables that every payment
/// reads and writes. The number is that of the lock which all batches of writes share.
const NEXT_STEP: &str =
    "BEGIN; SET LOCAL lock_timeout = '400ms'; SELECT pg_advisory_xact_lock(1295141721);
    ALTER TABLE charges ADD COLUMN later BIGINT;
    ALTER TABLE claims ADD COLUMN later BIGINT;
    ALTER TABLE terminals ADD COLUMN later BIGINT;
    ALTER TABLE payments ADD COLUMN later BIGINT;
    CREATE TABLE later (of BIGINT NOT NULL PRIMARY KEY);
    UPDATE schema_version SET version = version + 1;
    COMMIT";
const STEP_TRIES_MAX: u32 = 20;
/// Another database, whose schema is one step behind.
const OLDER: &str = "older";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_pays_notices_that_nodes_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(dir.path(), 2, false, FLEET).await.unwrap();
    let wanted = run_of("--rate 3 --for 25s --retries 40 --patience 60s --drain 90s --seed 7");
    let stage = stage(&cluster, &wanted).await;
    let paying = pays(&stage, &wanted);
    comes_and_goes(&mut cluster).await;
    assert!(!paying.is_finished(), "people paid meanwhile");
    let outcome = paying.await.unwrap();
    assert_whole(&cluster, &stage, &wanted, &outcome).await;
    assert_everybody_paid(&cluster, &outcome);
    what_is_in_hand_is_answered(&mut cluster, &stage).await;
    drop(stage);
    an_older_schema_is_refused_with_whose_move_it_is(&cluster);
    a_node_that_left_for_good_is_forgotten(&mut cluster).await;
    assert_no_journal_misses_anything(&mut cluster).await;
}

/// It gives way to whoever reads, as `migrate` does.
fn migrates(cluster: &Cluster) {
    let mut tries = 0;
    while let Err(why) = cluster.try_sql(NEXT_STEP) {
        assert!(
            why.contains("deadlock") || why.contains("lock timeout"),
            "{why}"
        );
        tries += 1;
        assert!(tries < STEP_TRIES_MAX, "{why}");
    }
}

async fn comes_and_goes(cluster: &mut Cluster) {
    cluster.join().await.unwrap();
    println!("a third node has joined");
    drains(cluster, 1).await;
    println!("a node was drained, and is back");
    migrates(cluster);
    migrate_has_nothing_to_do(cluster);
    for number in 0..cluster.nodes.len() {
        drains(cluster, number).await;
    }
    println!("every node was replaced on a schema that is one step newer");
}

/// Even where nobody gives notice.
async fn what_is_in_hand_is_answered(cluster: &mut Cluster, stage: &Stage) {
    let node = &mut cluster.nodes[1];
    let at_once = node
        .authority
        .change(|it| set(it, "loopback", "notice_ms", 0));
    at_once.unwrap();
    assert_eq!(node.authority.stop().await.unwrap(), Some(0));
    node.authority.serve().await.unwrap();
    let mut phones = JoinSet::new();
    for customer in 0..stage.fleet.shoppers.len() {
        let face = stage.agents[customer].shows(Channel::Qr).unwrap();
        let phone = patient(stage, customer, 1).await;
        phones.spawn(claimed(phone, face.text().to_owned()));
    }
    let node = &cluster.nodes[1];
    node.lines[0].delay(SLOWLY);
    in_hand(cluster, node).await;
    node.authority.signal("TERM").unwrap();
    let mut answers = phones.join_all().await;
    answers.retain(|it| it != "no connection");
    assert!(!answers.is_empty(), "they had come before it went");
    assert!(answers.iter().all(|it| it == "claimed"), "{answers:?}");
    node.lines[0].delay(Duration::ZERO);
    let node = &mut cluster.nodes[1];
    assert_eq!(node.authority.stop().await.unwrap(), Some(0));
    node.authority.serve().await.unwrap();
}

/// Says that it goes before it does, answers what is in hand, and ends well; then it is started again.
async fn drains(cluster: &mut Cluster, number: usize) {
    let node = &mut cluster.nodes[number];
    node.authority.signal("TERM").unwrap();
    node.until_not_ready("going down").await.unwrap();
    let ended = node.authority.stop().await.unwrap();
    assert_eq!(ended, Some(0), "{}", node.name);
    node.authority.serve().await.unwrap();
}

fn assert_everybody_paid(cluster: &Cluster, outcome: &Outcome) {
    let record = &outcome.record;
    assert_eq!(record.paid, record.wanted, "{:?}", record.refused);
    let unpaid = "SELECT count(*) FROM claims WHERE state <> 'paid'";
    assert_eq!(
        cluster.sql(unpaid),
        "0",
        "no claim was made and not answered"
    );
}

fn migrate_has_nothing_to_do(cluster: &Cluster) {
    let authority = &cluster.nodes[0].authority;
    let checked = authority.verb(&["migrate", "--check"]).unwrap();
    let (version, known) = (&checked["version"], &checked["known"]);
    assert!(version.as_u64() > known.as_u64(), "{checked}");
    assert_eq!(authority.verb(&["migrate"]).unwrap()["steps"], 0);
}

/// A program that knows more than the database: its operator is told what to do, and it does not start.
fn an_older_schema_is_refused_with_whose_move_it_is(cluster: &Cluster) {
    cluster.postgres.create_database(OLDER, None);
    let table = "CREATE TABLE schema_version (only_row BIGINT, version BIGINT, works_from BIGINT)";
    cluster.postgres.sql(OLDER, table);
    cluster
        .postgres
        .sql(OLDER, "INSERT INTO schema_version VALUES (1, 0, 0)");
    let last = cluster.nodes.last().unwrap();
    let old = last.authority.file("older.toml");
    let text = std::fs::read_to_string(last.authority.config()).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    config["store"]["postgres"]["database"] = OLDER.into();
    config["node"] = "authority-9".into();
    config.insert("run_dir".into(), "run-older".into());
    std::fs::write(&old, config.to_string()).unwrap();
    let said = last.authority.say_with(&old, &["serve"]).unwrap();
    assert_ne!(said.code, 0);
    assert!(
        said.err.contains("run `m2key-authority migrate`"),
        "{said:?}"
    );
    let said = last.authority.say_with(&old, &["migrate", "--check"]);
    assert_eq!(said.unwrap().code, 4);
}

async fn a_node_that_left_for_good_is_forgotten(cluster: &mut Cluster) {
    let mut gone = cluster.nodes.pop().unwrap();
    let forget = ["node", "forget", &gone.name];
    let refused = |cluster: &Cluster| -> Result<(), Failure> {
        cluster.nodes[0].authority.say(&forget)?.ok().map(drop)
    };
    let why = refused(cluster).unwrap_err().to_string();
    assert!(why.contains("certificate revoke"), "{why}");
    for serial in in_force(cluster, &gone.name) {
        let reason = "cessation-of-operation";
        let revoke = ["certificate", "revoke", &serial, "--reason", reason];
        cluster.nodes[0].authority.verb(&revoke).unwrap();
    }
    let why = refused(cluster).unwrap_err().to_string();
    assert!(why.contains("stop it"), "{why}");
    assert_eq!(gone.authority.stop().await.unwrap(), Some(0));
    let why = refused(cluster).unwrap_err().to_string();
    assert!(why.contains("less than"), "{why}");
    // A minute later.
    cluster.sql(&format!(
        "UPDATE nodes SET seen_ms = seen_ms - 60000 WHERE name = '{}'",
        gone.name
    ));
    refused(cluster).unwrap();
    let listed = cluster.listed().unwrap();
    assert!(listed.iter().all(|it| it["name"] != gone.name.as_str()));
    let audit = cluster.nodes[0]
        .authority
        .verb(&["audit", "verify"])
        .unwrap();
    assert_eq!(audit["holds"], true, "its chain stays: {audit}");
}

fn in_force(cluster: &Cluster, node: &str) -> Vec<String> {
    let list = ["certificate", "list", "--node", node];
    let listed = cluster.nodes[0].authority.verb(&list).unwrap();
    let all = listed["certificates"].as_array().cloned().unwrap();
    let good = |it: &&Value| it["state"] == "in force";
    let serial = |it: &Value| it["serial"].as_str().unwrap().to_owned();
    all.iter().filter(good).map(serial).collect()
}
