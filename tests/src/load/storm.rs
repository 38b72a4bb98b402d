//! What if all terminals of a fleet connect at one moment, as after a power cut?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::agent::{Agent, named};
use super::fleet::Fleet;
use super::options::Storm;
use super::record::{Both, ms};
use super::stage::load_agents;
use super::stopwatch::Stopwatch;
use crate::Failure;

/// What became of it, all rounds together.
#[derive(Debug, Clone)]
pub struct Weathered {
    pub terminals: usize,
    pub rounds: u32,
    /// Microseconds until each terminal had its first state.
    pub up: Histogram<u64>,
    /// When the last of a round was up; none: not within the patience.
    pub all_up: Vec<Option<Duration>>,
    /// When the last of a round had the schedule that it was asked to fetch, too.
    pub all_served: Vec<Duration>,
    /// Tries that came to nothing.
    pub failures: BTreeMap<String, u64>,
}

impl Weathered {
    /// Every terminal was up in every round.
    pub fn holds(&self) -> bool {
        self.all_up.iter().all(Option::is_some)
    }

    pub fn json(&self) -> Value {
        let seconds = |it: &Option<Duration>| it.map(|it| it.as_secs_f64());
        json!({
            "terminals": self.terminals,
            "rounds": self.rounds,
            "up_ms": {
                "p50": ms(self.up.value_at_quantile(0.5)),
                "p99": ms(self.up.value_at_quantile(0.99)),
                "longest": ms(self.up.max()),
            },
            "all_up_s": self.all_up.iter().map(seconds).collect::<Vec<_>>(),
            "all_served_s": self.all_served.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }

    /// One row for people.
    pub fn row(&self) -> String {
        let quantile = |q| ms(self.up.value_at_quantile(q));
        let slowest = self.all_up.iter().flatten().max();
        let slowest = slowest.map_or("never".into(), |it| format!("{:.2}", it.as_secs_f64()));
        let served = self.all_served.iter().max().copied().unwrap_or_default();
        let failures: u64 = self.failures.values().sum();
        format!(
            "| {} | {} | {:.0} | {:.0} | {slowest} | {:.2} | {failures} |\n",
            self.terminals,
            self.rounds,
            quantile(0.5),
            quantile(0.99),
            served.as_secs_f64(),
        )
    }
}

/// The heading of such rows.
pub const HEADING: &str = "| terminals at once | rounds | stream up, ms, p50 | p99 | all up, s, slowest round | with schedule, s | tries that failed |\n\
     |--:|--:|--:|--:|--:|--:|--:|\n";

/// Plays every round.
pub async fn play(fleet: &Fleet, storm: &Storm) -> Result<Weathered, Failure> {
    let mut weathered = Weathered {
        terminals: fleet.terminals.len(),
        rounds: storm.rounds,
        up: Both::default().from_send,
        all_up: Vec::new(),
        all_served: Vec::new(),
        failures: BTreeMap::new(),
    };
    for round in 1..=storm.rounds {
        eprintln!("round {round} of {}", storm.rounds);
        one_round(fleet, storm.patience, &mut weathered).await?;
    }
    Ok(weathered)
}

async fn one_round(
    fleet: &Fleet,
    patience: Duration,
    weathered: &mut Weathered,
) -> Result<(), Failure> {
    // Loaded before the watch counts: reading keys is not connecting.
    let watch = Stopwatch::start();
    let agents = load_agents(fleet, watch)?;
    let failures = Arc::new(Mutex::new(BTreeMap::<String, u64>::new()));
    let mut streams = JoinSet::new();
    let began = watch.now();
    for agent in &agents {
        let failures = failures.clone();
        streams.spawn(agent.clone().listen(move |error| {
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            *failures.entry(named(error)).or_default() += 1;
        }));
    }
    let mut last = Some(Duration::ZERO);
    for agent in &agents {
        let left = (began + patience).saturating_sub(watch.now());
        let up = first_up(agent, left).await;
        let took = up.map(|at| at.saturating_sub(began));
        if let Some(took) = took {
            weathered.up.saturating_record(took.as_micros() as u64);
        }
        last = last.zip(took).map(|(last, took)| last.max(took));
    }
    // What a round asked for is not the next one's load.
    for agent in &agents {
        agent.settled().await;
    }
    weathered.all_served.push(watch.now().saturating_sub(began));
    streams.shutdown().await;
    weathered.all_up.push(last);
    let failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    for (what, count) in failures.iter() {
        *weathered.failures.entry(what.clone()).or_default() += count;
    }
    Ok(())
}

/// When its stream was up first.
async fn first_up(agent: &Agent, limit: Duration) -> Option<Duration> {
    agent
        .until(limit, |heard| heard.up.then_some(heard.up_at))
        .await
}
