//! How long do people wait at a fleet's terminals, and does it show when all schedules renew?
//!
//! A released authority with its HSM, signer and bank, each a process of its own, and `m2key-load`'s own code as the
//! fleet, all on this machine's cores. `make bench` prints the tables and writes them into docs/PERFORMANCE.md, the
//! picture into docs/performance.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use harness::load::house::House;
use harness::load::options::{Arguments, Run, Storm, Verb};
use harness::load::record::{Record, Step};
use harness::load::run::{Outcome, joined};
use harness::load::stage::Stage;
use harness::load::{plot, report, run, storm};
use harness::{Failure, failure::ensure};
use neighbours::Ticks;
use page::targets;

mod neighbours;
#[path = "../shared/page.rs"]
#[expect(dead_code, reason = "rates per second are of the other benchmarks")]
mod page;

const TERMINALS: u32 = 300;
const SHOPPERS: u32 = 150;
/// With and without renewals in turn, so that a slow moment of the machine hits both.
const ROUNDS: u64 = 3;
/// Payments per second, and how they come; what both cores carry without a queue.
const PAYING: &str = "run --rate 15 --for 20s";
const RENEWING: &str = "run --rate 15 --for 20s --renew-all";
const BURSTS: &str = "run --rate 15 --for 30s --arrivals bursts";
const STORM: &str = "storm --rounds 3";
/// With more of the cores in other programs' hands the target is not judged.
const OTHERS_MAX: f64 = 0.1;
const PICTURE: &str = "../docs/performance/payments.svg";

/// Both kinds of rounds, and the bursts.
struct Played {
    paying: (Run, Outcome),
    renewing: Outcome,
    bursts: Outcome,
    storm: storm::Weathered,
    /// The share of the cores that other programs had meanwhile.
    others: f64,
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let played = runtime.block_on(play())?;
    let tables = tables(&played);
    println!("\n{tables}");
    page::write("load", &tables)?;
    tell(&played)?;
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
    std::fs::write(picture, drawn(&played))?;
    println!("written into docs/PERFORMANCE.md and docs/performance");
    Ok(())
}

async fn play() -> Result<Played, Failure> {
    let dir = tempfile::tempdir()?;
    eprintln!("an authority is made, with {TERMINALS} terminals");
    let house = House::open(dir.path(), TERMINALS, SHOPPERS).await?;
    let before = Ticks::now()?;
    let storm = storm::play(&house.fleet, &storm_of(STORM)?).await?;
    let first = run_of(PAYING, 1)?;
    let stage = Stage::set(house.fleet.clone(), first.offline, first.patience, 1).await?;
    let (mut paying, mut renewing) = (Vec::new(), Vec::new());
    for seed in 1..=ROUNDS {
        eprintln!("round {seed} of {ROUNDS}");
        paying.push(held(&stage, &run_of(PAYING, seed)?).await?);
        renewing.push(held(&stage, &run_of(RENEWING, seed)?).await?);
    }
    let bursts = held(&stage, &run_of(BURSTS, 1)?).await?;
    let nothing = || Failure::new("no round was played");
    Ok(Played {
        paying: (first, joined(paying).ok_or_else(nothing)?),
        renewing: joined(renewing).ok_or_else(nothing)?,
        bursts,
        storm,
        others: Ticks::now()?.others_since(before),
    })
}

/// A run whose books did not hold is no measurement.
async fn held(stage: &Stage, wanted: &Run) -> Result<Outcome, Failure> {
    let outcome = run::play(stage, wanted).await?;
    ensure(outcome.holds(), report::told(wanted, &outcome))?;
    Ok(outcome)
}

