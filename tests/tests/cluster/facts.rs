//! Does what one process commits reach the others, and what does one do that is cut off from it?

use std::sync::Arc;
use std::time::Duration;

use harness::cluster::{Cluster, Node};
use harness::load::agent::{Agent, Heard, slug};
use harness::load::payment::fresh_charge;
use harness::load::phone::{Held, Phone, Trouble};
use harness::load::stage::Stage;
use harness::wait;
use protocol::money::{Currency, Money};
use protocol::token::Channel;
use protocol::wire::charges::ChargeRequest;
use protocol::wire::push::ChargeStage;
use reader_agent::authority::{CallError, ChargeDesk};
use reader_agent::rotation::Fetch;

use crate::{FLEET, PATIENCE, SLOWLY, claimed, in_hand, patient, run_of, stage};

/// Work that one node at a time does.
const CHORE: &str = "receipts";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_are_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::open(dir.path(), 3, false, FLEET).await.unwrap();
    let stage = stage(&cluster, &run_of("--patience 15s")).await;
    a_turn_that_moves_at_one_node_reaches_the_terminal_at_another(&stage).await;
    a_ban_at_one_node_ends_the_stream_at_another(&cluster, &stage).await;
    a_node_that_is_cut_off_closes_issues_nothing_and_says_why(&cluster, &stage).await;
    every_node_is_listed_with_its_clock(&cluster);
    chores_go_on_when_their_node_stands_still(&cluster).await;
    chores_go_on_when_their_node_is_killed(&mut cluster).await;
}

/// Terminal at the third node, phone at the first.
async fn a_turn_that_moves_at_one_node_reaches_the_terminal_at_another(stage: &Stage) {
    let agent = listens_at(stage, 0, 2).await;
    let request = ChargeRequest {
        charge: fresh_charge().unwrap(),
        amount: Money::new(420, Currency::EUR).unwrap(),
        reference: None,
    };
    agent.client().start(&request).await.unwrap();
    let mut phone = phone_at(stage, 0, 0).await;
    let held = claims(&mut phone, &agent).await;
    let answered = stage.watch.now();
    let told = hears(&agent, |heard| {
        let charge = heard.state.as_ref()?.charge.as_ref()?;
        let is_it =
            matches!(&charge.stage, ChargeStage::Held { claim, .. } if *claim == held.view.claim);
        is_it.then_some(heard.at)
    });
    let told = told.await.expect("the terminal hears that it is claimed");
    println!(
        "told elsewhere {} ms after the answer to the phone",
        told.as_millis() as i64 - answered.as_millis() as i64
    );
    let taken = held.shown.clone();
    let moved = async || {
        let face = agent.shows(Channel::Qr)?;
        (face.text() != taken).then_some(())
    };
    wait::until("the screen to follow", moved).await.unwrap();
    let amount = held.view.amount.unwrap();
    phone.approve(&held, amount).await.unwrap();
}

async fn a_ban_at_one_node_ends_the_stream_at_another(cluster: &Cluster, stage: &Stage) {
    let agent = listens_at(stage, 1, 1).await;
    let id = agent.id().to_string();
    let ban = ["terminal", "ban", &id, "--reason", "stolen"];
    cluster.nodes[0].authority.verb(&ban).unwrap();
    let committed = stage.watch.now();
    let over = hears(&agent, |heard| (!heard.up).then_some(()));
    over.await.expect("its stream ends");
    println!(
        "a ban elsewhere cut the stream within {} ms",
        (stage.watch.now() - committed).as_millis()
    );
    for node in 0..cluster.nodes.len() {
        agent.go_to(node);
        let refused = agent.client().schedule(Fetch::Whole).await.unwrap_err();
        assert_eq!(refusal(&refused), "terminal-refused", "node {node}");
    }
}

async fn a_node_that_is_cut_off_closes_issues_nothing_and_says_why(
    cluster: &Cluster,
    stage: &Stage,
) {
    let agent = listens_at(stage, 2, 1).await;
    let mut phone = phone_at(stage, 1, 1).await;
    let shown = shown(&agent).await;
    let cut = &cluster.nodes[1];
    // Somebody else claims there when the line is cut.
    let other = listens_at(stage, 3, 0).await;
    let other = claimed(patient(stage, 2, 1).await, self::shown(&other).await);
    cut.lines[0].delay(SLOWLY);
    let other = tokio::spawn(other);
    in_hand(cluster, cut).await;
    cut.partition();
    let over = hears(&agent, |heard| (!heard.up).then_some(()));
    over.await
        .expect("a node that hears nothing ends its streams");
    // Before whoever asks the database there has lost patience.
    assert!(
        !other.is_finished(),
        "the stream goes on for as long as a claim waits"
    );
    assert_eq!(other.await.unwrap(), "answer-late");
    cut.lines[0].delay(Duration::ZERO);
    cut.until_not_ready("other nodes are not heard")
        .await
        .unwrap();
    agent.go_to(1);
    let refused = agent.client().schedule(Fetch::Whole).await.unwrap_err();
    assert_eq!(refusal(&refused), "not-ready");
    match phone.claim(&shown).await {
        Err(Trouble::Problem(problem)) => {
            assert_eq!(slug(&problem), "not-ready");
            assert!(problem.retry_after_s.is_some(), "{problem:?}");
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it takes a claim"),
    }
    // What happens meanwhile is not missed: it opens when it has followed everything.
    let id = agent.id().to_string();
    let ban = ["terminal", "ban", &id, "--reason", "stolen"];
    cluster.nodes[0].authority.verb(&ban).unwrap();
    cut.heal();
    cut.until_ready().await.unwrap();
    agent.go_to(1);
    let refused = agent.client().schedule(Fetch::Whole).await.unwrap_err();
    assert_eq!(refusal(&refused), "terminal-refused");
    let well = cluster.nodes[0].ready().await.unwrap();
    assert!(well.0, "{well:?}");
}

fn every_node_is_listed_with_its_clock(cluster: &Cluster) {
    let listed = cluster.listed().unwrap();
    let names: Vec<_> = listed
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let known: Vec<_> = cluster.nodes.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, known);
    for node in &listed {
        assert_eq!(node["state"], "listens", "{node}");
        assert!(node["schema"].as_u64() >= Some(1), "{node}");
        assert!(node["clock_ahead_ms"].is_i64(), "{node}");
    }
    assert_eq!(listed[0]["is_this"], true);
}

