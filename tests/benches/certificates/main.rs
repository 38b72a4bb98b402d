//! How fast are certificates issued beside bare signatures of the same HSM token, and how long does a
//! revocation list of 50 000 take?
//!
//! `make bench` prints the tables and writes them into docs/PERFORMANCE.md. The process starts itself
//! once more, with the environment that SoftHSM reads.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

mod bench;
mod crowd;
#[path = "../shared/page.rs"]
mod page;

use bench::Bench;
use crowd::{ISSUED, REVOKED};
use page::{Row, median};

const DIR: &str = "M2KEY_BENCH_DIR";
/// Where the token directory of SoftHSM is said; its library reads nothing else.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// One number per round: rates per second, or seconds for the lists.
#[derive(Default)]
struct Rounds {
    signatures: Vec<f64>,
    issued: Vec<f64>,
    stored: Vec<f64>,
    stored_in_a_crowd: Vec<f64>,
    stored_beside_lists: Vec<f64>,
    list_made: Vec<f64>,
    list_read: Vec<f64>,
    list_bytes: usize,
}

fn main() -> ExitCode {
    let done = match std::env::var(DIR) {
        Ok(dir) => measure(Path::new(&dir)),
        Err(_) => direct(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An empty place for HSM tokens, and the measurement beside it.
fn direct() -> Result<(), Fault> {
    let place = tempfile::tempdir()?;
    let tokens = place.path().join("tokens");
    std::fs::create_dir(&tokens)?;
    let conf = place.path().join("softhsm2.conf");
    let tokens = tokens.display();
    let text =
        format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n");
    std::fs::write(&conf, text)?;
    let measured = Command::new(std::env::current_exe()?)
        .env(DIR, place.path())
        .env(SOFTHSM2_CONF, conf)
        .status()?;
    if measured.success() {
        Ok(())
    } else {
        Err("the measurement failed".into())
    }
}

fn measure(dir: &Path) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let rounds = runtime.block_on(rounds(dir.to_path_buf()))?;
    let text = tables(&rounds);
    println!("\n{text}");
    page::write("certificates", &text)?;
    println!("written into docs/PERFORMANCE.md");
    Ok(())
}

/// Bare and ours take turns, so that a slow moment of the machine hits both; medians are told.
async fn rounds(dir: PathBuf) -> Result<Rounds, Fault> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let bench = Bench::open(&dir, now).await?;
    let (mut rounds, mut number) = (Rounds::default(), 0);
    for round in 1..=page::ROUNDS {
        eprintln!("round {round} of {}", page::ROUNDS);
        rounds.signatures.push(bench.signatures()?);
        rounds.issued.push(bench.issued().await?);
        rounds.stored.push(bench.stored().await?);
        rounds
            .stored_in_a_crowd
            .push(bench.stored_in_a_crowd().await?);
        let beside_lists = bench.stored_beside_lists(&mut number).await?;
        rounds.stored_beside_lists.push(beside_lists);
        let started = Instant::now();
        number += 1;
        let list = bench.list(number).await?;
        rounds.list_made.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        bench.read(&list)?;
        rounds.list_read.push(started.elapsed().as_secs_f64());
        rounds.list_bytes = list.der.len();
    }
    Ok(rounds)
}

fn tables(rounds: &Rounds) -> String {
    let signatures = median(&rounds.signatures);
    let (empty, crowded) = (median(&rounds.stored), median(&rounds.stored_in_a_crowd));
    let rows = [
        Row {
            what: "certificates/s: request checked, issued",
            ours: median(&rounds.issued),
            beside: "bare HSM signatures",
            limit: signatures,
        },
        Row {
            what: "certificates/s: request checked, issued, stored",
            ours: empty,
            beside: "bare HSM signatures",
            limit: signatures,
        },
        Row {
            what: "the same, in a crowd",
            ours: crowded,
            beside: "the same in an empty store",
            limit: empty,
        },
        Row {
            what: "the same, while one list after the other is made",
            ours: median(&rounds.stored_beside_lists),
            beside: "the same without lists",
            limit: crowded,
        },
    ];
    let (made, read) = (median(&rounds.list_made), median(&rounds.list_read));
    format!(
        "{}\nCrowd: {ISSUED} certificates issued, {REVOKED} of them revoked.\n\n\
         | revocation list of {REVOKED} | read from the store, made, signed | read back and verified | bytes |\n\
         |---|--:|--:|--:|\n| milliseconds | {:.0} | {:.0} | {} |\n",
        page::render(&rows),
        made * 1e3,
        read * 1e3,
        rounds.list_bytes
    )
}
