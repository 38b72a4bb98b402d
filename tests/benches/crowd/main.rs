//! What do a million terminals and their spent tokens cost a schedule and a claim?
//!
//! ```text
//! a house of few terminals ──copied──▶ and more, as operators add them ──filled by SQL──▶ the crowd
//!        │                                       │
//!        └─▶ a process over it       a process over it ◀─┘     both on SQLite, then both on PostgreSQL
//!                   └────── measured in turn ──────┘
//! ```
//! One HSM token for all of them, so that the same keys are asked for on both sides. `make bench` prints the table and
//! writes it into docs/PERFORMANCE.md; docs/PERFORMANCE.md says how to run it in its full size.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

mod engine;
mod fill;
mod house;
#[path = "../shared/itself.rs"]
#[expect(
    dead_code,
    reason = "measuring in one process is of the other benchmarks"
)]
mod itself;
#[path = "../shared/moved.rs"]
mod moved;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rates beside a limit are of the other benchmarks")]
mod page;
#[path = "../shared/shoppers.rs"]
mod shoppers;
mod sizes;
mod table;
mod world;

use house::{House, Twins};
use itself::Fault;
use sizes::Sizes;
use table::Measured;

const BANK: &str = "M2KEY_BENCH_BANK";
const NUMBER: &str = "M2KEY_BENCH_NUMBER";
const ENROL: &str = "enrol";
const WORLD: &str = "world";
fn main() -> ExitCode {
    itself::run(|role| match role {
        Some(ENROL) => {
            part(|home, bank, number| async move { world::enrol(&home, &bank, number).await })
        }
        Some(WORLD) => part(|home, bank, number| async move {
            let world = world::World::open(&home, &bank, number as usize).await?;
            println!("ready");
            world.obey().await
        }),
        _ => direct(),
    })
}

/// What a process does that this one has started.
fn part<F>(does: impl FnOnce(PathBuf, String, u32) -> F) -> Result<(), Fault>
where
    F: Future<Output = Result<(), Fault>>,
{
    let (home, bank) = (itself::home()?, std::env::var(BANK)?);
    let number = std::env::var(NUMBER)?.parse()?;
    itself::runtime()?.block_on(does(home, bank, number))
}

fn direct() -> Result<(), Fault> {
    let sizes = Sizes::read()?;
    let runtime = itself::runtime()?;
    let place = tempfile::tempdir()?;
    let bank = runtime.block_on(shoppers::open_bank(world::CALLERS))?;
    let house = House::make(place.path(), &bank, &sizes)?;
    let mut all = Vec::new();
    for engine in &sizes.engines {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        eprintln!("{engine}: a crowd of {}", sizes.terminals);
        all.push(match engine.as_str() {
            "sqlite" => rounds("SQLite", house.on_sqlite(now)?, &sizes)?,
            "postgres" => rounds("PostgreSQL", house.on_postgres(now)?, &sizes)?,
            other => return Err(format!("no database is called {other}").into()),
        });
    }
    let text = table::render(&all, &sizes);
    println!("\n{text}");
    page::write("crowd", &text)?;
    table::tell(&all, &sizes)?;
    println!("written into docs/PERFORMANCE.md");
    Ok(())
}

/// Few and crowd take turns, so that a slow moment of the machine hits both; medians are told.
fn rounds(name: &'static str, mut twins: Twins, sizes: &Sizes) -> Result<Measured, Fault> {
    let mut measured = Measured::new(name);
    for round in 0..sizes.rounds {
        eprintln!("round {} of {}", round + 1, sizes.rounds);
        for (what, rates) in &mut measured.rates {
            // Whoever is second finds the machine as the first left it.
            if round % 2 == 0 {
                rates.few.push(twins.few.rate(what.asked)?);
                rates.crowd.push(twins.crowd.rate(what.asked)?);
            } else {
                rates.crowd.push(twins.crowd.rate(what.asked)?);
                rates.few.push(twins.few.rate(what.asked)?);
            }
        }
    }
    measured.takes = [twins.few.memory()?, twins.crowd.memory()?];
    measured.bytes = twins.bytes;
    measured.server = twins.server_memory()?;
    twins.clear()?;
    Ok(measured)
}
