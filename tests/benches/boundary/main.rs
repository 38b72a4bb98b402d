//! How long after a window's boundary does the tag hold the next token, read back?
//!
//! A real pcscd with the virtual reader and a virtual tag of each family; the agent's core, drivers and
//! reader threads in a process of their own, under an authority whose nfc windows are seconds long. Beside
//! it, in the same process, a bare command to the same tag. `make bench` prints the table and writes it
//! into docs/PERFORMANCE.md.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot begin ends")]

use std::path::Path;
use std::process::{Command, ExitCode};

use harness::pcsc::{Pcscd, TagModel, VirtualNtag424, VirtualReader, VirtualTag};
use serde::{Deserialize, Serialize};

mod agent;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rates per second are of the other benchmarks")]
mod page;

const ROLE: &str = "M2KEY_BENCH_ROLE";
const DIR: &str = "M2KEY_BENCH_DIR";
const MEASURE: &str = "measure";

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// What the process with the agent in it found.
#[derive(Serialize, Deserialize)]
struct Found {
    /// From boundary to read-back, in milliseconds.
    took_ms: Vec<f64>,
    /// A bare command, in milliseconds.
    bare_ms: f64,
}

fn main() -> ExitCode {
    let done = match std::env::var(ROLE).as_deref() {
        Ok(MEASURE) => agent::measure(),
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

fn direct() -> Result<(), Fault> {
    let mut text = String::from(
        "| tag | windows | boundary to verified, p50 | p99 | commands | the same number, bare | ratio |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
    );
    text += &row("NTAG213", VirtualTag::new(1))?;
    text += &row("NTAG 424 DNA, signing", VirtualNtag424::new(1))?;
    println!("\n{text}");
    page::write("boundary", &text)?;
    println!("written into docs/PERFORMANCE.md");
    Ok(())
}

fn row(name: &str, tag: impl Into<TagModel>) -> Result<String, Fault> {
    eprintln!("{name}: {} windows", agent::WINDOWS);
    let dir = tempfile::tempdir()?;
    let reader = VirtualReader::acr122u(dir.path())?;
    reader.place(tag);
    let pcscd = Pcscd::launch(dir.path(), &[reader.entry()])?;
    let found = measured(dir.path(), &pcscd)?;
    // Every visit is like the last.
    let commands = visit(&reader.take_apdus()) as f64;
    let mut sorted = found.took_ms.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    let bare = commands * found.bare_ms;
    Ok(format!(
        "| {name} | {} | {:.0} ms | {:.0} ms | {commands} | {bare:.1} ms | {:.1} |\n",
        sorted.len(),
        at(0.5),
        at(0.99),
        at(0.5) / bare
    ))
}

fn measured(dir: &Path, pcscd: &Pcscd) -> Result<Found, Fault> {
    let output = Command::new(std::env::current_exe()?)
        .env(ROLE, MEASURE)
        .env(DIR, dir)
        .env("PCSCLITE_CSOCK_NAME", pcscd.socket())
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the measurement failed".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Commands of the last visit but one: each begins by asking for the UID.
fn visit(commands: &[Vec<u8>]) -> usize {
    let asks = |command: &&Vec<u8>| command.starts_with(&[0xFF, 0xCA]);
    let begins: Vec<usize> = (0..commands.len())
        .filter(|at| asks(&&commands[*at]))
        .collect();
    match begins[..] {
        [.., before, last, _] => last - before,
        _ => commands.len(),
    }
}
