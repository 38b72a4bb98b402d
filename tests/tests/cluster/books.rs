//! Is everything there that was acknowledged, and nothing twice?

use std::collections::HashMap;

use harness::cluster::Cluster;
use harness::load::options::Run;
use harness::load::run::Outcome;
use harness::load::stage::Stage;
use harness::{load, wait};

/// A token that two claims spent.
const TWICE: &str = "SELECT count(*) FROM (
    SELECT 1 FROM claims JOIN charges ON charges.id = claims.charge
    GROUP BY terminal, epoch, version, channel, \"window\", turn HAVING count(*) > 1) twice";
const RECEIPTS: &str =
    "SELECT encode(payment, 'hex') || ' ' || encode(sha256(convert_to(jws, 'UTF8')), 'hex')
    FROM receipts";

/// The run's own checks (receipts verify and are the same at phone and terminal, day reports add up, the ledger
/// balances, every audit chain is whole), and what only the store can say.
pub async fn assert_whole(cluster: &Cluster, stage: &Stage, run: &Run, outcome: &Outcome) {
    let told = load::report::told(run, outcome);
    println!("{told}");
    assert!(outcome.holds(), "{told}");
    assert_eq!(outcome.checks.len(), 4, "{told}");
    let record = &outcome.record;
    assert!(record.paid > 0, "{told}");
    assert_eq!(
        record.wanted,
        record.paid + record.refused_count(),
        "each ended with a word: {told}"
    );
    time_passes(cluster);
    let known = async || {
        outcome.books.settle(&stage.air).await;
        (outcome.books.open() == 0).then_some(())
    };
    wait::until("each payment to have an outcome that is known", known)
        .await
        .unwrap();
    assert_eq!(cluster.sql(TWICE), "0", "a token is spent once");
    assert_eq!(
        cluster.sql("SELECT count(*) FROM spent"),
        cluster.sql("SELECT count(*) FROM claims"),
        "each claim has spent one"
    );
    let none_due = async || (cluster.sql("SELECT count(*) FROM receipts_due") == "0").then_some(());
    wait::until("every payment to have its receipt", none_due)
        .await
        .unwrap();
    let stored = stored(cluster);
    for (payment, digest) in outcome.books.held() {
        let payment = payment.0.as_simple().to_string();
        let kept = stored.get(&payment);
        assert_eq!(kept, Some(&hex(&digest)), "a receipt that a phone holds");
    }
}

/// What is held, and nobody approves any more, is over.
pub fn time_passes(cluster: &Cluster) {
    cluster.sql("UPDATE claims SET held_until_ms = 0 WHERE state = 'held'");
}

/// Digest of every receipt, by its payment.
fn stored(cluster: &Cluster) -> HashMap<String, String> {
    let rows = cluster.sql(RECEIPTS);
    let pairs = rows.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The database has everything that the journal of each node knows: whoever starts compares them, and would be fenced.
pub async fn assert_no_journal_misses_anything(cluster: &mut Cluster) {
    for node in &mut cluster.nodes {
        assert_eq!(
            node.authority.stop().await.unwrap(),
            Some(0),
            "{}",
            node.name
        );
        node.authority.serve().await.unwrap();
    }
}
