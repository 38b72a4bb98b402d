//! How many payments does the authority carry for each token that privacyIDEA checks?
//!
//! Both judge a token of somebody and write down that they did. Ours are whole payments as `side_by_side` measures them:
//! the services, without HTTP around them; the peer is asked over plain HTTP on the loopback, with its own workers.
//! `make bench` prints the table and writes it into docs/PERFORMANCE.md.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

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

use page::{Row, median, targets};
use peer::{Hash, Peer};

/// What [`ours`] asks for.
mod table {
    pub(crate) const EPOCHS: usize = 24;
}

const ROLE: &str = "M2KEY_BENCH_ROLE";
const DIR: &str = "M2KEY_BENCH_DIR";
const INIT: &str = "init";
const MEASURE: &str = "measure";
/// Where the token directory of SoftHSM is said; its library reads nothing else.
const SOFTHSM2_CONF: &str = "SOFTHSM2_CONF";

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Per second, one of each round.
#[derive(Default)]
struct Rounds {
    ours: Vec<f64>,
    default: Vec<f64>,
    unhashed: Vec<f64>,
}

fn main() -> ExitCode {
    let done = match std::env::var(ROLE).as_deref() {
        Ok(INIT) => return init(),
        Ok(MEASURE) => measure(),
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

fn init() -> ExitCode {
    match authority::cli::run(&authority::cli::Arguments::read()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.tell(),
    }
}

/// Makes an authority in an empty directory, then measures beside it.
fn direct() -> Result<(), Fault> {
    let place = tempfile::tempdir()?;
    let home = place.path().join("authority");
    let own = std::env::current_exe()?;
    let args = [
        "init",
        "--non-interactive",
        "--link-host",
        "localhost",
        "--dir",
    ];
    let mut made = Command::new(&own);
    let made = made.env(ROLE, INIT).args(args).arg(&home).output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    let mut measured = Command::new(&own);
    measured.env(ROLE, MEASURE).env(DIR, &home);
    measured.env(SOFTHSM2_CONF, home.join("softhsm2.conf"));
    match measured.status()?.success() {
        true => Ok(()),
        false => Err("the measurement failed".into()),
    }
}

fn measure() -> Result<(), Fault> {
    let home = PathBuf::from(std::env::var(DIR)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let rounds = runtime.block_on(rounds(&home))?;
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
