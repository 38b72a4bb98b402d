//! What was counted, and how long did each step take?

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency that is told apart; a longer one counts as this.
const LONGEST_US: u64 = 3_600_000_000;
/// Digits that are kept of every value.
const DIGITS: u8 = 3;
/// What went wrong is told this often in words; all of it is counted.
const WRONG_MAX: usize = 20;

/// What a shopper, or the till, waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The till asks for an amount: until the terminal was told to offer it.
    Charge,
    /// The phone opens the link, or the page where a code is typed.
    Resolve,
    /// The token is spent.
    Claim,
    /// Until the answer to the approval.
    Approve,
    /// From the approval until the phone holds a receipt that verifies.
    Receipt,
    /// From the approval until the push said "paid" at the terminal.
    Told,
    /// From the wish to pay until both know it.
    Whole,
}

impl Step {
    pub const ALL: [Self; 7] = [
        Self::Charge,
        Self::Resolve,
        Self::Claim,
        Self::Approve,
        Self::Receipt,
        Self::Told,
        Self::Whole,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Resolve => "resolve",
            Self::Claim => "claim",
            Self::Approve => "approve",
            Self::Receipt => "receipt",
            Self::Told => "told",
            Self::Whole => "whole",
        }
    }
}

/// One thing that worked: when it was due, when the request that worked was sent, when it was done; from the
/// start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lap {
    pub due: Duration,
    pub sent: Duration,
    pub done: Duration,
}

/// The same laps, from the intent and from the last send, in microseconds.
#[derive(Debug, Clone)]
pub struct Both {
    /// With everything that kept the shopper waiting: places taken, refusals, pauses.
    pub from_intent: Histogram<u64>,
    /// Of the request that worked alone.
    pub from_send: Histogram<u64>,
}

/// One second of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    /// Who wanted to pay.
    pub wanted: u64,
    pub paid: u64,
}

/// Everything that was counted in one run.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub steps: BTreeMap<Step, Both>,
    pub seconds: Vec<Second>,
    /// Shoppers who wanted to pay.
    pub wanted: u64,
    pub paid: u64,
    /// Shoppers who went away without having paid, by the last word they got.
    pub refused: BTreeMap<String, u64>,
    /// Of those, at a terminal that hears nothing.
    pub refused_offline: u64,
    /// Every refusal and every failure to reach anybody, also those after which a further try worked.
    pub troubles: BTreeMap<String, u64>,
    /// Were still at it when the run ended.
    pub unfinished: u64,
    /// Wanted to pay and never got in.
    pub never_begun: u64,
    /// What must never happen, in words.
    pub wrong: Vec<String>,
    pub wrong_count: u64,
}

impl Default for Both {
    fn default() -> Self {
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        let empty = || empty().expect("the bounds are constants that fit each other");
        Self {
            from_intent: empty(),
            from_send: empty(),
        }
    }
}

impl Both {
    pub fn add(&mut self, lap: &Lap) {
        self.from_intent
            .saturating_record(us(lap.done.saturating_sub(lap.due)));
        self.from_send
            .saturating_record(us(lap.done.saturating_sub(lap.sent)));
    }

    /// Of two runs that are told as one.
    pub fn join(&mut self, other: &Self) {
        let same = "histograms of the same bounds";
        self.from_intent.add(&other.from_intent).expect(same);
        self.from_send.add(&other.from_send).expect(same);
    }
}

impl Record {
    pub fn lap(&mut self, step: Step, lap: &Lap) {
        self.steps.entry(step).or_default().add(lap);
    }

    pub fn want(&mut self, due: Duration) {
        self.wanted += 1;
        self.second(due).wanted += 1;
    }

    pub fn pay(&mut self, done: Duration) {
        self.paid += 1;
        self.second(done).paid += 1;
    }

    pub fn refuse(&mut self, why: String, heard: bool) {
        *self.refused.entry(why).or_default() += 1;
        self.refused_offline += u64::from(!heard);
    }

    pub fn trouble(&mut self, what: String) {
        *self.troubles.entry(what).or_default() += 1;
    }

    pub fn wrong(&mut self, what: String) {
        self.wrong_count += 1;
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(what);
        }
    }

    /// How many went away without having paid.
    pub fn refused_count(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Another run of the same kind, as if it were part of this one.
    pub fn join(&mut self, other: Self) {
        for (step, both) in &other.steps {
            self.steps.entry(*step).or_default().join(both);
        }
        self.seconds.extend(other.seconds);
        self.wanted += other.wanted;
        self.paid += other.paid;
        for (why, count) in other.refused {
            *self.refused.entry(why).or_default() += count;
        }
        for (what, count) in other.troubles {
            *self.troubles.entry(what).or_default() += count;
        }
        self.refused_offline += other.refused_offline;
        self.unfinished += other.unfinished;
        self.never_begun += other.never_begun;
        self.wrong_count += other.wrong_count;
        self.wrong.extend(other.wrong);
        self.wrong.truncate(WRONG_MAX);
    }

    /// The latency that this share of all payments had at most, in milliseconds; none without payments.
    pub fn whole_ms(&self, quantile: f64) -> Option<f64> {
        let whole = self.steps.get(&Step::Whole)?;
        Some(ms(whole.from_intent.value_at_quantile(quantile)))
    }

    fn second(&mut self, at: Duration) -> &mut Second {
        let place = at.as_secs() as usize;
        if self.seconds.len() <= place {
            self.seconds.resize(place + 1, Second::default());
        }
        &mut self.seconds[place]
    }
}

pub fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

fn us(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(LONGEST_US)
}
