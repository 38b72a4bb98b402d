//! How long do people wait when a whole fleet is paid at? `m2key-load --help`.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use harness::Failure;
use harness::load::fleet::{FLEET_FILE, Fleet};
use harness::load::house::House;
use harness::load::options::{Arguments, House as HouseWanted, Run, Storm, Verb, Whose};
use harness::load::record::Step;
use harness::load::stage::Stage;
use harness::load::{plot, report, run, storm};
use tempfile::TempDir;

#[tokio::main]
async fn main() -> ExitCode {
    let played = match &Arguments::parse().verb {
        Verb::Run(wanted) => play_run(wanted).await,
        Verb::Storm(wanted) => play_storm(wanted).await,
        Verb::House(wanted) => stay_up(wanted).await,
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The fleet of the run, and the house that was made for it; whether every check holds is answered.
async fn play_run(wanted: &Run) -> Result<bool, Failure> {
    let (fleet, _house) = fleet_of(&wanted.whose).await?;
    eprintln!(
        "{} terminals connect, {} phones sign in",
        fleet.terminals.len(),
        fleet.shoppers.len()
    );
    let stage = Stage::set(fleet, wanted.offline, wanted.patience, wanted.seed).await?;
    let outcome = run::play(&stage, wanted).await?;
    println!("{}", report::told(wanted, &outcome));
    if let Some(file) = &wanted.json {
        write(file, &report::json(wanted, &outcome).to_string())?;
    }
    if let Some(dir) = &wanted.hgrm {
        report::write_hgrm(dir, &outcome.record)?;
    }
    if let Some(file) = &wanted.svg {
        let whole = outcome.record.steps.get(&Step::Whole).cloned();
        let whole = whole.unwrap_or_default();
        let ways = [
            ("from the intent", &whole.from_intent),
            ("from the send", &whole.from_send),
        ];
        let pictures = [
            plot::by_percentile("Whole payment", &ways),
            plot::over_time("All terminals", &outcome.record.seconds),
        ];
        write(file, &plot::svg(&pictures))?;
    }
    Ok(outcome.holds())
}

async fn play_storm(wanted: &Storm) -> Result<bool, Failure> {
    let (fleet, _house) = fleet_of(&wanted.whose).await?;
    let weathered = storm::play(&fleet, wanted).await?;
    print!("{}{}", storm::HEADING, weathered.row());
    for (what, count) in &weathered.failures {
        println!("failed: {what} {count}");
    }
    if let Some(file) = &wanted.json {
        write(file, &weathered.json().to_string())?;
    }
    Ok(weathered.holds())
}

async fn stay_up(wanted: &HouseWanted) -> Result<bool, Failure> {
    let dir = std::path::absolute(&wanted.dir)?;
    if dir.exists() {
        return Err(Failure::new(format!("{} exists already", dir.display())));
    }
    let _house = House::open(&dir, wanted.terminals, wanted.shoppers).await?;
    println!("{}", dir.join(FLEET_FILE).display());
    eprintln!("everything stays up until Ctrl-C");
    tokio::signal::ctrl_c().await?;
    Ok(true)
}

/// What goes away with the run: first the processes, then their folder.
type Own = Option<(House, TempDir)>;

async fn fleet_of(whose: &Whose) -> Result<(Fleet, Own), Failure> {
    if let Some(file) = &whose.fleet {
        return Ok((Fleet::load(file)?, None));
    }
    let dir = TempDir::new()?;
    eprintln!("an authority is made, with its fleet");
    let house = House::open(dir.path(), whose.terminals, whose.shoppers).await?;
    Ok((house.fleet.clone(), Some((house, dir))))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(Failure::of(file.display()))
}