fn tables(played: &Played) -> String {
    let (run, paying) = &played.paying;
    let (renewing, bursts) = (&played.renewing, &played.bursts);
    let mut text = format!(
        "Other programs had {:.0} % of the cores meanwhile; past {:.0} % no target is judged.\n\n",
        played.others * 100.0,
        OTHERS_MAX * 100.0
    );
    text += &format!(
        "{TERMINALS} terminals, {:.0} payments wanted per second: {}.\n\n{}\n",
        run.rate,
        came_of(&paying.record),
        report::steps_table(&paying.record)
    );
    text += &format!(
        "The same mean rate in bursts of 5.5 times it, one second of ten: {}.\n\n{}\n",
        came_of(&bursts.record),
        report::steps_table(&bursts.record)
    );
    text += &format!(
        "{}\n{}{}",
        judged(paying, renewing, played.others),
        storm::HEADING,
        played.storm.row()
    );
    text
}

fn came_of(record: &Record) -> String {
    let cut_off = record.unfinished + record.never_begun;
    format!(
        "{} wanted, {} paid, {} went away, {cut_off} cut off",
        record.wanted,
        record.paid,
        record.refused_count()
    )
}

/// p99 of a payment while all schedules renew, against the same without.
fn ratio(paying: &Outcome, renewing: &Outcome) -> f64 {
    let p99 = |outcome: &Outcome| outcome.record.whole_ms(0.99).unwrap_or(f64::NAN);
    p99(renewing) / p99(paying)
}

fn tell(played: &Played) -> std::io::Result<()> {
    let ratio = ratio(&played.paying.1, &played.renewing);
    let others = format!("others had {:.0} % of the cores", played.others * 100.0);
    match played.others > OTHERS_MAX {
        true => targets::tell_unjudged(&targets::RENEWING, ratio, &others),
        false => targets::tell(&targets::RENEWING, ratio, ""),
    }
}

fn judged(paying: &Outcome, renewing: &Outcome, others: f64) -> String {
    let p99 = |outcome: &Outcome| outcome.record.whole_ms(0.99).unwrap_or(f64::NAN);
    let (without, with) = (p99(paying), p99(renewing));
    let renewed = renewing.renewed.as_ref().map_or(0.0, |it| it.per_second());
    let ratio = ratio(paying, renewing);
    let verdict = match others > OTHERS_MAX {
        true => "not judged",
        false => targets::RENEWING.verdict(ratio),
    };
    let bound = targets::RENEWING.bound;
    format!(
        "| p99 of a payment, ms, from the intent | without renewals | ratio | target | |\n|--:|--:|--:|--:|---|\n\
         | {with:.1} while {renewed:.0} whole schedules renew per second | {without:.1} | {ratio:.2} | {bound} | {verdict} |\n"
    )
}

fn drawn(played: &Played) -> String {
    let whole = |outcome: &Outcome| {
        outcome
            .record
            .steps
            .get(&Step::Whole)
            .cloned()
            .unwrap_or_default()
    };
    let [paying, renewing, bursts] =
        [&played.paying.1, &played.renewing, &played.bursts].map(whole);
    let lines = [
        ("steady, from the intent", &paying.from_intent),
        ("steady, from the send", &paying.from_send),
        ("while all renew, intent", &renewing.from_intent),
        ("bursts, from the intent", &bursts.from_intent),
    ];
    let seconds = &played.bursts.record.seconds;
    plot::svg(&[
        plot::by_percentile("Whole payment", &lines),
        plot::over_time("Bursts", seconds),
    ])
}

/// As it would be typed.
fn run_of(line: &str, seed: u64) -> Result<Run, Failure> {
    let seed = format!("--seed={seed}");
    match parsed(line, &[&seed])? {
        Verb::Run(run) => Ok(*run),
        _ => Err(Failure::new(format!("{line} is no run"))),
    }
}

fn storm_of(line: &str) -> Result<Storm, Failure> {
    match parsed(line, &[])? {
        Verb::Storm(storm) => Ok(storm),
        _ => Err(Failure::new(format!("{line} is no storm"))),
    }
}

fn parsed(line: &str, more: &[&str]) -> Result<Verb, Failure> {
    let words = ["m2key-load"].into_iter().chain(line.split(' '));
    let parsed = Arguments::try_parse_from(words.chain(more.iter().copied()));
    Ok(parsed.map_err(Failure::new)?.verb)
}
