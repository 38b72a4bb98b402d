//! How much of what HSM and disk can do is left for payments?
//!
//! One run, one machine, one HSM token: every line stands beside a bare loop of the same PKCS#11
//! calls or the same durable commits, measured in turn with it. `make bench` prints the table and
//! writes it into docs/PERFORMANCE.md. `cargo bench -p tests --bench side_by_side -- payments` measures
//! payments alone, for a profiler, and writes nothing; `payments-on-postgres` does so there, and `epoch-keys` measures
//! those beside the bare loop.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::Path;
use std::process::ExitCode;

mod bare;
#[path = "../shared/itself.rs"]
mod itself;
#[path = "../shared/moved.rs"]
mod moved;
mod on_postgres;
mod ours;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rows without targets are of the other benchmarks")]
mod page;
#[path = "../shared/shoppers.rs"]
mod shoppers;
mod table;

use hsm::bare::BindingMac;
use itself::Fault;

const MEASURE: &str = "measure";
/// Over a PostgreSQL, for whoever measures.
const POSTGRES: &str = "postgres";
/// The arguments, and the roles they become.
const PAYMENTS: &str = "payments";
const PAYMENTS_ON_POSTGRES: &str = "payments-on-postgres";
const EPOCH_KEYS: &str = "epoch-keys";
/// What was measured on PostgreSQL, in the home.
const RATES: &str = "postgres.rates.json";

fn main() -> ExitCode {
    itself::run(|role| match role {
        Some(MEASURE) => measure(),
        Some(POSTGRES) => measure_on_postgres(),
        Some(PAYMENTS) => payments(),
        Some(EPOCH_KEYS) => epoch_keys(),
        Some(PAYMENTS_ON_POSTGRES) => {
            let server = on_postgres::Server::start(&itself::home()?)?;
            payments()?;
            drop(server);
            Ok(())
        }
        _ => direct(),
    })
}

/// Makes an authority in an empty directory, then measures beside it.
fn direct() -> Result<(), Fault> {
    let mut alone = [PAYMENTS, PAYMENTS_ON_POSTGRES, EPOCH_KEYS].into_iter();
    let asked = alone.find(|role| std::env::args().any(|argument| argument == *role));
    itself::measure(asked.unwrap_or(MEASURE))
}

fn measure() -> Result<(), Fault> {
    let home = itself::home()?;
    let mut rounds = itself::runtime()?.block_on(rounds(&home))?;
    // A process of its own, because a module of an HSM is opened once in each.
    match itself::again(POSTGRES, &home, &home)?.status()?.success() {
        true => rounds.on_postgres = serde_json::from_slice(&std::fs::read(home.join(RATES))?)?,
        false => return Err("the measurement on PostgreSQL failed".into()),
    }
    let text = page::render_judged(&rounds.rows())
        + "
" + &rounds.latencies();
    println!("\n{text}");
    page::write("side by side", &text)?;
    rounds.tell()?;
    println!("written into docs/PERFORMANCE.md");
    Ok(())
}

fn measure_on_postgres() -> Result<(), Fault> {
    let home = itself::home()?;
    let server = on_postgres::Server::start(&home)?;
    let rates = itself::runtime()?.block_on(rounds_on_postgres(&home, &server))?;
    Ok(std::fs::write(
        home.join(RATES),
        serde_json::to_vec(&rates)?,
    )?)
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

fn epoch_keys() -> Result<(), Fault> {
    let home = itself::home()?;
    itself::runtime()?.block_on(async {
        let world = ours::World::open(&home).await?;
        let token = bare::Token::open(&world)?;
        for _ in 0..page::ROUNDS {
            let bare = token.epoch_keys(BindingMac::Known)?;
            let ours = world.epoch_keys().await?;
            println!(
                "epoch keys/s: {ours:.0}, bare {bare:.0}: {:.3}",
                ours / bare
            );
        }
        Ok(())
    })
}

/// Bare and ours take turns, so that a slow moment of the machine hits both; medians are told.
async fn rounds(home: &Path) -> Result<table::Rounds, Fault> {
    let world = ours::World::open(home).await?;
    let (token, disk) = (bare::Token::open(&world)?, bare::Disk::open(home)?);
    let mut rounds = table::Rounds::default();
    for round in 1..=page::ROUNDS {
        eprintln!("round {round} of {}", page::ROUNDS);
        let (known, computed) = (BindingMac::Known, BindingMac::Computed);
        rounds.bare_epoch_keys.push(token.epoch_keys(known)?);
        rounds.epoch_keys.push(world.epoch_keys().await?);
        rounds.bound_epoch_keys.push(token.epoch_keys(computed)?);
        rounds.bare_signatures.push(token.signatures()?);
        rounds.schedules.push(world.schedules().await?);
        let (rate, took) = disk.commits()?;
        rounds.bare_commits.push(rate);
        rounds.commits_took.extend(took);
        let (rate, took) = world.payments().await?;
        rounds.payments.push(rate);
        rounds.took.extend(took);
        rounds.wallet_payments.push(world.wallet_payments().await?);
    }
    Ok(rounds)
}

/// The same on PostgreSQL, for payments alone.
async fn rounds_on_postgres(
    home: &Path,
    server: &on_postgres::Server,
) -> Result<table::OnPostgres, Fault> {
    let world = ours::World::open(home).await?;
    let token = bare::Token::open(&world)?;
    let commits = server.bare().await?;
    let mut rounds = table::OnPostgres::default();
    for round in 1..=page::ROUNDS {
        eprintln!("round {round} of {} on PostgreSQL", page::ROUNDS);
        rounds.bare_signatures.push(token.signatures()?);
        rounds.bare_commits.push(commits.commits().await?.0);
        rounds.payments.push(world.payments().await?.0);
    }
    Ok(rounds)
}
