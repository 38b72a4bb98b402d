//! Is it one authority when its nodes are processes, and they, their lines and their database are broken on purpose?
//!
//! Real PostgreSQL whose commits are on the disk, one HSM token, a fleet that pays. What was acknowledged is looked
//! for afterwards.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "cluster/books.rs"]
mod books;
#[path = "cluster/breaking.rs"]
mod breaking;
#[path = "cluster/coming_and_going.rs"]
mod coming_and_going;
#[path = "cluster/facts.rs"]
mod facts;
#[path = "cluster/slow.rs"]
mod slow;

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use harness::cluster::{Cluster, Node};
use harness::load::agent::slug;
use harness::load::fleet::Fleet;
use harness::load::options::{Arguments, Run, Verb};
use harness::load::phone::{Air, Phone, Trouble};
use harness::load::run::{self, Outcome};
use harness::load::stage::Stage;
use harness::wait;
use tokio::task::JoinHandle;

/// Screens and shoppers of a cluster.
const FLEET: (u32, u32) = (12, 8);

fn run_of(line: &str) -> Run {
    let words = ["m2key-load", "run"].into_iter().chain(line.split(' '));
    match Arguments::try_parse_from(words).unwrap().verb {
        Verb::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

/// People pay beside whatever is done to the nodes, which may keep its own thread busy.
fn pays(stage: &Arc<Stage>, run: &Run) -> JoinHandle<Outcome> {
    let (stage, run) = (stage.clone(), run.clone());
    tokio::spawn(async move { run::play(&stage, &run).await.unwrap() })
}

/// Far more than anything here takes; a fact that does not come about fails by it.
const PATIENCE: Duration = Duration::from_secs(30);
/// What each statement takes where something is to be caught in the middle of a claim.
const SLOWLY: Duration = Duration::from_millis(30);

/// Waits until this node is in the middle of a claim.
async fn in_hand(cluster: &Cluster, node: &Node) {
    let sql = format!(
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'm2key-authority {}'
         AND state <> 'idle' AND query ~ '(spent|turns|claims|charges)'",
        node.name
    );
    let claims = async || (!cluster.sql(&sql).is_empty()).then_some(());
    wait::until("a claim in hand", claims).await.unwrap();
}

/// One that asks this node only, and waits for its answer.
async fn patient(stage: &Stage, customer: usize, node: usize) -> Phone {
    let fleet = Fleet {
        public: vec![stage.fleet.public[node].clone()],
        ..stage.fleet.clone()
    };
    let air = Air::of(&fleet, PATIENCE).await.unwrap();
    let customer = &stage.fleet.shoppers[customer];
    Phone::of(&air, customer, 0).await.unwrap()
}

/// What the phone hears, by the last part of its type; `claimed` if it worked.
async fn claimed(mut phone: Phone, shown: String) -> String {
    match phone.claim(&shown).await {
        Ok(_) => "claimed".into(),
        Err(Trouble::Problem(problem)) => {
            assert!(problem.retry_after_s.is_some(), "{problem:?}");
            slug(&problem)
        }
        Err(Trouble::Unanswered(why)) => why,
    }
}

/// The fleet, connected and signed in, over all nodes there are.
async fn stage(cluster: &Cluster, run: &Run) -> Arc<Stage> {
    let fleet = cluster.fleet.clone();
    let stage = Stage::set(fleet, run.offline, run.patience, run.seed).await;
    Arc::new(stage.unwrap())
}