/// No network knows that a process stands still: its lease ends.
async fn chores_go_on_when_their_node_stands_still(cluster: &Cluster) {
    let holder = holder(cluster, "").await;
    let node = by_name(cluster, &holder);
    node.authority.signal("STOP").unwrap();
    let heir = self::holder(cluster, &holder).await;
    node.authority.signal("CONT").unwrap();
    node.until_ready().await.unwrap();
    assert_ne!(heir, holder);
    println!("{CHORE} went from {holder}, which stood still, to {heir}");
}

async fn chores_go_on_when_their_node_is_killed(cluster: &mut Cluster) {
    let dead = holder(cluster, "").await;
    let number = cluster.nodes.iter().position(|it| it.name == dead).unwrap();
    cluster.nodes[number].authority.kill();
    let heir = holder(cluster, &dead).await;
    assert_ne!(heir, dead);
    println!("{CHORE} went from {dead}, which was killed, to {heir}");
    cluster.nodes[number].authority.serve().await.unwrap();
}

/// Which node does the chore, once it is another one than this.
async fn holder(cluster: &Cluster, other_than: &str) -> String {
    let sql = held_by(CHORE);
    let found = async || {
        let name = cluster.sql(&sql);
        let name = name
            .strip_prefix("m2key-authority ")?
            .strip_suffix(" listening")?;
        (name != other_than).then(|| name.to_owned())
    };
    wait::until("somebody to do the chore", found)
        .await
        .unwrap()
}

/// Whose session holds the lock of the chore; PostgreSQL shows a lock of one number as its halves.
fn held_by(chore: &str) -> String {
    use sha2::{Digest, Sha256};
    let name = [&b"chore"[..], &[0], chore.as_bytes()].concat();
    let digest: [u8; 32] = Sha256::digest(name).into();
    let [high, low] = [0, 4].map(|at| u32::from_be_bytes(digest[at..at + 4].try_into().unwrap()));
    format!(
        "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
         WHERE locktype = 'advisory' AND granted AND classid = {high} AND objid = {low}"
    )
}

fn by_name<'a>(cluster: &'a Cluster, name: &str) -> &'a Node {
    cluster.nodes.iter().find(|it| it.name == name).unwrap()
}

/// This terminal, once its stream is at this node.
async fn listens_at(stage: &Stage, terminal: usize, node: usize) -> Arc<Agent> {
    let agent = stage.agents[terminal].clone();
    if agent.node() != node {
        agent.go_to(node);
        let lost = hears(&agent, |heard| (!heard.up).then_some(()));
        lost.await.expect("it leaves its node");
    }
    let up = hears(&agent, |heard| heard.up.then_some(()));
    up.await.expect("it comes to the other one");
    assert_eq!(agent.node(), node);
    agent
}

async fn phone_at(stage: &Stage, customer: usize, node: usize) -> Phone {
    let customer = &stage.fleet.shoppers[customer];
    Phone::of(&stage.air, customer, node).await.unwrap()
}

/// The token that was shown before the charge is over as soon as that is on offer.
async fn claims(phone: &mut Phone, agent: &Agent) -> Held {
    let offered = hears(agent, |heard| {
        let charge = heard.state.as_ref()?.charge.as_ref()?;
        matches!(charge.stage, ChargeStage::Offered { .. }).then_some(())
    });
    offered.await.expect("the terminal offers it");
    let shown = shown(agent).await;
    phone.claim(&shown).await.unwrap()
}

async fn shown(agent: &Agent) -> String {
    let face = async || Some(agent.shows(Channel::Qr)?.text().to_owned());
    wait::until("a token on the screen", face).await.unwrap()
}

async fn hears<T>(agent: &Agent, so: impl FnMut(&Heard) -> Option<T>) -> Option<T> {
    agent.until(PATIENCE, so).await
}

fn refusal(error: &CallError) -> String {
    match error {
        CallError::Refused(problem) => slug(problem),
        other => panic!("{other:?}"),
    }
}
