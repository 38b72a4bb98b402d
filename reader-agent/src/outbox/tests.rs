#![allow(clippy::unwrap_used)]
use super::*;
use crate::clock::Clock;
use crate::identity::disk::IdentityFiles;
use crate::testing::authority::{FRESH, FakeAuthority};
use crate::testing::front::{Front, Way};
use crate::testing::{event, terminal};
use crate::trust::TrustFiles;
use protocol::wire::reports::TerminalEvent;
use std::path::Path;

/// Terminal 1 with what it kept, on its way through `front`.
fn started(dir: &Path, front: &Front) -> (Arc<Line>, Arc<State>) {
    let identity = IdentityFiles::in_dir(dir).load().unwrap().current;
    assert_eq!(identity.terminal(), terminal(1));
    let trust = TrustFiles::in_dir(dir).load().unwrap();
    let line = Line::new(&front.base, identity, trust, Arc::new(Clock::start(None)));
    let state = State::open(&dir.join("agent.db")).unwrap();
    (Arc::new(line.unwrap()), Arc::new(state))
}

fn uploading(line: &Arc<Line>, state: &Arc<State>) -> tokio::task::JoinHandle<()> {
    let (rung, metrics) = (Arc::new(Notify::new()), Arc::new(Metrics::new()));
    tokio::spawn(upload(line.clone(), state.clone(), rung, metrics))
}

async fn until_empty(state: &State) {
    let emptying = async {
        while state.outbox_length().unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let emptied = tokio::time::timeout(Duration::from_secs(60), emptying).await;
    emptied.expect("the authority has everything within a minute");
}

#[tokio::test]
async fn reports_made_offline_arrive_once_and_in_order_over_restarts_and_half_answers() {
    let authority = FakeAuthority::start().await;
    let dir = tempfile::tempdir().unwrap();
    authority.enrol(dir.path(), FRESH);
    let front = Front::open(Way::Nowhere).await;
    // Times run backwards, so that only the order in which they were made is left to go by.
    let events: Vec<TerminalEvent> = (1..=700).rev().map(event).collect();
    let (before, after) = events.split_at(400);

    let (line, state) = started(dir.path(), &front);
    let uploads = uploading(&line, &state);
    before.iter().for_each(|event| state.push(event).unwrap());
    front.visits().wait_for(|visits| *visits > 0).await.unwrap();
    uploads.abort();
    let _ = uploads.await;
    drop((line, state));

    // Made in the next run, before the network is back; the first answers get lost, others are of half a batch.
    let (line, state) = started(dir.path(), &front);
    after.iter().for_each(|event| state.push(event).unwrap());
    {
        let mut world = authority.world();
        world.report_answers_lost = 2;
        world.reports_taken = 100;
    }
    front.leads_to(&authority);
    let uploads = uploading(&line, &state);
    until_empty(&state).await;
    uploads.abort();
    assert!(authority.world().reports == events, "each once, in order");
}
