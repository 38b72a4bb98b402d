//! What if all terminals renew their schedules while people pay?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use reader_agent::authority::CallError;
use reader_agent::rotation::Fetch;
use tokio::task::JoinSet;

use super::agent::{Agent, named};
use super::record::Both;

/// After a refusal that names no time.
const PAUSE: Duration = Duration::from_millis(100);

/// What was renewed.
#[derive(Debug, Clone)]
pub struct Renewed {
    /// Microseconds of each whole schedule that came.
    pub took: Histogram<u64>,
    pub refused: BTreeMap<String, u64>,
    pub for_s: f64,
}

/// Renewals that go on until this is stopped.
pub struct Renewals {
    workers: JoinSet<()>,
    renewed: Arc<Mutex<Renewed>>,
    since: Instant,
}

impl Default for Renewed {
    fn default() -> Self {
        Self {
            took: Both::default().from_send,
            refused: BTreeMap::new(),
            for_s: 0.0,
        }
    }
}

impl Renewed {
    pub fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.for_s
    }

    pub fn join(&mut self, other: &Self) {
        let joined = self.took.add(&other.took);
        joined.expect("histograms of the same bounds");
        for (why, count) in &other.refused {
            *self.refused.entry(why.clone()).or_default() += count;
        }
        self.for_s += other.for_s;
    }
}

impl Renewals {
    /// Each terminal asks for its whole horizon, one after the other and from the first again, so many at a time.
    pub fn start(agents: Vec<Arc<Agent>>, at_once: usize) -> Self {
        let renewed = Arc::<Mutex<Renewed>>::default();
        let (agents, next) = (Arc::new(agents), Arc::new(AtomicUsize::new(0)));
        let mut workers = JoinSet::new();
        for _ in 0..at_once.min(agents.len()) {
            let (agents, next, renewed) = (agents.clone(), next.clone(), renewed.clone());
            workers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) % agents.len();
                    renew(&agents[number], &renewed).await;
                }
            });
        }
        Self {
            workers,
            renewed,
            since: Instant::now(),
        }
    }

    pub async fn stop(mut self) -> Renewed {
        self.workers.shutdown().await;
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.for_s = self.since.elapsed().as_secs_f64();
        renewed.clone()
    }
}

async fn renew(agent: &Agent, renewed: &Mutex<Renewed>) {
    let sent = Instant::now();
    let answer = agent.client().schedule(Fetch::Whole).await;
    let took = sent.elapsed();
    note(
        renewed,
        &answer.as_ref().map(|_| took).map_err(Clone::clone),
    );
    if let Err(error) = answer {
        let wait_ms = u64::try_from(error.retry_after_ms()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(wait_ms).max(PAUSE)).await;
    }
}

fn note(renewed: &Mutex<Renewed>, answer: &Result<Duration, CallError>) {
    let mut renewed = renewed.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(took) => renewed.took.saturating_record(took.as_micros() as u64),
        Err(error) => *renewed.refused.entry(named(error)).or_default() += 1,
    }
}
