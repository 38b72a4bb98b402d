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

use clap::Parser;
use harness::cluster::Cluster;
use harness::load::options::{Arguments, Run, Verb};
use harness::load::run::{self, Outcome};
use harness::load::stage::Stage;
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

/// The fleet, connected and signed in, over all nodes there are.
async fn stage(cluster: &Cluster, run: &Run) -> Arc<Stage> {
    let fleet = cluster.fleet.clone();
    let stage = Stage::set(fleet, run.offline, run.patience, run.seed).await;
    Arc::new(stage.unwrap())
}
