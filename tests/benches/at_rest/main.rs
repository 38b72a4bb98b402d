//! What does an agent cost the merchant's PC while nobody pays?
//!
//! A released agent with its authority, its reader and tag under a real pcscd, and its screen open; beside it,
//! in the same run, that pcscd and a bare program on the same runtime. `make bench` prints the table and
//! writes it into docs/PERFORMANCE.md; `M2KEY_AGENT` names another agent than the one beside this program.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use harness::World;
use harness::authority::Pace;

#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rates per second are of the other benchmarks")]
mod page;
mod sample;

use sample::{Sample, Spent};

const ROLE: &str = "M2KEY_BENCH_ROLE";
const BARE: &str = "bare";
/// After a start there is more to do than at rest.
const SETTLE: Duration = Duration::from_secs(30);
const WATCH: Duration = Duration::from_secs(60);
/// How often the bare program wakes up: as often as the agent looks at the clock.
const TICK: Duration = Duration::from_secs(1);

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let done = match std::env::var(ROLE).as_deref() {
        Ok(BARE) => bare(),
        _ => measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A loopback listener and a timer on one thread, and nothing else.
fn bare() -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                accepted = listener.accept() => drop(accepted?),
            }
        }
    })
}

fn measure() -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let rows = runtime.block_on(rows())?;
    let table = render(&rows);
    println!("\n{table}");
    page::write("at rest", &table)?;
    println!("written into docs/PERFORMANCE.md");
    Ok(())
}

/// Ends the bare program with the run.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn rows() -> Result<Vec<(&'static str, Spent)>, Fault> {
    let world = World::with(Pace::Default).await?;
    let terminal = world.terminal();
    let mut screen = terminal.kiosk().page().await?;
    let drawn = tokio::spawn(async move { while screen.next().await.is_ok() {} });
    let own = std::env::current_exe()?;
    let bare = Bare(Command::new(own).env(ROLE, BARE).spawn()?);
    let programs = [
        (
            "`m2key-agent`: reader, tag and screen",
            terminal.agent_pid()?,
        ),
        ("`pcscd` with the same reader", terminal.pcscd_pid()?),
        ("bare: one listener and one timer on tokio", bare.0.id()),
    ];
    eprintln!("settling for {} s", SETTLE.as_secs());
    tokio::time::sleep(SETTLE).await;
    let before = sampled(&programs)?;
    eprintln!("watching for {} s", WATCH.as_secs());
    tokio::time::sleep(WATCH).await;
    let after = sampled(&programs)?;
    drawn.abort();
    let pairs = before.iter().zip(&after);
    let spent = pairs.map(|(before, after)| Spent::between(before, after, WATCH));
    Ok(programs.iter().map(|(name, _)| *name).zip(spent).collect())
}

fn sampled(programs: &[(&str, u32)]) -> std::io::Result<Vec<Sample>> {
    let processes = programs
        .iter()
        .map(|(_, pid)| Path::new("/proc").join(pid.to_string()));
    processes.map(|process| Sample::of(&process)).collect()
}

fn render(rows: &[(&str, Spent)]) -> String {
    let seconds = WATCH.as_secs();
    let mut text = format!(
        "| at rest for {seconds} s | MB resident | MB proportional | MB its own | threads | CPU ms | wake-ups per second |\n\
         |---|--:|--:|--:|--:|--:|--:|\n"
    );
    for (name, spent) in rows {
        let Spent {
            resident_mb,
            proportional_mb,
            private_mb,
            threads,
            cpu_ms,
            wakes_per_s,
        } = spent;
        text += &format!(
            "| {name} | {resident_mb:.1} | {proportional_mb:.1} | {private_mb:.1} | {threads} | {cpu_ms:.0} | {wakes_per_s:.1} |\n"
        );
    }
    text
}
