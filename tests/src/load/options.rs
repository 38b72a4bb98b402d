//! What may be asked of the load, and how is it written?

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use protocol::token::Channel;

use super::arrivals::{Curve, Wanted};

/// More of anything than one machine's loopback should be asked to carry.
const TERMINALS_MAX: i64 = 100_000;
const RATE_MAX: f64 = 100_000.0;
const IN_FLIGHT_MAX: u64 = 10_000;

/// Plays a fleet of terminals and its shoppers against an authority, and says how long they wait
///
/// Latency counts from the moment at which a shopper wanted to pay, not from the moment at which this program got
/// to it (coordinated omission; Gil Tene, wrk2). Both figures are shown. At the end the books are checked, and a
/// check that fails is exit code 1.
#[derive(Debug, Parser)]
#[command(name = "m2key-load", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shoppers arrive and pay
    Run(Box<Run>),
    /// All terminals connect at one moment
    Storm(Storm),
    /// Sets up an authority with a fleet, writes fleet.toml and stays up until Ctrl-C
    House(House),
}

/// Which terminals and shoppers.
#[derive(Debug, Clone, Args)]
pub struct Whose {
    /// A fleet that is there, and the authority it belongs to; without it both are made for this run
    #[arg(long, value_name = "FILE", conflicts_with_all = ["terminals", "shoppers"])]
    pub fleet: Option<PathBuf>,
    /// Terminals that are made
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=TERMINALS_MAX))]
    pub terminals: u32,
    /// Shoppers that are made, each with a phone and an account
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=TERMINALS_MAX))]
    pub shoppers: u32,
}

#[derive(Debug, Clone, Args)]
pub struct Run {
    #[command(flatten)]
    pub whose: Whose,
    /// Payments per second that shoppers want, in the mean
    #[arg(long, default_value = "20", value_parser = rate)]
    pub rate: f64,
    /// How long shoppers arrive, e.g. 60s, 5m
    #[arg(long = "for", default_value = "30s", value_parser = duration)]
    pub span: Duration,
    /// How the rate changes over that time
    #[arg(long, value_enum, default_value_t = Curve::Steady)]
    pub arrivals: Curve,
    /// How often each channel is used, in parts
    #[arg(long, default_value = "nfc=6,qr=3,code=1")]
    pub channels: Channels,
    /// Payments whose amount a till says; the others are at the merchant's fixed price
    #[arg(long, default_value = "70%")]
    pub till: Share,
    /// Terminals that hear nothing during the run, and show what their schedule says
    #[arg(long, default_value = "0%")]
    pub offline: Share,
    /// Further tries of each step, after Retry-After where the answer has it
    #[arg(long, default_value_t = 3)]
    pub retries: u32,
    /// Longest pause that a shopper accepts, and longest wait for one answer
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub patience: Duration,
    /// How long a shopper looks before each confirmation, in the mean; not part of any latency
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub think: Duration,
    /// Most payments at one time: who comes then waits, and the wait counts
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=IN_FLIGHT_MAX))]
    pub in_flight: u64,
    /// Most payments in all
    #[arg(long, default_value_t = 1_000_000)]
    pub total: usize,
    /// How long the last payments may take after the last arrival
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub drain: Duration,
    /// Phones keep their connection from one payment to the next
    #[arg(long)]
    pub keep_connections: bool,
    /// All terminals renew their whole schedule, one after the other, as long as shoppers arrive
    #[arg(long)]
    pub renew_all: bool,
    /// How many of them at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=IN_FLIGHT_MAX))]
    pub renewals: u64,
    /// The same number draws the same load again
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Writes everything that was counted as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes the percentiles of every step as HDR histograms (.hgrm)
    #[arg(long, value_name = "DIR")]
    pub hgrm: Option<PathBuf>,
    /// Writes a picture: latency by percentile, payments over time
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct Storm {
    #[command(flatten)]
    pub whose: Whose,
    /// How often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long all of them may take
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    /// Writes what was counted as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct House {
    /// A new folder
    #[arg(long)]
    pub dir: PathBuf,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=TERMINALS_MAX))]
    pub terminals: u32,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=TERMINALS_MAX))]
    pub shoppers: u32,
}

impl Run {
    /// What shoppers want in this run.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            rate: self.rate,
            span: self.span,
            curve: self.arrivals,
            channels: self.channels.clone(),
            till: self.till,
            think: self.think,
            total_max: self.total,
            seed: self.seed,
        }
    }
}

/// Parts of each channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channels([(Channel, u32); 3]);

