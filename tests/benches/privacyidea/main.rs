//! How many payments does the authority carry for each token that privacyIDEA checks?
//!
//! Both judge a token of somebody and write down that they did. Ours are whole payments as `side_by_side` measures them:
//! the services, without HTTP around them; the peer is asked over plain HTTP on the loopback, with its own workers.
//! `make bench` prints the table and writes it into docs/PERFORMANCE.md.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::Path;
use std::process::ExitCode;

#[path = "../shared/itself.rs"]
mod itself;
#[path = "../side_by_side/ours.rs"]
#[expect(
    dead_code,
    reason = "of what is ours only payments stand beside a peer"
)]
mod ours;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rows without targets are of the other benchmarks")]
mod page;
mod peer;
#[path = "../shared/shoppers.rs"]
mod shoppers;

use itself::Fault;
use page::{Row, median, targets};
use peer::{Hash, Peer};

/// What [`ours`] asks for.
mod table {
    pub(crate) const EPOCHS: usize = 24;
}

const MEASURE: &str = "measure";
/// Per second, one of each round.
#[derive(Default)]
struct Rounds {
    ours: Vec<f64>,
    default: Vec<f64>,
    unhashed: Vec<f64>,
}

fn main() -> ExitCode {
    itself::run(|role| match role {
        Some(MEASURE) => measure(),
        _ => itself::measure(MEASURE),
    })
}

fn measure() -> Result<(), Fault> {
    let home = itself::home()?;
    let rounds = itself::runtime()?.block_on(rounds(&home))?;
    let rows = rounds.rows();
    let text = page::render_judged(&rows);
    println!("\n{text}");
    page::write("privacyidea", &text)?;
    for (row, target) in rows {
        if let Some(target) = target {
            targets::tell(target, row.ours / row.limit, "our services, its HTTP")?;
        }
    }
    println!("written into docs/PERFORMANCE.md");
    Ok(())
}

/// Ours and the peer's take turns, so that a slow moment of the machine hits all; medians are told.
async fn rounds(home: &Path) -> Result<Rounds, Fault> {
    let world = ours::World::open(home).await?;
    let mut default = Peer::start(home, Hash::Default)?;
    let mut unhashed = Peer::start(home, Hash::Off)?;
    let mut rounds = Rounds::default();
    for round in 1..=page::ROUNDS {
        eprintln!("round {round} of {}", page::ROUNDS);
        rounds.ours.push(world.payments().await?.0);
        rounds.default.push(default.checks().await?);
        rounds.unhashed.push(unhashed.checks().await?);
    }
    Ok(rounds)
}

impl Rounds {
    fn rows(&self) -> Vec<(Row, Option<&'static targets::Target>)> {
        let row = |beside, limit: &[f64]| Row {
            what: "payments/s: claim, approval, ledger, receipt",
            ours: median(&self.ours),
            beside,
            limit: median(limit),
        };
        vec![
            (
                row("privacyIDEA `/validate/check`, as it comes", &self.default),
                Some(&targets::PEER),
            ),
            (
                row(
                    "the same, its hash of PINs off, which is unsafe",
                    &self.unhashed,
                ),
                Some(&targets::PEER_UNHASHED),
            ),
        ]
    }
}
