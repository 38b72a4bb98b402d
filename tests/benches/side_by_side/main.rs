//! How much of what HSM and disk can do is left for payments?
//!
//! One run, one machine, one HSM token: every line stands beside a bare loop of the same PKCS#11
//! calls or the same durable commits, measured in turn with it. `make bench` prints the table and
//! writes it into docs/PERFORMANCE.md. `cargo bench -p tests --bench side_by_side -- payments` measures
//! payments alone, for a profiler, and writes nothing.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::Path;
use std::process::ExitCode;

mod bare;
#[path = "../shared/itself.rs"]
mod itself;
mod ours;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rows without targets are of the other benchmarks")]
mod page;
#[path = "../shared/shoppers.rs"]
mod shoppers;
mod table;

use itself::Fault;

const MEASURE: &str = "measure";
/// The argument, and the role it becomes.
const PAYMENTS: &str = "payments";
fn main() -> ExitCode {
    itself::run(|role| match role {
        Some(MEASURE) => measure(),
        Some(PAYMENTS) => payments(),
        _ => direct(),
    })
}

/// Makes an authority in an empty directory, then measures beside it.
fn direct() -> Result<(), Fault> {
    let asked = std::env::args().any(|argument| argument == PAYMENTS);
    itself::measure(if asked { PAYMENTS } else { MEASURE })
}

fn measure() -> Result<(), Fault> {
    let home = itself::home()?;
    let rounds = itself::runtime()?.block_on(rounds(&home))?;
    let text = page::render_judged(&rounds.rows())
        + "
" + &rounds.latencies();
    println!("\n{text}");
    page::write("side by side", &text)?;
    rounds.tell()?;
    println!("written into docs/PERFORMANCE.md");
    Ok(())
}

fn payments() -> Result<(), Fault> {
    let home = itself::home()?;
    itself::runtime()?.block_on(async {
        let world = ours::World::open(&home).await?;
        for _ in 0..page::ROUNDS {
            let (rate, _) = world.payments().await?;
            println!("payments/s: {rate:.0}");
        }
        Ok(())
    })
}

/// Bare and ours take turns, so that a slow moment of the machine hits both; medians are told.
async fn rounds(home: &Path) -> Result<table::Rounds, Fault> {
    let world = ours::World::open(home).await?;
    let bare = bare::Bare::open(home, &world)?;
    let mut rounds = table::Rounds::default();
    for round in 1..=page::ROUNDS {
        eprintln!("round {round} of {}", page::ROUNDS);
        rounds.bare_epoch_keys.push(bare.epoch_keys()?);
        rounds.epoch_keys.push(world.epoch_keys().await?);
        rounds.bare_signatures.push(bare.signatures()?);
        rounds.schedules.push(world.schedules().await?);
        let (rate, took) = bare.commits()?;
        rounds.bare_commits.push(rate);
        rounds.commits_took.extend(took);
        let (rate, took) = world.payments().await?;
        rounds.payments.push(rate);
        rounds.took.extend(took);
        rounds.wallet_payments.push(world.wallet_payments().await?);
    }
    Ok(rounds)
}
