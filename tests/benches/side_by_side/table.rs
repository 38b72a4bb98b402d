//! What do the numbers say beside each other?

use std::path::Path;

/// How often everything is measured.
pub(crate) const ROUNDS: usize = 5;
/// Epochs of one schedule: the default horizon.
pub(crate) const EPOCHS: usize = 24;

const BEGIN: &str = "<!-- side by side: begin -->";
const END: &str = "<!-- side by side: end -->";

/// Rates per second, one per round.
#[derive(Default)]
pub(crate) struct Rounds {
    pub(crate) bare_epoch_keys: Vec<f64>,
    pub(crate) epoch_keys: Vec<f64>,
    pub(crate) bare_signatures: Vec<f64>,
    pub(crate) schedules: Vec<f64>,
    pub(crate) bare_commits: Vec<f64>,
    pub(crate) payments: Vec<f64>,
}

/// One line: ours, and what it stands beside.
pub(crate) struct Row {
    what: &'static str,
    ours: f64,
    beside: &'static str,
    limit: f64,
}

impl Rounds {
    pub(crate) fn rows(&self) -> Vec<Row> {
        let keys = median(&self.bare_epoch_keys);
        let signatures = median(&self.bare_signatures);
        let commits = median(&self.bare_commits);
        vec![
            Row {
                what: "epoch keys/s, 24 per sealed seed",
                ours: median(&self.epoch_keys),
                beside: "bare loop of the same PKCS#11 calls",
                limit: keys,
            },
            Row {
                what: "schedules/s: 24 epoch keys, recorded, signed",
                ours: median(&self.schedules),
                beside: "bare: 24 epoch keys and one signature",
                limit: in_turn(keys / EPOCHS as f64, signatures),
            },
            Row {
                what: "payments/s: claim, approval, ledger, receipt",
                ours: median(&self.payments),
                beside: "bare: one signature and one durable insert in groups",
                limit: in_turn(signatures, commits),
            },
            Row {
                what: "the same",
                ours: median(&self.payments),
                beside: "bare HSM signatures alone",
                limit: signatures,
            },
            Row {
                what: "the same",
                ours: median(&self.payments),
                beside: "bare durable inserts in groups of 64 alone",
                limit: commits,
            },
        ]
    }
}

pub(crate) fn render(rows: &[Row]) -> String {
    let mut text = String::from(
        "| ours | per second | beside | per second | ratio |\n|---|--:|---|--:|--:|\n",
    );
    for row in rows {
        let ratio = row.ours / row.limit;
        text += &format!(
            "| {} | {:.0} | {} | {:.0} | {ratio:.2} |\n",
            row.what, row.ours, row.beside, row.limit
        );
    }
    text
}

/// Replaces what stands between the marks of the page.
pub(crate) fn write_into(page: &Path, table: &str) -> std::io::Result<()> {
    let text = std::fs::read_to_string(page)?;
    let missing = || std::io::Error::other("docs/PERFORMANCE.md has lost its marks");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    std::fs::write(page, format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The rate of doing both, one after the other.
fn in_turn(first: f64, second: f64) -> f64 {
    1.0 / (1.0 / first + 1.0 / second)
}
