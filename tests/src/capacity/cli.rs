//! What does a bank type to put its own numbers in?

use std::fmt::Write as _;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::costs;
use super::fleet::{self, Fleet};
use super::hsm::{self, Hsm};
use super::page::{self, Place};
use super::plan::{self, Machines};
use super::scenarios::{self, Scenario};
use super::work::Phones;

/// What a fleet of terminals needs: HSMs, nodes, database, disk and wire.
///
/// Every number that is not given is the one of docs/CAPACITY.md.
#[derive(Debug, Parser)]
#[command(name = "m2key-capacity")]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What to buy, by arithmetic and queueing theory
    Plan(Bank),
    /// The busiest hour of one node of that plan, event by event
    Simulate(Simulate),
    /// What the database grows by, and what is left of it with retention
    Growth(Bank),
    /// The tables of docs/CAPACITY.md and docs/DATA_MODEL.md
    Page {
        /// Write them there
        #[arg(long)]
        write: bool,
    },
}

#[derive(Debug, Args)]
pub struct Simulate {
    #[command(flatten)]
    pub bank: Bank,
    /// What happens
    #[arg(long, value_enum, default_value = "lunch")]
    pub scenario: What,
    /// The same number is the same hour
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long, in seconds of virtual time
    #[arg(long, default_value_t = 300.0)]
    pub span_s: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum What {
    Lunch,
    HalfRate,
    Restart,
    RestartWithDoor,
}

/// A bank's own numbers.
#[derive(Debug, Args)]
pub struct Bank {
    /// How many terminals
    #[arg(long, default_value_t = 100_000.0)]
    pub terminals: f64,
    /// Payments of a terminal in a day
    #[arg(long, default_value_t = costs::PAYMENTS_A_DAY.value)]
    pub payments: f64,
    /// The busiest hour beside the mean of the day; at most 24
    #[arg(long, default_value_t = costs::PEAK.value)]
    pub peak: f64,
    /// Share of payments by a link that a tag signed
    #[arg(long, default_value_t = costs::TAPS.value)]
    pub taps: f64,
    /// Share of terminals with a tag
    #[arg(long, default_value_t = costs::TAGS.value)]
    pub tags: f64,
    /// Hours that a schedule reaches ahead
    #[arg(long, default_value_t = costs::HORIZON_H.value)]
    pub horizon_h: f64,
    /// Hours between two renewals of a schedule; without it as agents do, a quarter of those it reaches, six at most
    #[arg(long)]
    pub renewal_h: Option<f64>,
    /// Events of a terminal that are told in one report
    #[arg(long, default_value_t = costs::TOLD_TOGETHER.value)]
    pub told_together: f64,
    #[command(flatten)]
    pub machines: Own,
    /// slow, network or cloud; without it all of them
    #[arg(long)]
    pub hsm: Option<String>,
    /// Commands that the HSM works on at once
    #[arg(long)]
    pub hsm_at_once: Option<f64>,
    /// How long a signature takes there, in milliseconds
    #[arg(long)]
    pub hsm_sign_ms: Option<f64>,
    /// How long an HMAC, an unwrap, a CMAC or a destroy takes there, in milliseconds
    #[arg(long)]
    pub hsm_rest_ms: Option<f64>,
}

/// What the bank's machines do.
#[derive(Debug, Args)]
pub struct Own {
    /// Terminals connected to a node at most
    #[arg(long, default_value_t = costs::CONNECTIONS.value)]
    pub connections: f64,
    /// Memory of a connected terminal
    #[arg(long, default_value_t = costs::CONNECTION_KB.value)]
    pub connection_kb: f64,
    /// Cores of a node
    #[arg(long, default_value_t = costs::NODE_CORES.value)]
    pub node_cores: f64,
    /// Cores of the largest database server there is
    #[arg(long, default_value_t = costs::DATABASE_CORES.value)]
    pub database_cores: f64,
    /// A durable commit, in milliseconds
    #[arg(long, default_value_t = costs::COMMIT_MS.value)]
    pub commit_ms: f64,
    /// How long one write occupies the writer of its node, in milliseconds
    #[arg(long, default_value_t = costs::WRITE_MS.value)]
    pub write_ms: f64,
    /// What one write costs a core of the database, in milliseconds
    #[arg(long, default_value_t = costs::WRITE_CORE_MS.value)]
    pub write_core_ms: f64,
    /// What one read costs a core of the database, in milliseconds
    #[arg(long, default_value_t = costs::READ_CORE_MS.value)]
    pub read_core_ms: f64,
    /// Terminals whose epoch keys a node keeps
    #[arg(long, default_value_t = costs::KEYS_KEPT.value)]
    pub keys_kept: f64,
    /// Reads of a stream's look at its terminal
    #[arg(long, default_value_t = costs::LOOK_READS.value)]
    pub look_reads: f64,
    /// As busy as anything may be in the busiest hour; 1 is all of it
    #[arg(long, default_value_t = costs::BUSY.value)]
    pub busy: f64,
}

/// The text for standard output, or what is wrong with the numbers.
pub fn run(arguments: &Arguments) -> Result<String, String> {
    match &arguments.verb {
        Verb::Plan(bank) => plan(bank),
        Verb::Simulate(simulate) => simulation(simulate),
        Verb::Growth(bank) => Ok(page::years_table(&[bank.fleet()?])),
        Verb::Page { write } => pages(*write),
    }
}

fn plan(bank: &Bank) -> Result<String, String> {
    let (fleet, machines) = ([bank.fleet()?], bank.machines());
    let site = page::site_table(&fleet, &machines);
    let hsms = page::hsm_table(&fleet, &machines, &bank.hsms()?);
    Ok(format!("{site}\n{hsms}"))
}

fn simulation(simulate: &Simulate) -> Result<String, String> {
    let (fleet, machines) = (simulate.bank.fleet()?, simulate.bank.machines());
    let scenario = match simulate.scenario {
        What::Lunch => Scenario::Lunch,
        What::HalfRate => Scenario::HalfRate,
        What::Restart => Scenario::Restart,
        What::RestartWithDoor => Scenario::RestartWithDoor,
    };
    if !(1.0..=86_400.0).contains(&simulate.span_s) {
        return Err("--span-s is out of range".to_owned());
    }
    let site = plan::site(&fleet, &machines);
    let mut text = page::SIMULATION_HEAD.to_owned();
    for hsm in simulate.bank.hsms()? {
        let hsms = plan::hsms(&fleet, &machines, &site, &hsm);
        let plan = (&fleet, &machines, &site);
        let (span_s, seed) = (simulate.span_s, simulate.seed);
        let node = scenarios::node(plan, (&hsm, &hsms), scenario, span_s, seed);
        text += &page::simulation_row(&hsm, &hsms, scenario, &node.run());
    }
    Ok(text)
}

fn pages(write: bool) -> Result<String, String> {
    let mut text = String::new();
    for place in page::places() {
        let Place { file, mark, table } = &place;
        let _ = writeln!(text, "docs/{file}, {mark}\n\n{table}");
        if write {
            page::write(&place).map_err(|error| error.to_string())?;
        }
    }
    Ok(text)
}

impl Bank {
    /// Numbers that no fleet can have are refused.
    fn fleet(&self) -> Result<Fleet, String> {
        let own = &self.machines;
        let above_zero = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let renewal_h = self.renewal_h.unwrap_or(fleet::renewal_h(self.horizon_h));
        let rules = [
            ("--terminals", self.terminals >= 1.0),
            ("--payments", above_zero(self.payments)),
            ("--peak", (1.0..=24.0).contains(&self.peak)),
            ("--taps", share(self.taps)),
            ("--tags", share(self.tags)),
            ("--renewal-h", renewal_h >= 1.0),
            ("--horizon-h", self.horizon_h >= renewal_h),
            ("--told-together", self.told_together >= 1.0),
            ("--busy", share(own.busy) && above_zero(own.busy)),
            ("--connections", above_zero(own.connections)),
            ("--node-cores", above_zero(own.node_cores)),
            ("--database-cores", above_zero(own.database_cores)),
            ("--commit-ms", above_zero(own.commit_ms)),
            ("--write-ms", above_zero(own.write_ms)),
        ];
        if let Some((option, _)) = rules.iter().find(|(_, holds)| !holds) {
            return Err(format!("{option} is out of range"));
        }
        Ok(Fleet {
            terminals: self.terminals,
            payments_a_day: self.payments,
            peak: self.peak,
            taps: self.taps,
            tags: self.tags,
            horizon_h: self.horizon_h,
            renewal_h,
            told_together: self.told_together,
        })
    }

