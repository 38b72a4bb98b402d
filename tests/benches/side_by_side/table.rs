//! What do the numbers say beside each other?

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ours::TERMINALS;
use super::page::targets::{self, Target};
use super::page::{Row, median};

/// Epochs of one schedule: the default horizon.
pub(crate) const EPOCHS: usize = 24;

/// Rates per second, one per round.
#[derive(Default)]
pub(crate) struct Rounds {
    pub(crate) bare_epoch_keys: Vec<f64>,
    /// The same with the binding computed each time.
    pub(crate) bound_epoch_keys: Vec<f64>,
    pub(crate) epoch_keys: Vec<f64>,
    pub(crate) bare_signatures: Vec<f64>,
    pub(crate) schedules: Vec<f64>,
    pub(crate) bare_commits: Vec<f64>,
    /// How long each of these took, of all rounds.
    pub(crate) commits_took: Vec<Duration>,
    pub(crate) payments: Vec<f64>,
    pub(crate) wallet_payments: Vec<f64>,
    /// How long each payment took, of all rounds.
    pub(crate) took: Vec<Duration>,
    pub(crate) on_postgres: OnPostgres,
}

/// The same, of rounds over PostgreSQL.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct OnPostgres {
    pub(crate) bare_signatures: Vec<f64>,
    pub(crate) bare_commits: Vec<f64>,
    pub(crate) payments: Vec<f64>,
}

impl Rounds {
    /// Each with what is asked for, where something is.
    pub(crate) fn rows(&self) -> Vec<(Row, Option<&'static Target>)> {
        let keys = median(&self.bare_epoch_keys);
        let signatures = median(&self.bare_signatures);
        let commits = median(&self.bare_commits);
        vec![
            (
                Row {
                    what: "epoch keys/s, 24 per sealed seed",
                    ours: median(&self.epoch_keys),
                    beside: "bare loop of the same PKCS#11 calls",
                    limit: keys,
                },
                Some(&targets::EPOCH_KEYS),
            ),
            (
                Row {
                    what: "the same",
                    ours: median(&self.epoch_keys),
                    beside: "bare loop that computes the seed's binding each time",
                    limit: median(&self.bound_epoch_keys),
                },
                None,
            ),
            (
                Row {
                    what: "schedules/s: 24 epoch keys, recorded, signed",
                    ours: median(&self.schedules),
                    beside: "bare: 24 epoch keys and one signature",
                    limit: in_turn(keys / EPOCHS as f64, signatures),
                },
                None,
            ),
            (
                Row {
                    what: "payments/s: claim, approval, ledger, receipt",
                    ours: median(&self.payments),
                    beside: "bare: one signature and one durable insert in groups",
                    limit: in_turn(signatures, commits),
                },
                Some(&targets::PAYMENTS),
            ),
            (
                Row {
                    what: "payments/s by a wallet in one call, approval signed and kept",
                    ours: median(&self.wallet_payments),
                    beside: "bare: one signature and one durable insert in groups",
                    limit: in_turn(signatures, commits),
                },
                None,
            ),
            (
                Row {
                    what: "payments/s: claim, approval, ledger, receipt",
                    ours: median(&self.payments),
                    beside: "bare HSM signatures alone",
                    limit: signatures,
                },
                None,
            ),
            (
                Row {
                    what: "the same",
                    ours: median(&self.payments),
                    beside: "bare durable inserts in groups of 64 alone",
                    limit: commits,
                },
                None,
            ),
            (
                Row {
                    what: "payments/s on PostgreSQL",
                    ours: median(&self.on_postgres.payments),
                    beside: "bare: one signature and one durable insert in groups there",
                    limit: in_turn(
                        median(&self.on_postgres.bare_signatures),
                        median(&self.on_postgres.bare_commits),
                    ),
                },
                Some(&targets::PAYMENTS_ON_POSTGRES),
            ),
        ]
    }

    /// How long one payment takes while others are under way, and a bare commit.
    pub(crate) fn latencies(&self) -> String {
        let row = |what: &str, took: &[Duration], more: &str| {
            let mut sorted = took.to_vec();
            sorted.sort_unstable();
            let at = |percent| percentile(&sorted, percent);
            format!(
                "| {what}, of {} | {:.1} | {:.1} | {:.1} | {:.1} | {more} |\n",
                sorted.len(),
                at(50),
                at(90),
                at(99),
                at(100)
            )
        };
        let ratio = self.p99_ratio();
        let judged = format!("{ratio:.2} | {}", targets::PAYMENTS_P99.cells(ratio));
        format!(
            "| milliseconds each | p50 | p90 | p99 | longest | ratio of p99 | target | |\n\
             |---|--:|--:|--:|--:|--:|--:|---|\n{}{}",
            row(
                &format!("{TERMINALS} payments side by side"),
                &self.took,
                &judged
            ),
            row(
                "bare durable commit of 64 inserts",
                &self.commits_took,
                " | – |"
            )
        )
    }

    fn p99_ratio(&self) -> f64 {
        let p99 = |took: &[Duration]| {
            let mut sorted = took.to_vec();
            sorted.sort_unstable();
            percentile(&sorted, 99)
        };
        p99(&self.took) / p99(&self.commits_took)
    }

    /// Onto the page of all targets.
    pub(crate) fn tell(&self) -> std::io::Result<()> {
        for (row, target) in self.rows() {
            if let Some(target) = target {
                targets::tell(target, row.ours / row.limit, "services")?;
            }
        }
        targets::tell(&targets::PAYMENTS_P99, self.p99_ratio(), "services")
    }
}

/// Milliseconds that this share of all took at most.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len().saturating_sub(1)) * percent / 100;
    sorted
        .get(place)
        .map_or(f64::NAN, |took| took.as_secs_f64() * 1_000.0)
}

/// The rate of doing both, one after the other.
fn in_turn(first: f64, second: f64) -> f64 {
    1.0 / (1.0 / first + 1.0 / second)
}