impl Channels {
    /// The channel at this share of all parts.
    pub fn drawn(&self, share: f64) -> Channel {
        let all: u32 = self.0.iter().map(|(_, parts)| parts).sum();
        let mut left = share * f64::from(all);
        for (channel, parts) in self.0 {
            left -= f64::from(parts);
            if left < 0.0 {
                return channel;
            }
        }
        let used = self.0.iter().rev().find(|(_, parts)| *parts > 0);
        used.map_or(Channel::Qr, |(channel, _)| *channel)
    }
}

impl FromStr for Channels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Channel::ALL.map(|channel| (channel, 0));
        for part in text.split(',') {
            let (name, number) = part.split_once('=').ok_or("e.g. nfc=6,qr=3,code=1")?;
            let known = parts.iter_mut().find(|(it, _)| it.to_string() == name);
            let (_, held) = known.ok_or(format!("{name} is none of nfc, qr, code"))?;
            *held = number
                .parse()
                .ok()
                .filter(|it| *it <= 1_000)
                .ok_or(format!("{number} is not a number of at most 1000"))?;
        }
        let any = parts.iter().any(|(_, number)| *number > 0);
        any.then_some(Self(parts))
            .ok_or("no channel is used at all".into())
    }
}

/// Of all: 0% to 100%.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl Share {
    pub fn of_one(self) -> f64 {
        self.0
    }

    /// So many of these, rounded.
    pub fn of(self, all: usize) -> usize {
        (self.0 * all as f64).round() as usize
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent: Option<f64> = text.strip_suffix('%').and_then(|it| it.parse().ok());
        let percent = percent.filter(|it| (0.0..=100.0).contains(it));
        let percent = percent.ok_or("a share is written 0% to 100%")?;
        Ok(Self(percent / 100.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    let rate = rate.filter(|it| *it > 0.0 && *it <= RATE_MAX);
    rate.ok_or(format!("a rate is above 0 and at most {RATE_MAX}"))
}

/// A number and its unit, at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = "a time is written 500ms, 60s, 5m or 1h, and is at most a day";
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| hint)?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1_000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(hint.into()),
    };
    let in_bounds = (0.0..=86_400.0).contains(&seconds);
    in_bounds
        .then(|| Duration::from_secs_f64(seconds))
        .ok_or(hint.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Run, String> {
        let all = ["m2key-load", "run"].into_iter().chain(line.split(' '));
        match Arguments::try_parse_from(all.filter(|it| !it.is_empty())) {
            Ok(Arguments {
                verb: Verb::Run(run),
            }) => Ok(*run),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_run_is_read_as_it_is_written() {
        let run = parsed(
            "--terminals 200 --rate 50 --for 1.5m --channels qr=1 --offline 5% --retries 2 --seed 9",
        );
        let run = run.unwrap();
        assert_eq!((run.whose.terminals, run.retries, run.seed), (200, 2, 9));
        assert_eq!(run.span, Duration::from_secs(90));
        assert_eq!(run.offline.of(200), 10);
        assert_eq!(run.channels.drawn(0.0), Channel::Qr);
        assert_eq!(run.channels.drawn(0.999), Channel::Qr);
        assert_eq!(run.patience, Duration::from_secs(10));
    }

    #[test]
    fn what_makes_no_load_is_refused_in_words() {
        let refused = [
            ("--rate 0", "above 0"),
            ("--rate nan", "above 0"),
            ("--for 10", "60s"),
            ("--for=-1s", "60s"),
            ("--for 2000h", "at most a day"),
            ("--channels nfc=0,qr=0", "no channel"),
            ("--channels tape=1", "none of nfc, qr, code"),
            ("--channels nfc=many", "not a number"),
            ("--offline 101%", "0% to 100%"),
            ("--offline 5", "0% to 100%"),
            ("--in-flight 0", "1..=10000"),
            ("--fleet a.toml --terminals 5", "cannot be used with"),
        ];
        for (line, words) in refused {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_of_every_verb_is_the_one_in_help_txt() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        command.build();
        let mut all = command.render_long_help().to_string();
        for verb in command.get_subcommands_mut() {
            let help = verb.render_help();
            all += &format!("\n$ m2key-load {} --help\n{help}", verb.get_name());
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/load/help.txt");
        if std::env::var_os("M2KEY_UPDATE").is_some() {
            std::fs::write(path, &all).unwrap();
        }
        let reviewed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            all == reviewed,
            "changed; look at it, then: M2KEY_UPDATE=1 cargo test -p tests --lib options"
        );
    }
}