    fn machines(&self) -> Machines {
        let own = &self.machines;
        Machines {
            connections: own.connections,
            connection_kb: own.connection_kb,
            node_cores: own.node_cores,
            database_cores: own.database_cores,
            commit_ms: own.commit_ms,
            write_ms: own.write_ms,
            write_core_ms: own.write_core_ms,
            read_core_ms: own.read_core_ms,
            keys_kept: own.keys_kept,
            phones: Phones::Anywhere,
            look_reads: own.look_reads,
            busy: own.busy,
        }
    }

    /// Those that are asked for, with the bank's own times.
    fn hsms(&self) -> Result<Vec<Hsm>, String> {
        let asked = match &self.hsm {
            None => hsm::ALL.to_vec(),
            Some(name) => vec![Hsm::named(name).ok_or(format!("no HSM is called {name}"))?],
        };
        Ok(asked
            .into_iter()
            .map(|it| self.with_own_times(it))
            .collect())
    }

    fn with_own_times(&self, mut hsm: Hsm) -> Hsm {
        hsm.at_once = self.hsm_at_once.unwrap_or(hsm.at_once).max(1.0);
        hsm.sign_ms = self.hsm_sign_ms.unwrap_or(hsm.sign_ms);
        if let Some(rest_ms) = self.hsm_rest_ms {
            (hsm.hmac_ms, hsm.unwrap_ms) = (rest_ms, rest_ms);
            (hsm.cmac_ms, hsm.destroy_ms) = (rest_ms, rest_ms);
        }
        hsm
    }
}
