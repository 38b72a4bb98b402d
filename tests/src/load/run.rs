//! How is a run played: who goes in when, when does it end, and what is told of it?

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::agent::Agent;
use super::arrivals::{Arrival, Arrivals};
use super::books::{self, Books, Check};
use super::idle::{Idle, Taken};
use super::options::Run;
use super::payment::{End, Payment, Rules, Story};
use super::phone::Phone;
use super::progress::{Counts, Progress};
use super::queue::Queue;
use super::record::{Record, Step};
use super::renewals::{Renewals, Renewed};
use super::stage::Stage;
use crate::Failure;

/// Everything that can be told of one run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub record: Record,
    /// How long it took, from the first arrival allowed to the last end.
    pub took: Duration,
    pub renewed: Option<Renewed>,
    pub checks: Vec<Check>,
    /// Streams that broke or did not come up meanwhile.
    pub streams_lost: u64,
    /// What phones hold, and what is not known.
    pub books: Arc<Books>,
}

impl Outcome {
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// One run in progress.
struct Playing {
    rules: Rules,
    /// When this run began, by the watch of its fleet.
    began: Duration,
    terminals: Arc<Idle<Arc<Agent>>>,
    phones: Arc<Idle<Phone>>,
    record: Mutex<Record>,
    counts: Arc<Counts>,
}

/// Plays the run on this stage and compares the books.
pub async fn play(stage: &Stage, run: &Run) -> Result<Outcome, Failure> {
    let before = books::days(&stage.agents).await?;
    let lost_before = streams_lost(stage);
    let kept = Arc::new(Books::default());
    let what = if run.renew_all { "renewing" } else { "paying" };
    let progress = Progress::start(what, run.span);
    let playing = Arc::new(Playing {
        rules: Rules::new(run, stage.watch, stage.keys.clone(), kept.clone()),
        began: stage.watch.now(),
        terminals: stage.terminals.clone(),
        phones: stage.phones.clone(),
        record: Mutex::default(),
        counts: progress.counts().clone(),
    });
    let at_once = run.renewals as usize;
    let renewals = run
        .renew_all
        .then(|| Renewals::start(stage.online(), at_once));
    drive(&playing, run).await?;
    let took = playing.now();
    let renewed = match renewals {
        Some(renewals) => Some(renewals.stop().await),
        None => None,
    };
    drop(progress);
    let record = playing.record().clone();
    let mut checks = vec![never(&record)];
    kept.settle(&stage.air).await;
    checks.push(match books::days(&stage.agents).await {
        Ok(after) => kept.compare(&before, &after),
        Err(failure) => Books::not_compared(&failure),
    });
    if let Some(config) = &stage.fleet.operator_config {
        checks.extend(books::ask_authority(config));
    }
    Ok(Outcome {
        record,
        took,
        renewed,
        checks,
        streams_lost: streams_lost(stage) - lost_before,
        books: kept,
    })
}

/// Lets shoppers in as they come, until all are through or the time is over.
async fn drive(playing: &Arc<Playing>, run: &Run) -> Result<(), Failure> {
    let arrivals = Arrivals::new(run.wanted());
    let mut queue = Queue::new(arrivals, run.in_flight as usize);
    let mut paying = JoinSet::new();
    let over = run.span + run.drain;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        while let Some(arrival) = queue.poll(playing.now()) {
            playing.went_in(&arrival);
            paying.spawn(playing.clone().one(arrival));
        }
        if queue.is_empty() && paying.is_empty() {
            break;
        }
        let wake = queue.wake_at().unwrap_or(over).min(over);
        tokio::select! {
            () = playing.until(wake) => if playing.now() >= over { break },
            Some(ended) = paying.join_next() => {
                ended.map_err(Failure::of("a payment of this program's"))?;
                queue.ended();
                playing.counts.running.fetch_sub(1, Ordering::Relaxed);
            }
            _ = &mut interrupted => break,
        }
    }
    let never_begun = queue.close(playing.now()) as u64;
    let unfinished = paying.len() as u64;
    paying.shutdown().await;
    let mut record = playing.record();
    record.wanted += never_begun;
    (record.never_begun, record.unfinished) = (never_begun, unfinished);
    Ok(())
}

impl Playing {
    /// Since this run began.
    fn now(&self) -> Duration {
        self.since(self.rules.watch.now())
    }

    fn since(&self, at: Duration) -> Duration {
        at.saturating_sub(self.began)
    }

    async fn until(&self, at: Duration) {
        self.rules.watch.until(self.began + at).await;
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn went_in(&self, arrival: &Arrival) {
        self.record().want(arrival.due);
        self.counts.wanted.fetch_add(1, Ordering::Relaxed);
        self.counts.running.fetch_add(1, Ordering::Relaxed);
    }

    async fn one(self: Arc<Self>, mut arrival: Arrival) {
        arrival.due += self.began;
        let terminal = self.terminals.take(arrival.place).await;
        let mut phone: Taken<Phone> = self.phones.take(arrival.shopper).await;
        let hears = terminal.hear().borrow().up;
        let payment = Payment {
            rules: &self.rules,
            arrival,
            agent: &terminal,
            phone: &mut phone,
            hears,
            story: Story::default(),
        };
        let (story, end) = payment.play().await;
        self.note(story, end, hears);
    }

    fn note(&self, story: Story, end: End, hears: bool) {
        let mut record = self.record();
        for (step, lap) in &story.laps {
            record.lap(*step, lap);
        }
        story.troubles.into_iter().for_each(|it| record.trouble(it));
        story.wrong.into_iter().for_each(|it| record.wrong(it));
        let counted = match end {
            End::Paid(done) => {
                record.pay(self.since(done));
                &self.counts.paid
            }
            End::Refused(why) => {
                record.refuse(why, hears);
                &self.counts.refused
            }
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }
}

fn never(record: &Record) -> Check {
    let receipts = record.steps.get(&Step::Receipt);
    let receipts = receipts.map_or(0, |both| both.from_send.len());
    Check {
        what: "receipts verify, terminals hold the same, nothing is paid twice",
        ok: record.wrong_count == 0,
        seen: match record.wrong_count {
            0 => format!("{receipts} receipts"),
            count => format!("{count} wrong: {}", record.wrong.join("; ")),
        },
    }
}

fn streams_lost(stage: &Stage) -> u64 {
    stage.agents.iter().map(|agent| agent.failures()).sum()
}

/// Several runs as one.
pub fn joined(outcomes: Vec<Outcome>) -> Option<Outcome> {
    outcomes.into_iter().reduce(|mut all, next| {
        all.record.join(next.record);
        all.took += next.took;
        all.streams_lost += next.streams_lost;
        match (&mut all.renewed, next.renewed) {
            (Some(all), Some(next)) => all.join(&next),
            (all, next) => *all = all.take().or(next),
        }
        let mut failed: BTreeMap<_, _> = BTreeMap::new();
        for check in all.checks.into_iter().chain(next.checks) {
            // Of several checks of the same kind the one that failed is told.
            let told = failed.entry(check.what).or_insert_with(|| check.clone());
            if told.ok {
                *told = check;
            }
        }
        all.checks = failed.into_values().collect();
        all
    })
}
