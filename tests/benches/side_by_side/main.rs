//! How much of what HSM and disk can do is left for payments?
//!
//! One run, one machine, one HSM token: every line stands beside a bare loop of the same PKCS#11
//! calls or the same durable commits, measured in turn with it. `make bench` prints the table and
//! writes it into docs/PERFORMANCE.md. `cargo bench -p tests --bench side_by_side -- payments` measures
//! payments alone, for a profiler, and writes nothing.
//!
//! The process starts itself twice: once as `m2key-authority init`, once with the environment that
//! SoftHSM reads.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

mod bare;
mod ours;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rows without targets are of the other benchmarks")]
mod page;
mod table;

const ROLE: &str = "M2KEY_BENCH_ROLE";
const DIR: &str = "M2KEY_BENCH_DIR";
const AUTHORITY: &str = "authority";
const MEASURE: &str = "measure";
/// The argument, and the role it becomes.
const PAYMENTS: &str = "payments";
/// Where the token directory of SoftHSM is said; its library reads nothing else.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

fn main() -> ExitCode {
    let done = match std::env::var(ROLE).as_deref() {
        Ok(AUTHORITY) => return init(),
        Ok(MEASURE) => measure(),
        Ok(PAYMENTS) => payments(),
        _ => direct(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Makes an authority in an empty directory, then measures beside it.
fn direct() -> Result<(), Fault> {
    let place = tempfile::tempdir()?;
    let home = place.path().join("authority");
    let own = std::env::current_exe()?;
    let made = Command::new(&own)
        .env(ROLE, AUTHORITY)
        .args([
            "init",
            "--non-interactive",
            "--link-host",
            "localhost",
            "--dir",
        ])
        .arg(&home)
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    let role = match std::env::args().any(|argument| argument == PAYMENTS) {
        true => PAYMENTS,
        false => MEASURE,
    };
    let measured = Command::new(&own)
        .env(ROLE, role)
        .env(DIR, &home)
        .env(SOFTHSM2_CONF, home.join("softhsm2.conf"))
        .status()?;
    if measured.success() {
        Ok(())
    } else {
        Err("the measurement failed".into())
    }
}

fn init() -> ExitCode {
    match authority::cli::run(&authority::cli::Arguments::read()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.tell(),
    }
}

fn measure() -> Result<(), Fault> {
    let home = PathBuf::from(std::env::var(DIR)?);
    let rounds = runtime()?.block_on(rounds(&home))?;
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
    let home = PathBuf::from(std::env::var(DIR)?);
    runtime()?.block_on(async {
        let world = ours::World::open(&home).await?;
        for _ in 0..page::ROUNDS {
            let (rate, _) = world.payments().await?;
            println!("payments/s: {rate:.0}");
        }
        Ok(())
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
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
